//! `corten start ID`: executes the program of a created container.

use clap::ArgMatches;

use super::{Global, Subcommand, Words, id};
use crate::container;
use crate::error::Result;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "start",
    about: "executes the user defined process in a created container",
    usage: "<container-id>",
    description: "Where \"<container-id>\" is your name for the instance of the container that you\n\
                  are starting. The name you provide for the container instance must be unique on\n\
                  your host.\n\n\
                  DESCRIPTION:\n   The start command executes the user defined process in a created container.",
    flags: Vec::new,
    words: Words::Exactly(1),
    failure: None,
    failure_code: 1,
    run,
};

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    container::start(&global.root, &id(matches)?)?;
    Ok(0)
}
