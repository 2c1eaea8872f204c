//! Runs inside a container and prints what it sees as one JSON object.
//!
//! `probe [ATTEMPT...]`: every attempt ("write:/proc/sys/kernel/hostname", "mkdir:/x") is made and its
//! outcome printed under "attempts". It must depend on nothing in the container: what cannot be read is
//! null.

mod attempts;
mod kernel;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::{Map, Value, json};

fn main() {
    // First of all: every later open would show up among the descriptors.
    let descriptors = descriptors();
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let status = status();
    let field = |name: &str| status.get(name).cloned().map_or(Value::Null, Value::String);
    let ids = |name: &str| numbers(status.get(name).map_or("", String::as_str));
    let env: Vec<String> = std::env::vars_os()
        .map(|(k, v)| format!("{}={}", k.to_string_lossy(), v.to_string_lossy()))
        .collect();
    let attempts: Map<String, Value> =
        args.iter().skip(1).map(|a| (a.clone(), attempts::attempt(a))).collect();
    let view = json!({
        "args": args,
        "env": env,
        "cwd": std::env::current_dir().ok(),
        "pid": std::process::id(),
        "ppid": std::os::unix::process::parent_id(),
        "uid": ids("Uid"),
        "gid": ids("Gid"),
        "groups": ids("Groups"),
        "umask": field("Umask"),
        "capabilities": {
            "inheritable": field("CapInh"), "permitted": field("CapPrm"), "effective": field("CapEff"),
            "bounding": field("CapBnd"), "ambient": field("CapAmb"),
        },
        "no_new_privs": field("NoNewPrivs"),
        "seccomp": field("Seccomp"),
        "seccomp_filters": field("Seccomp_filters"),
        "cpus": field("Cpus_allowed_list"),
        "signals": { "blocked": field("SigBlk"), "ignored": field("SigIgn") },
        "limits": kernel::limits(),
        "oom_score_adj": line("/proc/self/oom_score_adj"),
        "namespaces": namespaces(),
        "mounts": mounts(),
        "hostname": line("/proc/sys/kernel/hostname"),
        "domainname": line("/proc/sys/kernel/domainname"),
        "fds": descriptors,
        "dev": devices("/dev"),
        "pts": devices("/dev/pts"),
        "tty": kernel::terminals(),
        "personality": line("/proc/self/personality"),
        "scheduler": kernel::scheduler(),
        "memory_policy": line("/proc/self/numa_maps"),
        "cgroup": lines("/proc/self/cgroup"),
        "clocks": kernel::clocks(),
        "timens_offsets": lines("/proc/self/timens_offsets"),
        "keys": lines("/proc/keys"),
        "interfaces": interfaces(),
        "loopback_works": kernel::loopback_works(),
        "uid_map": lines("/proc/self/uid_map"),
        "gid_map": lines("/proc/self/gid_map"),
        "apparmor": line("/proc/self/attr/current"),
        "processes": processes(),
        "attempts": attempts,
    });
    println!("{view}");
}

/// /proc/self/status as a table.
fn status() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let pairs = text.lines().filter_map(|l| l.split_once(':'));
    pairs.map(|(k, v)| (k.to_owned(), v.trim().to_owned())).collect()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|n| n.parse().ok()).collect()
}

/// The first line of a file.
fn line(path: &str) -> Value {
    let text = fs::read_to_string(path).ok();
    text.and_then(|t| t.lines().next().map(str::to_owned)).map_or(Value::Null, Value::String)
}

fn lines(path: &str) -> Value {
    fs::read_to_string(path).map_or(Value::Null, |t| t.lines().map(str::to_owned).collect())
}

/// Every open descriptor with what it refers to, but the one used for looking.
fn descriptors() -> Value {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Value::Null };
    let mut found = Map::new();
    for entry in entries.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        let own = format!("/proc/{}/fd", std::process::id());
        if target != own {
            found.insert(entry.file_name().to_string_lossy().into_owned(), target.into());
        }
    }
    Value::Object(found)
}

fn namespaces() -> Value {
    let mut found = Map::new();
    for entry in fs::read_dir("/proc/self/ns").into_iter().flatten().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        found.insert(entry.file_name().to_string_lossy().into_owned(), target.to_string_lossy().into());
    }
    Value::Object(found)
}

/// /proc/self/mountinfo, see proc_pid_mountinfo(5).
fn mounts() -> Value {
    let Ok(text) = fs::read_to_string("/proc/self/mountinfo") else { return Value::Null };
    let list = |text: &str, separator: char| -> Vec<String> {
        text.split(separator).filter(|s| !s.is_empty()).map(str::to_owned).collect()
    };
    let parse = |line: &str| -> Option<Value> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.splitn(3, ' ').collect();
        Some(json!({
            "id": left.first()?, "parent": left.get(1)?, "device": left.get(2)?, "root": left.get(3)?,
            "dest": left.get(4)?.replace("\\040", " "), "options": list(left.get(5)?, ','),
            "propagation": left.get(6..)?, "type": right.first()?, "source": right.get(1)?,
            "super": list(right.get(2).unwrap_or(&""), ','),
        }))
    };
    text.lines().filter_map(parse).collect()
}

/// What stands in a directory of devices.
fn devices(dir: &str) -> Value {
    let mut found = Map::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        let kind = match meta.file_type() {
            t if t.is_char_device() => "c",
            t if t.is_block_device() => "b",
            t if t.is_fifo() => "p",
            t if t.is_symlink() => "link",
            t if t.is_dir() => "dir",
            t if t.is_file() => "file",
            _ => "other",
        };
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let target = fs::read_link(entry.path()).ok();
        found.insert(
            entry.file_name().to_string_lossy().into_owned(),
            json!({ "kind": kind, "major": major, "minor": minor, "mode": format!("{:o}", meta.mode() & 0o7777),
                    "uid": meta.uid(), "gid": meta.gid(), "target": target }),
        );
    }
    Value::Object(found)
}

fn interfaces() -> Value {
    let text = fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names = text.lines().filter_map(|l| l.split_once(':')).map(|(name, _)| name.trim().to_owned());
    names.collect()
}

/// The pids that /proc shows.
fn processes() -> Value {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_string_lossy().parse::<u64>().ok()).collect()
}
