//! Help and version texts. Their first lines are parsed by scripts and engines, so they have runc's
//! form: `NAME:` first, and a version text of `name version`, `commit:` and `spec:` lines.

use clap::{Arg, Command};

use super::Subcommand;
use crate::container::state::OCI_VERSION;

const ABOUT: &str = "corten - Open Container Initiative runtime";

const INTRODUCTION: &str = "\
corten creates and runs containers from bundles, as the Open Container Initiative (OCI)
runtime specification describes them. A bundle is a directory that includes a
configuration named \"config.json\" and a root filesystem.

To run a bundle:

    # corten run [ -b bundle ] <container-id>

\"<container-id>\" is your name for the container; it must be unique on your host. Without
\"-b\" the bundle is the current directory.";

/// What `--version` prints. dockerd reads the word behind "version" and the rest of the "commit:" line.
pub(super) fn version() -> String {
    let commit = option_env!("CORTEN_COMMIT").unwrap_or("unknown");
    format!("corten version {}\ncommit: {commit}\nspec: {OCI_VERSION}\n", env!("CARGO_PKG_VERSION"))
}

/// What `corten --help` prints.
pub(super) fn global(command: &Command, subcommands: &[&Subcommand]) -> String {
    let version = version();
    let version = version.trim_start_matches("corten version ").trim_end();
    let width = subcommands.iter().map(|subcommand| subcommand.name.len()).max().unwrap_or(0);
    let list: String = subcommands
        .iter()
        .map(|subcommand| format!("   {:width$}  {}\n", subcommand.name, subcommand.about))
        .collect();
    format!(
        "NAME:\n   {ABOUT}\n\n{INTRODUCTION}\n\n\
         USAGE:\n   corten [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {version}\n\nCOMMANDS:\n{list}\nGLOBAL OPTIONS:\n{}",
        options(command)
    )
}

/// What `corten COMMAND --help` prints; `program` is the name that corten was called by.
pub(super) fn subcommand(command: &Command, subcommand: &Subcommand, program: &str) -> String {
    let Subcommand { name, about, usage, description, .. } = subcommand;
    let options = options(command);
    format!(
        "NAME:\n   {program} {name} - {about}\n\nUSAGE:\n   {program} {name} [command options] {usage}\n\n\
         {description}\n\nOPTIONS:\n{options}"
    )
}

fn options(command: &Command) -> String {
    let rows: Vec<(String, String)> = command.get_arguments().filter_map(row).collect();
    let width = rows.iter().map(|(flags, _)| flags.len()).max().unwrap_or(0);
    rows.iter().map(|(flags, text)| format!("   {flags:width$}  {text}\n")).collect()
}

fn row(arg: &Arg) -> Option<(String, String)> {
    let value = if arg.get_action().takes_values() { " value" } else { "" };
    let mut flags = format!("--{}{value}", arg.get_long()?);
    if let Some(short) = arg.get_short() {
        flags += &format!(", -{short}{value}");
    }
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    Some((flags, text))
}
