//! The command line: runc's commands, flags, outputs and exit codes, one file per command.
//!
//! A command parses its words into plain options, calls one function of [`crate::container`] and
//! prints what it returns. Nothing is decided about containers here. Only the command that the words
//! name is described to clap, so that `state` does not pay for all of them.
//!
//! Exit codes: 0, or that of the container's process; 255 for a failed `exec`; 3 for an unknown
//! command; 1 for every other failure. The last line on standard error, and in the log, is the whole
//! error.

mod arguments;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod help;
mod kill;
mod list;
mod pause;
mod plan;
mod ps;
mod run;
mod seccomp;
mod spec;
mod start;
mod state;
mod update;
mod values;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::container::{Rootless, store};
use crate::error::{Error, Kind, Result};
use crate::log::{Format, Log};

const COMMANDS: &[&Subcommand] = &[
    &create::COMMAND,
    &delete::COMMAND,
    &events::COMMAND,
    &exec::COMMAND,
    &features::COMMAND,
    &kill::COMMAND,
    &list::COMMAND,
    &pause::PAUSE,
    &plan::COMMAND,
    &ps::COMMAND,
    &pause::RESUME,
    &run::COMMAND,
    &seccomp::COMMAND,
    &spec::COMMAND,
    &start::COMMAND,
    &state::COMMAND,
    &update::COMMAND,
];

/// One command of the command line.
struct Subcommand {
    name: &'static str,
    about: &'static str,
    /// What follows the options: `<container-id>`.
    usage: &'static str,
    /// The paragraphs of its help.
    description: &'static str,
    flags: fn() -> Vec<Arg>,
    words: Words,
    /// Comes before the error's text, as scripts for runc expect.
    failure: Option<&'static str>,
    /// The exit code of a failure behind the command line.
    failure_code: u8,
    run: fn(&Global, &ArgMatches) -> Result<u8>,
}

/// How many words beside its flags a command takes.
#[derive(Debug, Clone, Copy)]
enum Words {
    Exactly(usize),
    Between(usize, usize),
    /// An id, and a command line whose flags are not ours.
    IdAndCommand,
    /// An id, and whatever follows it.
    IdAndOptions,
}

/// The global flags.
#[derive(Debug)]
struct Global {
    root: PathBuf,
    systemd_cgroup: bool,
    rootless: Rootless,
    debug: bool,
}

/// A way out before or instead of a command.
#[derive(Debug)]
enum Exit {
    /// Print this and succeed.
    Print(String),
    /// Fail with this code.
    Fail(u8, Error),
}

impl From<Error> for Exit {
    fn from(error: Error) -> Exit {
        Exit::Fail(1, error)
    }
}

/// Does what the command line (with the program's name first) says.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::host::count_inherited_fds();
    let mut log_file = false;
    match run(words, &mut log_file) {
        Ok(code) => ExitCode::from(code),
        Err(Exit::Print(text)) => match print(&text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(Exit::Fail(code, error)) => {
            tracing::error!("{error}");
            if log_file {
                // A closed standard error is no reason to lose the exit code.
                writeln!(std::io::stderr(), "{error}").ok();
            }
            ExitCode::from(code)
        }
    }
}

fn run(words: impl IntoIterator<Item = OsString>, log_file: &mut bool) -> std::result::Result<u8, Exit> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();

    let definition = command("corten", global_flags());
    let separated = arguments::separate(words, &definition, 0);
    let log = parse(definition.clone(), separated.flags).and_then(|matches| Ok((log(&matches)?, matches)));
    let matches = match log {
        Ok(((log, is_file), matches)) => {
            log.install()?;
            *log_file = is_file;
            matches
        }
        Err(error) => {
            Log::stderr(default_format(), false).install()?;
            return Err(error.into());
        }
    };
    if matches.get_flag("version") {
        return Err(Exit::Print(help::version()));
    }
    let global = Global {
        root: matches.get_one::<PathBuf>("root").cloned().unwrap_or_else(store::default_root),
        systemd_cgroup: matches.get_flag("systemd-cgroup"),
        rootless: matches.get_one("rootless").copied().unwrap_or_default(),
        debug: matches.get_flag("debug"),
    };

    let mut others = separated.others.into_iter();
    let mut name = others.next();
    let mut wants_help = matches.get_flag("help");
    if name.as_ref().is_some_and(|name| name == "help" || name == "h") {
        name = others.next();
        wants_help = true;
    }
    let Some(name) = name else {
        return Err(Exit::Print(help::global(&definition, COMMANDS)));
    };
    let Some(subcommand) = COMMANDS.iter().find(|subcommand| name == subcommand.name) else {
        let topic = format!("No help topic for '{}'", name.display());
        return Err(Exit::Fail(3, Error::new(Kind::InvalidArgument, topic)));
    };
    subcommand.run(&global, others, wants_help, &program)
}

impl Subcommand {
    fn run(
        &self,
        global: &Global,
        words: impl Iterator<Item = OsString>,
        wants_help: bool,
        program: &str,
    ) -> std::result::Result<u8, Exit> {
        let matches = self.matches(words)?;
        if wants_help || matches.get_flag("help") {
            let definition = command(self.name, (self.flags)());
            return Err(Exit::Print(help::subcommand(&definition, self, program)));
        }
        let given = matches.get_raw("words").map_or(0, Iterator::count);
        self.words.check(given, self.name)?;
        (self.run)(global, &matches).map_err(|error| {
            let error = match self.failure {
                Some(failure) => error.during(failure),
                None => error,
            };
            Exit::Fail(self.failure_code, error)
        })
    }

    fn matches(&self, words: impl IntoIterator<Item = OsString>) -> Result<ArgMatches> {
        let definition = command(self.name, (self.flags)());
        let limit = match self.words {
            Words::IdAndOptions => 0,
            Words::IdAndCommand => 1,
            _ => usize::MAX,
        };
        let separated = arguments::separate(words, &definition, limit);
        let mut words = separated.flags;
        words.push("--".into());
        words.extend(separated.others);
        parse(definition.arg(positional()), words)
    }
}

impl Words {
    fn check(self, given: usize, name: &str) -> Result<()> {
        let expected = match self {
            Words::Exactly(count) if given != count => format!("exactly {count}"),
            Words::Between(least, _) if given < least => format!("a minimum of {least}"),
            Words::Between(_, most) if given > most => format!("a maximum of {most}"),
            Words::IdAndCommand | Words::IdAndOptions if given < 1 => "a minimum of 1".to_owned(),
            _ => return Ok(()),
        };
        let text = format!(
            "corten: {name:?} requires {expected} argument(s), got {given} (see 'corten {name} --help')"
        );
        Err(Error::new(Kind::InvalidArgument, text))
    }
}

/// A clap command with our own help, as runc's differs from clap's.
fn command(name: &'static str, flags: Vec<Arg>) -> Command {
    Command::new(name)
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .args(flags)
        .arg(switch("help", "show help").short('h'))
}

fn parse(command: Command, words: Vec<OsString>) -> Result<ArgMatches> {
    command.try_get_matches_from(words).map_err(|e| usage_error(&e))
}

fn usage_error(error: &clap::Error) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg).unwrap_or_default();
    let flag = flag.split([' ', '=']).next().unwrap_or_default();
    let what = match (error.kind(), text(ContextKind::InvalidValue)) {
        (ErrorKind::UnknownArgument, _) => {
            let hint = text(ContextKind::SuggestedArg).map(|flag| format!(" (did you mean {flag}?)"));
            format!("flag provided but not defined: {flag}{}", hint.unwrap_or_default())
        }
        (ErrorKind::InvalidValue, None | Some("")) => format!("flag needs an argument: {flag}"),
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, Some(value)) => {
            let reason = std::error::Error::source(error).map(|source| format!(": {source}"));
            format!("invalid value {value:?} for flag {flag}{}", reason.unwrap_or_default())
        }
        (ErrorKind::TooManyValues, Some(value)) => format!("invalid boolean value {value:?} for flag {flag}"),
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    Error::new(Kind::InvalidArgument, what)
}

fn global_flags() -> Vec<Arg> {
    vec![
        switch("debug", "enable debug logging"),
        path("log", "set the log file to write corten logs to (default is standard error)"),
        value("log-format", "set the log format ('text' (default), or 'json')")
            .value_parser(value_parser!(String)),
        path(
            "root",
            "root directory for storage of container state (this should be located in tmpfs) \
             (default: \"/run/corten\" or \"$XDG_RUNTIME_DIR/corten\" for rootless containers)",
        ),
        switch(
            "systemd-cgroup",
            "enable systemd cgroup support, expects cgroupsPath to be of form \"slice:prefix:name\" \
             for e.g. \"system.slice:corten:434234\"",
        ),
        value("rootless", "ignore cgroup permission errors ('true', 'false', or 'auto') (default: \"auto\")")
            .value_parser(values::rootless),
        switch("version", "print the version").short('v'),
    ]
}

/// The log that the flags ask for, and whether it is a file.
fn log(matches: &ArgMatches) -> Result<(Log, bool)> {
    let debug = matches.get_flag("debug");
    let file = matches.get_one::<PathBuf>("log").filter(|path| *path != Path::new("/dev/stderr"));
    let format = match matches.get_one::<String>("log-format").map(String::as_str) {
        Some("text") => Format::Text,
        Some("json") => Format::Json,
        None if file.is_none() => default_format(),
        None => Format::Text,
        Some(other) => return Err(Error::new(Kind::InvalidArgument, format!("invalid log-format: {other}"))),
    };
    match file {
        Some(path) => Ok((Log::file(path, format, debug)?, true)),
        None => Ok((Log::stderr(format, debug), false)),
    }
}

/// A person reads a terminal; whatever reads a pipe was written for runc.
fn default_format() -> Format {
    if std::io::stderr().is_terminal() { Format::Plain } else { Format::Text }
}

/// Writes `text` to standard output.
///
/// # Errors
/// Nobody reads it, or the disk is full.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|e| Error::io("cannot write to standard output", "write", e))
}

/// A flag without a value.
fn switch(name: &'static str, text: &'static str) -> Arg {
    Arg::new(name).long(name).help(text).action(ArgAction::SetTrue)
}

/// A flag with a value.
fn value(name: &'static str, text: &'static str) -> Arg {
    Arg::new(name).long(name).help(text).action(ArgAction::Set).num_args(1)
}

/// A flag whose value is a path.
fn path(name: &'static str, text: &'static str) -> Arg {
    value(name, text).value_parser(value_parser!(PathBuf))
}

/// All words that are no flags.
fn positional() -> Arg {
    Arg::new("words").num_args(0..).action(ArgAction::Append).value_parser(value_parser!(OsString))
}

/// The words that are no flags; the first is an id in most commands.
///
/// # Errors
/// One is not UTF-8, which no part of a container's configuration can be.
fn words(matches: &ArgMatches) -> Result<Vec<String>> {
    matches
        .get_many::<OsString>("words")
        .unwrap_or_default()
        .map(|word| {
            word.clone().into_string().map_err(|word| {
                Error::new(Kind::InvalidArgument, format!("invalid argument {word:?}")).because("not UTF-8")
            })
        })
        .collect()
}

/// The only word.
fn id(matches: &ArgMatches) -> Result<String> {
    Ok(words(matches)?.into_iter().next().unwrap_or_default())
}

/// A container's exit code as ours. They have eight bits both.
fn exit_code(code: i32) -> u8 {
    code as u8
}

#[cfg(test)]
mod tests;
