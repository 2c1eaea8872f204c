//! `corten exec ID COMMAND`: runs another process in a container.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::{Global, Subcommand, Words, create, exit_code, path, switch, value, values, words};
use crate::container::{self, ExecOptions};
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "exec",
    about: "execute new process inside the container",
    usage: "<container-id> <command> [command options]  || -p process.json <container-id>",
    description: "Where \"<container-id>\" is the name for the instance of the container and\n\
                  \"<command>\" is the command to be executed in the container.\n\
                  \"<command>\" can't be empty unless a \"-p\" flag provided.\n\n\
                  EXAMPLE:\nFor example, if the container is configured to run the linux ps command the\n\
                  following will output a list of processes running in the container:\n\n       \
                  # corten exec <container-id> ps",
    flags,
    words: Words::IdAndCommand,
    failure: Some("exec failed"),
    failure_code: 255,
    run,
};

fn flags() -> Vec<Arg> {
    vec![
        path(
            "console-socket",
            "path to an AF_UNIX socket which will receive a file descriptor referencing the master end \
             of the console's pseudoterminal",
        ),
        path(
            "pidfd-socket",
            "path to an AF_UNIX socket which will receive a file descriptor referencing the exec process",
        ),
        text("cwd", "current working directory in the container"),
        list("env", "set environment variables").short('e').value_parser(values::variable),
        switch("tty", "allocate a pseudo-TTY").short('t'),
        value("user", "UID (format: <uid>[:<gid>])").short('u').value_parser(values::user),
        list("additional-gids", "additional gids").short('g').value_parser(values::id),
        path("process", "path to the process.json").short('p'),
        switch("detach", "detach from the container's process").short('d'),
        path("pid-file", "specify the file to write the process id to"),
        text("process-label", "set the asm process label for the process commonly used with selinux"),
        text("apparmor", "set the apparmor profile for the process"),
        switch("no-new-privs", "set the no new privileges value for the process"),
        list("cap", "add a capability to the bounding set for the process")
            .short('c')
            .value_parser(value_parser!(String)),
        create::preserve_fds(),
        list("cgroup", "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>.")
            .value_parser(value_parser!(String)),
        switch("ignore-paused", "allow exec in a paused container"),
    ]
}

fn text(name: &'static str, help: &'static str) -> Arg {
    value(name, help).value_parser(value_parser!(String))
}

/// A flag that may be given more than once.
fn list(name: &'static str, help: &'static str) -> Arg {
    value(name, help).action(ArgAction::Append)
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    container::exec(&options(global, matches)?).map(exit_code)
}

pub(super) fn options(global: &Global, matches: &ArgMatches) -> Result<ExecOptions> {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let list = |name: &str| matches.get_many::<String>(name).unwrap_or_default().cloned().collect();
    let mut words = words(matches)?.into_iter();
    let options = ExecOptions {
        root: global.root.clone(),
        id: words.next().unwrap_or_default(),
        process: path("process"),
        args: words.collect(),
        cwd: text("cwd"),
        env: list("env"),
        tty: matches.get_flag("tty"),
        user: matches.get_one("user").copied(),
        additional_gids: matches.get_many("additional-gids").unwrap_or_default().copied().collect(),
        caps: list("cap"),
        no_new_privs: matches.get_flag("no-new-privs").then_some(true),
        apparmor: text("apparmor"),
        process_label: text("process-label"),
        cgroups: list("cgroup"),
        detach: matches.get_flag("detach"),
        pid_file: path("pid-file"),
        console_socket: path("console-socket"),
        pidfd_socket: path("pidfd-socket"),
        preserve_fds: matches.get_one("preserve-fds").copied().unwrap_or(0),
        ignore_paused: matches.get_flag("ignore-paused"),
        systemd_cgroup: global.systemd_cgroup,
        rootless: global.rootless,
        debug: global.debug,
    };
    let reason = match (&options.process, options.args.is_empty()) {
        (None, true) => "process args cannot be empty",
        (Some(_), false) => "a command and --process exclude each other",
        _ => return Ok(options),
    };
    Err(Error::new(Kind::InvalidArgument, format!("cannot execute in container {}", options.id))
        .because(reason))
}
