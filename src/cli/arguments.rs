//! From the words of the command line to those that clap reads.
//!
//! Engines and scripts were written for runc, whose flags follow Go's rules: one dash is as good as
//! two (`-no-subreaper`), a value follows as the next word whatever it looks like, or after `=`, and
//! switches take `=true` and `=false`. Here flags are brought to the one form `--name=value` and
//! separated from the other words; what they mean stays with clap.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, Command};

use super::values;

/// Words in order, flags apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Each flag with its value as one word, as clap reads them; unknown ones as they stand.
    pub flags: Vec<OsString>,
    pub others: Vec<OsString>,
}

/// Separates the flags of `command` from the rest. From the word that is no flag and has `limit`
/// such words before it, everything is taken as it is.
pub(super) fn separate(words: impl IntoIterator<Item = OsString>, command: &Command, limit: usize) -> Words {
    let mut words = words.into_iter();
    let mut result = Words::default();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            result.others.extend(words);
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            let is_last = result.others.len() == limit;
            result.others.push(word);
            if is_last {
                result.others.extend(words);
                break;
            }
            continue;
        }
        let (name, value) = name_and_value(bytes);
        let Some((long, arg)) = find(command, name) else {
            result.flags.push(if name.len() > 1 { unknown(name, value) } else { word });
            continue;
        };
        let long = OsString::from(format!("--{long}"));
        if arg.get_action().takes_values() {
            match value.map(|value| OsStr::from_bytes(value).to_owned()).or_else(|| words.next()) {
                Some(value) => result.flags.push(joined(&long, &value)),
                None => result.flags.push(long),
            }
        } else {
            match value.map(|value| std::str::from_utf8(value).ok().and_then(values::boolean)) {
                None | Some(Some(true)) => result.flags.push(long),
                Some(Some(false)) => {}
                // clap words the refusal.
                Some(None) => result.flags.push(word),
            }
        }
    }
    result
}

fn name_and_value(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    let name = word.strip_prefix(b"--").unwrap_or(&word[1..]);
    match name.iter().position(|byte| *byte == b'=') {
        Some(equals) => (&name[..equals], Some(&name[equals + 1..])),
        None => (name, None),
    }
}

fn find<'a>(command: &'a Command, name: &[u8]) -> Option<(&'a str, &'a Arg)> {
    command.get_arguments().find_map(|arg| {
        let long = arg.get_long()?;
        let is_short = || arg.get_short().is_some_and(|short| name == short.to_string().as_bytes());
        (long.as_bytes() == name || is_short()).then_some((long, arg))
    })
}

/// An unknown flag, so that clap does not read `-abc` as `-a -b -c`.
fn unknown(name: &[u8], value: Option<&[u8]>) -> OsString {
    let value = value.map(|value| [b"=", value].concat()).unwrap_or_default();
    OsString::from_vec([b"--", name, &value].concat())
}

fn joined(long: &OsStr, value: &OsStr) -> OsString {
    OsString::from_vec([long.as_bytes(), b"=", value.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;

    fn command() -> Command {
        Command::new("x")
            .arg(Arg::new("env").long("env").short('e').action(ArgAction::Append))
            .arg(Arg::new("tty").long("tty").short('t').action(ArgAction::SetTrue))
            .arg(Arg::new("no-pivot").long("no-pivot").action(ArgAction::SetTrue))
    }

    fn check(line: &str, limit: usize, flags: &[&str], others: &[&str]) {
        let words = separate(line.split(' ').map(OsString::from), &command(), limit);
        assert_eq!((words.flags, words.others), (as_words(flags), as_words(others)), "{line}");
    }

    fn as_words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn both_spellings_mean_the_same() {
        check("id -e A=1 --tty x", 9, &["--env=A=1", "--tty"], &["id", "x"]);
        check("--env=A=1 -t=true id", 9, &["--env=A=1", "--tty"], &["id"]);
        check("-env A=1 --t id", 9, &["--env=A=1", "--tty"], &["id"]);
        check("-no-pivot -tty=false id", 9, &["--no-pivot"], &["id"]);
        check("-e --tty -", 9, &["--env=--tty"], &["-"]);
        check("id -- -t", 9, &[], &["id", "-t"]);
    }

    #[test]
    fn words_behind_the_limit_stay() {
        check("-t id -e -x sh -t -- -e", 1, &["--tty", "--env=-x"], &["id", "sh", "-t", "--", "-e"]);
        check("-t create -t", 0, &["--tty"], &["create", "-t"]);
    }

    #[test]
    fn what_is_wrong_stays_for_clap() {
        check("-foo=1 -x --tty=maybe id -e", 9, &["--foo=1", "-x", "--tty=maybe", "--env"], &["id"]);
    }
}
