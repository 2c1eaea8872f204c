//! `corten features`: what this runtime can do, as JSON.

use clap::ArgMatches;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

use super::{Global, Subcommand, Words, print};
use crate::container;
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "features",
    about: "show the enabled features",
    usage: "",
    description: "DESCRIPTION:\n   The features command prints what the runtime knows and can do, as the runtime\n\
                  specification's features document.",
    flags: Vec::new,
    words: Words::Exactly(0),
    failure: None,
    failure_code: 1,
    run,
};

fn run(_: &Global, _: &ArgMatches) -> Result<u8> {
    let mut text = Vec::new();
    // Indented as runc's.
    let mut json = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    let written = container::features().serialize(&mut json);
    written.map_err(|e| Error::new(Kind::Internal, "cannot write features").because(e))?;
    print(&(String::from_utf8_lossy(&text) + "\n"))?;
    Ok(0)
}
