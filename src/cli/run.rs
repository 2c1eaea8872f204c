//! `corten run ID`: creates and starts a container, and stays with it unless `--detach` is given.
//!
//! Ids hold no slash, so `corten run BUNDLE/` is the bundle in that directory under a generated id.

use std::path::PathBuf;

use clap::{Arg, ArgMatches};

use super::{Global, Subcommand, Words, create, exit_code, id, switch, values};
use crate::container::{self, CreateOptions};
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "run",
    about: "create and run a container",
    usage: "<container-id> | <bundle>/",
    description: "Where \"<container-id>\" is your name for the instance of the container that you\n\
                  are starting. The name you provide for the container instance must be unique on\n\
                  your host. With a directory instead (\".\", or a path with a slash), the bundle\n\
                  in it is run under a generated name.\n\n\
                  DESCRIPTION:\n   The run command creates an instance of a container for a bundle. The bundle\n\
                  is a directory with a specification file named \"config.json\" and a root\n\
                  filesystem.\n\n\
                  The specification file includes an args parameter. The args parameter is used\n\
                  to specify command(s) that get run when the container is started. To change the\n\
                  command(s) that get executed on start, edit the args parameter of the spec. See\n\
                  \"corten spec --help\" for more explanation.",
    flags,
    words: Words::Exactly(1),
    failure: Some("corten run failed"),
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    let mut flags = create::flags();
    flags.extend([
        switch("detach", "detach from the container's process").short('d'),
        switch("keep", "do not delete the container after it exits"),
        switch("no-subreaper", "disable the use of the subreaper used to reap reparented processes"),
    ]);
    flags
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let options = CreateOptions {
        detach: matches.get_flag("detach"),
        keep: matches.get_flag("keep"),
        no_subreaper: matches.get_flag("no-subreaper"),
        ..of_id_or_bundle(global, matches)?
    };
    container::run(&options).map(exit_code)
}

/// The shared options; the only word is an id, or a bundle's directory.
pub(super) fn of_id_or_bundle(global: &Global, matches: &ArgMatches) -> Result<CreateOptions> {
    let word = id(matches)?;
    if !word.contains('/') && word != "." && word != ".." {
        return Ok(create::options(global, matches, word));
    }
    if matches.contains_id("bundle") {
        return Err(Error::new(Kind::InvalidArgument, format!("cannot run {word} with --bundle"))
            .because("a bundle is given twice"));
    }
    let bundle = PathBuf::from(word);
    let id = values::generated_id(&bundle);
    Ok(CreateOptions { bundle, ..create::options(global, matches, id) })
}
