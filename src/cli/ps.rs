//! `corten ps ID [PS OPTIONS]`: the processes of a container, as the system's ps(1) shows them.

use std::process::Command;

use clap::{Arg, ArgMatches, value_parser};

use super::{Global, Subcommand, Words, print, value, words};
use crate::container;
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "ps",
    about: "ps displays the processes running inside a container",
    usage: "<container-id> [ps options]",
    description: "Where \"<container-id>\" is the name for the instance of the container and\n\
                  \"[ps options]\" are options of ps(1), \"-ef\" if there are none. They must let it\n\
                  print a column PID.",
    flags,
    words: Words::IdAndOptions,
    failure: None,
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    vec![
        value("format", "select one of: table or json (default: \"table\")")
            .short('f')
            .value_parser(value_parser!(String)),
    ]
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let words = words(matches)?;
    let json = match matches.get_one::<String>("format").map(String::as_str) {
        None | Some("table") => false,
        Some("json") => true,
        Some(other) => {
            return Err(Error::new(Kind::InvalidArgument, format!("invalid format option: {other}")));
        }
    };
    let pids = container::processes(&global.root, &words[0])?;
    if json {
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        print(&format!("[{}]\n", pids.join(",")))?;
        return Ok(0);
    }
    let options = if words.len() > 1 { words[1..].to_vec() } else { vec!["-ef".to_owned()] };
    let table = of_ps(&options)?;
    print(&only(&table, &pids)?)?;
    Ok(0)
}

/// What ps(1) prints.
fn of_ps(options: &[String]) -> Result<String> {
    let what = || format!("cannot run ps {}", options.join(" "));
    let output = Command::new("ps").args(options).output().map_err(|e| Error::io(what(), "execve", e))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(Error::new(Kind::Internal, what()).because(format!("{}: {words}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The title and the lines of these processes.
fn only(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|name| name == "PID").ok_or_else(|| {
        Error::new(Kind::InvalidArgument, "couldn't find PID field in ps output").because(title)
    })?;
    let mut text = format!("{title}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_pid() {
        let table =
            "UID   PID  PPID CMD\nroot    1     0 init 7\nroot   17     1 sh 1\n\nroot    7     1 x\n";
        assert_eq!(
            only(table, &[7, 17]).unwrap(),
            "UID   PID  PPID CMD\nroot   17     1 sh 1\nroot    7     1 x\n"
        );
        assert_eq!(only(table, &[]).unwrap(), "UID   PID  PPID CMD\n");
        assert!(only("CMD\nsh\n", &[1]).unwrap_err().to_string().contains("couldn't find PID field"));
    }
}
