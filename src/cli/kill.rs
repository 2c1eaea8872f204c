//! `corten kill ID [SIGNAL]`: sends a signal to a container's init, or to all its processes.

use clap::{Arg, ArgMatches};

use super::{Global, Subcommand, Words, switch, values, words};
use crate::container;
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "kill",
    about: "kill sends the specified signal (default: SIGTERM) to the container's init process",
    usage: "<container-id> [signal]",
    description: "Where \"<container-id>\" is the name for the instance of the container and\n\
                  \"[signal]\" is the signal to be sent to the init process: a number, or a name with\n\
                  or without \"SIG\".\n\n\
                  EXAMPLE:\nFor example, if the container id is \"ubuntu01\" the following will send a \"KILL\"\n\
                  signal to the init process of the \"ubuntu01\" container:\n\n       \
                  # corten kill ubuntu01 KILL",
    flags,
    words: Words::Between(1, 2),
    failure: None,
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    vec![switch("all", "send the specified signal to all processes inside the container").short('a')]
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let words = words(matches)?;
    let name = words.get(1).map_or("SIGTERM", String::as_str);
    let signal = values::signal(name).map_err(|e| Error::new(Kind::InvalidArgument, e))?;
    container::kill(&global.root, &words[0], signal, matches.get_flag("all"))?;
    Ok(0)
}
