//! `corten create ID`: makes a container up to the point where its program would be executed.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, value_parser};

use super::{Global, Subcommand, Words, id, path, switch, value};
use crate::container::{self, CreateOptions};
use crate::error::Result;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "create",
    about: "create a container",
    usage: "<container-id>",
    description: "Where \"<container-id>\" is your name for the instance of the container that you\n\
                  are starting. The name you provide for the container instance must be unique on\n\
                  your host.\n\n\
                  DESCRIPTION:\n   The create command creates an instance of a container for a bundle. The bundle\n\
                  is a directory with a specification file named \"config.json\" and a root\n\
                  filesystem.\n\n\
                  The specification file includes an args parameter. The args parameter is used\n\
                  to specify command(s) that get run when the container is started. To change the\n\
                  command(s) that get executed on start, edit the args parameter of the spec. See\n\
                  \"corten spec --help\" for more explanation.",
    flags,
    words: Words::Exactly(1),
    failure: Some("corten create failed"),
    failure_code: 1,
    run,
};

/// The flags that `create`, `run` and `plan` share.
pub(super) fn flags() -> Vec<Arg> {
    vec![
        path("bundle", "path to the root of the bundle directory, defaults to the current directory")
            .short('b'),
        path(
            "console-socket",
            "path to an AF_UNIX socket which will receive a file descriptor referencing the master end \
             of the console's pseudoterminal",
        ),
        path(
            "pidfd-socket",
            "path to an AF_UNIX socket which will receive a file descriptor referencing the init process",
        ),
        path("pid-file", "specify the file to write the process id to"),
        switch(
            "no-pivot",
            "do not use pivot root to jail process inside rootfs.  This should be used whenever the rootfs \
             is on top of a ramdisk",
        ),
        switch(
            "no-new-keyring",
            "do not create a new session keyring for the container.  This will cause the container to \
             inherit the calling processes session key",
        ),
        preserve_fds(),
    ]
}

pub(super) fn preserve_fds() -> Arg {
    value(
        "preserve-fds",
        "Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total) (default: 0)",
    )
    .value_parser(value_parser!(u32))
}

/// The options that the shared flags say, for the container `id`.
pub(super) fn options(global: &Global, matches: &ArgMatches, id: String) -> CreateOptions {
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    CreateOptions {
        root: global.root.clone(),
        id,
        bundle: path("bundle").unwrap_or_else(|| ".".into()),
        pid_file: path("pid-file"),
        console_socket: path("console-socket"),
        pidfd_socket: path("pidfd-socket"),
        no_pivot: matches.get_flag("no-pivot"),
        no_new_keyring: matches.get_flag("no-new-keyring"),
        preserve_fds: matches.get_one("preserve-fds").copied().unwrap_or(0),
        detach: true,
        systemd_cgroup: global.systemd_cgroup,
        rootless: global.rootless,
        debug: global.debug,
        ..CreateOptions::default()
    }
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    container::create(&options(global, matches, id(matches)?))?;
    Ok(0)
}
