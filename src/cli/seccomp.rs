//! `corten seccomp explain BUNDLE SYSCALL [ARG...]`: what the bundle's profile does about a syscall.

use std::path::Path;

use clap::{Arg, ArgMatches};

use super::{Global, Subcommand, Words, print, value, words};
use crate::bundle::Bundle;
use crate::error::{Error, Kind, Result};
use crate::seccomp::{Abi, explain, policy};
use crate::spec;

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "seccomp",
    about: "explain what a bundle's seccomp profile does",
    usage: "explain <bundle> <syscall> [argument...]",
    description: "Where \"<bundle>\" is the directory of a bundle, \"<syscall>\" is a name or a number, and\n\
                  each \"[argument]\" is a number, or _ where it is not known.\n\n\
                  DESCRIPTION:\n   The seccomp explain command prints for every architecture of the profile which rule\n\
                  decides about the syscall and what happens: one line, or several where that depends\n\
                  on arguments that are not known; then the first that holds counts.\n\n\
                  EXAMPLE:\n   corten seccomp explain /containers/web clone 0x10000000",
    flags,
    words: Words::Between(3, 9),
    failure: None,
    failure_code: 1,
    run,
};

fn flags() -> Vec<Arg> {
    vec![
        value("arch", "explain for this architecture alone, for e.g. SCMP_ARCH_X86")
            .value_parser(|name: &str| Abi::from_name(name).ok_or("is not a supported seccomp architecture")),
    ]
}

fn run(_: &Global, matches: &ArgMatches) -> Result<u8> {
    let words = words(matches)?;
    let [verb, directory, syscall, args @ ..] = &words[..] else {
        return Err(Error::new(Kind::Internal, "cannot explain a syscall").because("words are missing"));
    };
    let invalid =
        |reason: String| Error::new(Kind::InvalidArgument, "cannot explain a syscall").because(reason);
    if verb != "explain" {
        return Err(invalid(format!("{verb:?} is not a command of seccomp, but explain is")));
    }
    let mut known = [None; 6];
    for (known, arg) in known.iter_mut().zip(args) {
        *known = argument(arg).ok_or_else(|| invalid(format!("{arg:?} is not a number, and not _")))?;
    }
    let bundle = Bundle::read(Path::new(directory))?;
    let Some(profile) = &bundle.spec.linux().seccomp else {
        print("config.json has no seccomp profile: every syscall is allowed\n")?;
        return Ok(0);
    };
    let policy = policy::resolve(profile, Abi::NATIVE).map_err(|problems| {
        let absolute = |problem: spec::Problem| spec::Problem {
            pointer: format!("/linux/seccomp{}", problem.pointer),
            message: problem.message,
        };
        spec::invalid("config.json", &problems.into_iter().map(absolute).collect::<Vec<_>>())
    })?;
    let lines = explain::lines(&policy, syscall, &known, matches.get_one::<Abi>("arch").copied());
    if lines.is_empty() {
        return Err(invalid(format!("there is no syscall {syscall:?} on any architecture of the profile")));
    }
    print(&(lines.join("\n") + "\n"))?;
    Ok(0)
}

/// A number, decimal or hexadecimal; `Some(None)` for `_`.
fn argument(text: &str) -> Option<Option<u64>> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(Some),
        None if text == "_" => Some(None),
        None => text.parse().ok().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbers_or_unknown() {
        assert_eq!(argument("0x7e020000"), Some(Some(0x7e02_0000)));
        assert_eq!(argument("18446744073709551615"), Some(Some(u64::MAX)));
        assert_eq!(argument("_"), Some(None));
        for wrong in ["", "0x", "-1", "1k", "18446744073709551616"] {
            assert_eq!(argument(wrong), None, "{wrong}");
        }
    }
}
