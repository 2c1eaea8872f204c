//! `corten state ID`: the container's state as JSON.

use clap::ArgMatches;

use super::{Global, Subcommand, Words, id, print};
use crate::container::store;
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "state",
    about: "output the state of a container",
    usage: "<container-id>",
    description: "Where \"<container-id>\" is your name for the instance of the container.\n\n\
                  DESCRIPTION:\n   The state command outputs current state information for the\n\
                  instance of a container.",
    flags: Vec::new,
    words: Words::Exactly(1),
    failure: None,
    failure_code: 1,
    run,
};

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let entry = store::open(&global.root, &id(matches)?)?;
    let state = entry.state()?;
    let document = state.document(state.status(&entry));
    let text = serde_json::to_string_pretty(&document)
        .map_err(|e| Error::new(Kind::Internal, "cannot write state").because(e))?;
    print(&text)?;
    Ok(0)
}
