//! `corten update ID`: other limits for a container.

use std::io::Read;

use clap::{Arg, ArgMatches, value_parser};
use serde_json::{Value, json};

use super::{Global, Subcommand, Words, id, value, values};
use crate::container;
use crate::error::{Error, Kind, Result};
use crate::spec::{self, Resources};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "update",
    about: "update container resource constraints",
    usage: "<container-id>",
    description: "DESCRIPTION:\n   Changes what is given and nothing else. With --resources, which reads an object\n   \
                  like \"linux.resources\" of config.json, all other flags are ignored.\n\n\
                  EXAMPLE:\n       # echo '{\"memory\": {\"limit\": 67108864}}' | corten update -r - ubuntu01",
    flags,
    words: Words::Exactly(1),
    failure: None,
    failure_code: 1,
    run,
};

/// The flags that say a number: name, place in the resources, text.
const NUMBERS: [(&str, &str, &str); 9] = [
    ("blkio-weight", "/blockIO/weight", "specifies per cgroup weight, range is from 10 to 1000"),
    (
        "cpu-period",
        "/cpu/period",
        "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default",
    ),
    (
        "cpu-quota",
        "/cpu/quota",
        "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period, -1 for no limit",
    ),
    (
        "cpu-burst",
        "/cpu/burst",
        "CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given period",
    ),
    ("cpu-share", "/cpu/shares", "CPU shares (relative weight vs. other containers)"),
    ("cpu-rt-period", "/cpu/realtimePeriod", "CPU realtime period to be used for hardcapping (in usecs)"),
    (
        "cpu-rt-runtime",
        "/cpu/realtimeRuntime",
        "CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period",
    ),
    ("cpu-idle", "/cpu/idle", "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
    ("pids-limit", "/pids/limit", "maximum number of pids allowed in the container, -1 for no limit"),
];

/// Those that say a size.
const SIZES: [(&str, &str, &str); 3] = [
    ("memory", "/memory/limit", "memory limit (in bytes)"),
    ("memory-reservation", "/memory/reservation", "memory reservation or soft_limit (in bytes)"),
    ("memory-swap", "/memory/swap", "total memory usage (memory + swap); set '-1' to enable unlimited swap"),
];

/// Those that say a list.
const LISTS: [(&str, &str, &str); 2] =
    [("cpuset-cpus", "/cpu/cpus", "CPU(s) to use"), ("cpuset-mems", "/cpu/mems", "memory node(s) to use")];

fn flags() -> Vec<Arg> {
    let text = |(name, _, help): &(&'static str, &str, &'static str)| {
        value(name, help).value_parser(value_parser!(String))
    };
    let number = |(name, _, help): &(&'static str, &str, &'static str)| {
        value(name, help).value_parser(value_parser!(i64))
    };
    let size =
        |(name, _, help): &(&'static str, &str, &'static str)| value(name, help).value_parser(values::size);
    let mut flags = vec![
        value(
            "resources",
            "path to the file containing the resources to update or '-' to read from the standard input",
        )
        .short('r')
        .value_parser(value_parser!(String)),
    ];
    flags.extend(NUMBERS.iter().map(number));
    flags.extend(SIZES.iter().map(size));
    flags.extend(LISTS.iter().map(text));
    flags.extend([
        value("kernel-memory", "(obsolete; no kernel has this limit any more)")
            .value_parser(value_parser!(String)),
        value("kernel-memory-tcp", "(obsolete; no kernel has this limit any more)")
            .value_parser(value_parser!(String)),
        value("l3-cache-schema", "the string of Intel RDT/CAT L3 cache schema")
            .value_parser(value_parser!(String)),
        value("mem-bw-schema", "the string of Intel RDT/MBA memory bandwidth schema")
            .value_parser(value_parser!(String)),
    ]);
    flags
}

fn run(global: &Global, matches: &ArgMatches) -> Result<u8> {
    container::update(&global.root, &id(matches)?, &resources(matches)?)?;
    Ok(0)
}

fn resources(matches: &ArgMatches) -> Result<Resources> {
    if let Some(path) = matches.get_one::<String>("resources").filter(|path| !path.is_empty()) {
        return spec::parse(&read(path)?, "resources");
    }
    for (name, what) in [
        ("l3-cache-schema", "Intel RDT/CAT: l3 cache schema"),
        ("mem-bw-schema", "Intel RDT/MBA: memory bandwidth schema"),
    ] {
        if matches.get_one::<String>(name).is_some_and(|schema| !schema.is_empty()) {
            return Err(Error::new(Kind::Unsupported, format!("cannot use --{name}"))
                .because(format!("{what} is not enabled")));
        }
    }
    for name in ["kernel-memory", "kernel-memory-tcp"] {
        if matches.get_one::<String>(name).is_some() {
            tracing::warn!("Setting --{name} is ignored and will be removed");
        }
    }
    let mut document = json!({ "memory": {}, "cpu": {}, "blockIO": {}, "pids": {} });
    let mut set = |pointer: &str, value: Value| {
        let (object, key) = pointer[1..].split_once('/').unwrap_or_default();
        document[object][key] = value;
    };
    for (name, pointer, _) in NUMBERS.iter().chain(&SIZES) {
        if let Some(number) = matches.get_one::<i64>(name) {
            set(pointer, (*number).into());
        }
    }
    for (name, pointer, _) in &LISTS {
        if let Some(list) = matches.get_one::<String>(name) {
            set(pointer, list.as_str().into());
        }
    }
    serde_json::from_value(document)
        .map_err(|e| Error::new(Kind::InvalidArgument, "cannot use the value of a flag").because(e))
}

fn read(path: &str) -> Result<Vec<u8>> {
    let what = || format!("cannot read resources {path}");
    if path != "-" {
        return std::fs::read(path).map_err(|e| Error::io(what(), "open", e));
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|e| Error::io(what(), "read", e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Value> {
        let words = words.iter().chain(&["a"]).map(|word| (*word).into());
        resources(&COMMAND.matches(words)?).map(|resources| json!(resources))
    }

    #[test]
    fn every_flag_has_its_place() {
        let mut words = Vec::new();
        for (name, _, _) in NUMBERS.iter().chain(&SIZES).chain(&LISTS) {
            words.extend([format!("--{name}"), "1".to_owned()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let expected = json!({
            "memory": { "limit": 1, "swap": 1, "reservation": 1 },
            "cpu": { "shares": 1, "quota": 1, "burst": 1, "period": 1, "realtimeRuntime": 1,
                "realtimePeriod": 1, "cpus": "1", "mems": "1", "idle": 1 },
            "blockIO": { "weight": 1 }, "pids": { "limit": 1 },
        });
        assert_eq!(parsed(&words).unwrap(), expected);
        let silence = json!({ "memory": {}, "cpu": {}, "blockIO": {}, "pids": {} });
        assert_eq!(parsed(&["--kernel-memory", "5m"]).unwrap(), silence);
    }

    #[test]
    fn sizes_have_units_and_numbers_a_sign() {
        let memory = parsed(&["--memory", "50M", "--memory-swap=-1", "--cpu-quota", "-1"]).unwrap();
        assert_eq!(memory["memory"], json!({ "limit": 50 << 20, "swap": -1 }));
        assert_eq!(memory["cpu"], json!({ "quota": -1 }));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for words in
            [["--memory", "x"], ["--cpu-period", "-1"], ["--cpu-share", "1k"], ["--blkio-weight", "70000"]]
        {
            assert!(parsed(&words).is_err(), "{words:?}");
        }
        let error = parsed(&["--l3-cache-schema", "L3:0=f"]).unwrap_err().to_string();
        assert!(error.contains("is not enabled"), "{error}");
    }
}
