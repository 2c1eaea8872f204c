//! `corten plan BUNDLE`: prints what would be done, and does not do it.

use clap::{Arg, ArgMatches};

use super::{Global, Subcommand, Words, create, print, switch, values, words};
use crate::container::{self, CreateOptions};
use crate::error::{Error, Kind, Result};
use crate::plan;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "plan",
    about: "show step by step what creating a container would do",
    usage: "[bundle] || -b bundle <container-id>",
    description: "Where \"[bundle]\" is the directory of a bundle, by default the current one, and\n\
                  \"<container-id>\" is the name that the container would have, by default the bundle's.\n\n\
                  DESCRIPTION:\n   The plan command prints every step that creating and starting a container would take,\n\
                  each with its place in config.json, and takes none of them.",
    flags,
    words: Words::Between(0, 1),
    failure: None,
    failure_code: 1,
    run: show,
};

fn flags() -> Vec<Arg> {
    let mut flags = create::flags();
    flags.push(switch("json", "print the plan as JSON"));
    flags
}

fn show(global: &Global, matches: &ArgMatches) -> Result<u8> {
    let plan = container::plan(&options(global, matches)?)?;
    let text = if matches.get_flag("json") {
        let text = serde_json::to_string_pretty(&plan::json(&plan));
        text.map_err(|e| Error::new(Kind::Internal, "cannot write plan").because(e))? + "\n"
    } else {
        plan::text(&plan)
    };
    print(&text)?;
    Ok(0)
}

fn options(global: &Global, matches: &ArgMatches) -> Result<CreateOptions> {
    let word = words(matches)?.into_iter().next();
    let mut options = create::options(global, matches, String::new());
    match word {
        Some(id) if matches.contains_id("bundle") => options.id = id,
        Some(bundle) => options.bundle = bundle.into(),
        None => {}
    }
    if options.id.is_empty() {
        options.id = values::bundle_name(&options.bundle);
    }
    Ok(options)
}
