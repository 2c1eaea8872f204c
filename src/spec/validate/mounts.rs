//! The rules for `mounts`.

use std::path::{Component, Path};

use super::Report;
use super::linux::mappings;
use crate::spec::{Mount, Spec};

/// What mount(8) knows and the specification wants understood. Anything else is handed to the file system.
const OPTIONS: &[&str] = &[
    "",
    "async",
    "atime",
    "bind",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// What lxcfs emulates. A mount on any other file of a procfs could redirect the runtime's own
/// writes (CVE-2019-16884, CVE-2025-52881).
const INSIDE_PROC: [&str; 10] = [
    "cpuinfo",
    "diskstats",
    "loadavg",
    "meminfo",
    "slabinfo",
    "stat",
    "swaps",
    "sys/crypto/fips_enabled",
    "sys/kernel/ns_last_pid",
    "uptime",
];

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let Some(mounts) = &spec.mounts else { return };
    if !mounts.is_empty() && spec.linux().namespace("mount").is_none() {
        report.add("/mounts", "needs a mount namespace");
    }
    let user_namespace = spec.linux().namespace("user").is_some();
    for (i, one) in mounts.iter().enumerate() {
        mount(&format!("/mounts/{i}"), one, user_namespace, report);
    }
}

fn mount(at: &str, mount: &Mount, user_namespace: bool, report: &mut Report) {
    let options = mount.options().as_deref().unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option == name);
    let kind = mount.typ().as_deref().unwrap_or_default();
    let bind = kind == "bind" || has("bind") || has("rbind");

    destination(at, mount.destination(), kind, bind, report);
    report.text(format_args!("{at}/type"), kind);
    if !bind && !has("remount") {
        if kind.is_empty() {
            report.add(
                format_args!("{at}/type"),
                "is required unless \"bind\" or \"rbind\" is among the options",
            );
        } else if kind == "none" {
            report.add(format_args!("{at}/type"), "\"none\" needs \"bind\" or \"rbind\" among the options");
        }
    }
    let source = mount.source().as_deref().unwrap_or(Path::new("")).to_string_lossy();
    if bind && source.is_empty() {
        report.add(format_args!("{at}/source"), "is required for a bind mount");
    }
    report.text(format_args!("{at}/source"), &source);

    for (j, option) in options.iter().enumerate() {
        self::option(format_args!("{at}/options/{j}"), option, kind, bind, report);
    }
    let (uids, gids) = (mount.uid_mappings().as_deref(), mount.gid_mappings().as_deref());
    let (uids, gids) = (uids.unwrap_or_default(), gids.unwrap_or_default());
    if uids.is_empty() && gids.is_empty() {
        let asked = options.iter().position(|option| option == "idmap" || option == "ridmap");
        if let Some(j) = asked.filter(|_| !user_namespace) {
            report.add(
                format_args!("{at}/options/{j}"),
                format_args!("{:?} needs uidMappings and gidMappings, or a user namespace", options[j]),
            );
        }
        return;
    }
    if uids.is_empty() {
        report.add(format_args!("{at}/uidMappings"), "is required beside gidMappings");
    }
    if gids.is_empty() {
        report.add(format_args!("{at}/gidMappings"), "is required beside uidMappings");
    }
    mappings(format_args!("{at}/uidMappings"), uids, report);
    mappings(format_args!("{at}/gidMappings"), gids, report);
}

fn option(at: std::fmt::Arguments, option: &str, kind: &str, bind: bool, report: &mut Report) {
    report.text(at, option);
    if bind && !OPTIONS.contains(&option) {
        report.add(at, format_args!("{option:?} is for file systems, a bind mount has none of its own"));
    }
    if option == "tmpcopyup" && !matches!(kind, "tmpfs" | "ramfs") {
        report.add(at, format_args!("\"tmpcopyup\" needs the type \"tmpfs\", got {kind:?}"));
    }
}

fn destination(at: &str, path: &Path, kind: &str, bind: bool, report: &mut Report) {
    if path.as_os_str().is_empty() {
        report.add(format_args!("{at}/destination"), "must not be empty");
        return;
    }
    report.text(format_args!("{at}/destination"), &path.to_string_lossy());
    let Some(inside) = below_proc(path) else { return };
    if inside.is_empty() {
        // Whether the source of a bind mount is a procfs is the host's to say.
        if kind != "proc" && !bind {
            report.add(
                format_args!("{at}/destination"),
                format_args!("{kind:?} cannot be mounted on /proc because it is not of type proc"),
            );
        }
    } else if !INSIDE_PROC.contains(&inside.as_str()) {
        report.add(
            format_args!("{at}/destination"),
            format_args!("{:?} cannot be mounted because it is inside /proc", format!("/proc/{inside}")),
        );
    }
}

/// The rest of a path in /proc, as far as the text of the path says it: symbolic links are the
/// root file system's, and are looked at when the mount is made.
fn below_proc(path: &Path) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    (names.first() == Some(&"proc")).then(|| names[1..].join("/"))
}
