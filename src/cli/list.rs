//! `corten list`: all containers of a state root.

use std::time::Duration;

use clap::{Arg, ArgMatches, value_parser};

use super::{Global, Subcommand, Words, print, switch, value};
use crate::container::state::{State, Status};
use crate::container::store;
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "list",
    about: "lists containers started by corten with the given root",
    usage: "",
    description: "Where the given root is specified via the global option \"--root\"\n\
                  (default: \"/run/corten\").\n\n\
                  EXAMPLE:\nTo list containers created via the default \"--root\":\n       # corten list\n\n\
                  To list containers created using a non-default value for \"--root\":\n       \
                  # corten --root value list",
    flags,
    words: Words::Exactly(0),
    failure: None,
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    vec![
        value("format", "select one of: table or json (default: \"table\")")
            .short('f')
            .value_parser(value_parser!(String)),
        switch("quiet", "display only container IDs").short('q'),
    ]
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let json = match matches.get_one::<String>("format").map(String::as_str) {
        None | Some("table") => false,
        Some("json") => true,
        Some(other) => {
            return Err(Error::new(Kind::InvalidArgument, format!("invalid format option: {other}")));
        }
    };
    let containers = read(global)?;
    let text = if matches.get_flag("quiet") {
        containers.iter().map(|(state, _)| format!("{}\n", state.id)).collect()
    } else if json {
        as_json(&containers)?
    } else {
        as_table(&containers)
    };
    print(&text)?;
    Ok(0)
}

/// All containers that can be read. A damaged one is no reason not to list the others.
fn read(global: &Global) -> Result<Vec<(State, Status)>> {
    let mut containers = Vec::new();
    for id in store::ids(&global.root)? {
        let Ok(entry) = store::open(&global.root, &id) else { continue };
        match entry.state() {
            Ok(state) => {
                let status = state.status(&entry);
                containers.push((state, status));
            }
            // Whoever holds the lock is about to write its state, or to delete it.
            Err(error) if error.kind() == Kind::NotFound && entry.lock(Duration::ZERO).is_err() => {}
            Err(error) => tracing::warn!("load container {id}: {error}"),
        }
    }
    Ok(containers)
}

fn as_json(containers: &[(State, Status)]) -> Result<String> {
    // Go writes an empty list as null, and scripts compare.
    if containers.is_empty() {
        return Ok("null\n".to_owned());
    }
    let users = users();
    let documents: Vec<_> = containers
        .iter()
        .map(|(state, status)| {
            let mut document = state.document(*status);
            document.owner = user_name(&users, state.owner);
            document
        })
        .collect();
    let text = serde_json::to_string(&documents)
        .map_err(|e| Error::new(Kind::Internal, "cannot write list").because(e))?;
    Ok(text + "\n")
}

fn as_table(containers: &[(State, Status)]) -> String {
    let users = users();
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from)];
    rows.extend(containers.iter().map(|(state, status)| {
        let document = state.document(*status);
        [
            document.id.to_owned(),
            document.pid.to_string(),
            status.to_string(),
            document.bundle,
            document.created.to_owned(),
            user_name(&users, state.owner),
        ]
    }));
    table(&rows)
}

/// Columns as Go's tabwriter makes them with a minimal width of 12 and a padding of 3.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (longest + 3).max(12)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 < N { widths[column] } else { 0 };
            text.push_str(&format!("{cell:width$}"));
        }
        text.push('\n');
    }
    text
}

fn users() -> String {
    std::fs::read_to_string("/etc/passwd").unwrap_or_default()
}

/// The name of a user of this machine, or `#UID`.
fn user_name(passwd: &str, uid: u32) -> String {
    let uid = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Rootless;

    #[test]
    fn tables_are_those_of_go() {
        let rows =
            [["ID", "BUNDLE", "OWNER"], ["rt1", "/tmp/clitest/b", "root"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "ID          BUNDLE           OWNER\nrt1         /tmp/clitest/b   root\n");
    }

    #[test]
    fn a_damaged_container_does_not_hide_the_others() {
        let root = std::env::temp_dir().join(format!("corten-list-{}", std::process::id()));
        let global =
            Global { root: root.clone(), systemd_cgroup: false, rootless: Rootless::False, debug: false };
        let (broken, lock) = store::create(&root, "broken").unwrap();
        let (good, _lock) = store::create(&root, "good").unwrap();
        good.write_state(&State { id: "good".into(), ..State::default() }).unwrap();
        let ids = || read(&global).unwrap().into_iter().map(|(state, _)| state.id).collect::<Vec<_>>();
        assert_eq!(ids(), ["good"], "without a state and locked");
        drop(lock);
        assert_eq!(ids(), ["good"], "without a state");
        std::fs::write(broken.path().join("state.json"), "{").unwrap();
        assert_eq!(ids(), ["good"], "with a damaged state");
        assert!(
            as_json(&read(&global).unwrap())
                .unwrap()
                .starts_with(r#"[{"ociVersion":"","id":"good","pid":0,"#)
        );
        assert_eq!(as_json(&[]).unwrap(), "null\n");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn users_have_names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\n1000:x:7:7::/:\n";
        assert_eq!(user_name(passwd, 0), "root");
        assert_eq!(user_name(passwd, 7), "1000");
        assert_eq!(user_name(passwd, 1000), "#1000");
    }
}
