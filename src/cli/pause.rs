//! `corten pause ID` and `corten resume ID`.

use clap::ArgMatches;

use super::{Global, Subcommand, Words, id};
use crate::container;
use crate::error::Result;

pub(super) const PAUSE: Subcommand = Subcommand {
    name: "pause",
    about: "pause suspends all processes inside the container",
    usage: "<container-id>",
    description: "Where \"<container-id>\" is the name for the instance of the container to be\n\
                  paused.\n\n\
                  DESCRIPTION:\n   The pause command suspends all processes in the instance of the container.\n\n   \
                  Use corten list to identify instances of containers and their current status.",
    flags: Vec::new,
    words: Words::Exactly(1),
    failure: None,
    failure_code: 1,
    run: pause,
};

pub(super) const RESUME: Subcommand = Subcommand {
    name: "resume",
    about: "resumes all processes that have been previously paused",
    usage: "<container-id>",
    description: "Where \"<container-id>\" is the name for the instance of the container to be\n\
                  resumed.\n\n\
                  DESCRIPTION:\n   The resume command resumes all processes in the instance of the container.\n\n   \
                  Use corten list to identify instances of containers and their current status.",
    flags: Vec::new,
    words: Words::Exactly(1),
    failure: None,
    failure_code: 1,
    run: resume,
};

fn pause(global: &Global, matches: &ArgMatches) -> Result<u8> {
    container::pause(&global.root, &id(matches)?)?;
    Ok(0)
}

fn resume(global: &Global, matches: &ArgMatches) -> Result<u8> {
    container::resume(&global.root, &id(matches)?)?;
    Ok(0)
}
