//! `corten spec`: writes a configuration to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches};
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::{Global, Subcommand, Words, path, switch};
use crate::error::{Error, Kind, Result};
use crate::spec::Template;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "spec",
    about: "create a new specification file",
    usage: "",
    description: "DESCRIPTION:\n   The spec command creates the new specification file named \"config.json\" for\n\
                  the bundle.\n\n\
                  The spec generated is just a starter file. Editing of the spec is required to\n\
                  achieve desired results. For example, the newly generated spec includes an args\n\
                  parameter that is initially set to call the \"sh\" command when the container is\n\
                  started. Calling \"sh\" may work for an ubuntu container or busybox, but will not\n\
                  work for containers that do not include the \"sh\" program.",
    flags,
    words: Words::Exactly(0),
    failure: None,
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    vec![
        path("bundle", "path to the root of the bundle directory").short('b'),
        switch("rootless", "generate a configuration for a rootless container"),
    ]
}

fn run(_: &Global, matches: &ArgMatches) -> Result<u8> {
    let bundle = matches.get_one::<PathBuf>("bundle").map_or(Path::new("."), PathBuf::as_path);
    let caller = || (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let template = Template {
        rootless: matches.get_flag("rootless").then(caller),
        cgroup_namespace: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
    };
    let mut text = Vec::new();
    template
        .document()
        .serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t")))
        .map_err(|e| Error::new(Kind::Internal, "cannot write config.json").because(e))?;
    write(&bundle.join("config.json"), &text)?;
    Ok(0)
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    let what = || format!("cannot write {}", path.display());
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => {
                Error::new(Kind::AlreadyExists, what()).because("File config.json exists. Remove it first")
            }
            _ => Error::io(what(), "open", e),
        })?;
    file.write_all(text).map_err(|e| Error::io(what(), "write", e))
}
