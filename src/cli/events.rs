//! `corten events ID`: what a container uses, one JSON object in each line.

use std::time::Duration;

use clap::{Arg, ArgMatches};

use super::{Global, Subcommand, Words, id, print, switch, value, values};
use crate::container;
use crate::error::{Error, Kind, Result};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "events",
    about: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    usage: "<container-id>",
    description: "Where \"<container-id>\" is the name for the instance of the container.\n\n\
                  DESCRIPTION:\n   The events command displays information about the container. By default the\n\
                  information is displayed once every 5 seconds. It ends when the container does.",
    flags,
    words: Words::Exactly(1),
    failure: None,
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    vec![
        value("interval", "set the stats collection interval (default: 5s)").value_parser(values::duration),
        switch("stats", "display the container's stats then exit"),
    ]
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let interval = matches.get_one("interval").copied().unwrap_or(Duration::from_secs(5));
    if interval.is_zero() {
        return Err(Error::new(Kind::InvalidArgument, "duration interval must be greater than 0"));
    }
    let interval = (!matches.get_flag("stats")).then_some(interval);
    container::events(&global.root, &id(matches)?, interval, &mut |event| {
        let line = serde_json::to_string(event)
            .map_err(|e| Error::new(Kind::Internal, "cannot write an event").because(e))?;
        print(&(line + "\n"))
    })?;
    Ok(0)
}
