//! `corten delete ID`: deletes what is left of a container.

use clap::{Arg, ArgMatches};

use super::{Global, Subcommand, Words, id, switch};
use crate::container;
use crate::error::Result;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "delete",
    about: "delete any resources held by the container often used with detached container",
    usage: "<container-id>",
    description: "Where \"<container-id>\" is the name for the instance of the container.\n\n\
                  EXAMPLE:\nFor example, if the container id is \"ubuntu01\" and corten list currently shows the\n\
                  status of \"ubuntu01\" as \"stopped\" the following will delete resources held for\n\
                  \"ubuntu01\" removing \"ubuntu01\" from the corten list of containers:\n\n       \
                  # corten delete ubuntu01",
    flags,
    words: Words::Exactly(1),
    failure: None,
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    vec![switch("force", "Forcibly deletes the container if it is still running (uses SIGKILL)").short('f')]
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    container::delete(&global.root, &id(matches)?, matches.get_flag("force"))?;
    Ok(0)
}
