//! The rules for `linux`, except resources, sysctl and memoryPolicy, which have files of their own.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::{Report, escape, one_of, resources, scheduling, sysctl};
use crate::spec::{Device, IntelRdt, Linux, LinuxIdMapping, Personality, Seccomp, Spec};

const NAMESPACES: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

const PROPAGATIONS: [&str; 8] =
    ["private", "rprivate", "rshared", "rslave", "runbindable", "shared", "slave", "unbindable"];

/// user_namespaces(7): the kernel takes so many lines.
const MAPPINGS: usize = 340;

pub(super) fn check(spec: &Spec, report: &mut Report) {
    let linux = spec.linux();
    id_mappings(linux, report);
    sysctl::check(linux, report);
    if let Some(resources) = &linux.resources {
        report.below("/linux/resources", |report| resources::check(resources, report));
    }
    if let Some(path) = &linux.cgroups_path {
        cgroups_path(path, report);
    }
    namespaces(linux, report);
    for (i, one) in linux.devices.iter().flatten().enumerate() {
        device(&format!("/linux/devices/{i}"), one, report);
    }
    net_devices(linux, report);
    if let Some(seccomp) = &linux.seccomp {
        listener(seccomp, report);
    }
    if let Some(propagation) = linux.rootfs_propagation.as_deref().filter(|text| !text.is_empty())
        && !PROPAGATIONS.contains(&propagation)
    {
        report
            .add("/linux/rootfsPropagation", format_args!("{}, got {propagation:?}", one_of(&PROPAGATIONS)));
    }
    for (name, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        for (i, path) in paths.iter().flatten().enumerate() {
            report.absolute(format_args!("/linux/{name}/{i}"), path);
        }
    }
    if let Some(label) = &linux.mount_label {
        mount_label(label, report);
    }
    if let Some(rdt) = &linux.intel_rdt {
        intel_rdt(rdt, report);
    }
    if let Some(policy) = &linux.memory_policy {
        scheduling::memory_policy(policy, report);
    }
    if let Some(personality) = &linux.personality {
        self::personality(personality, report);
    }
    time_offsets(linux, report);
    without_mount_namespace(spec, report);
}

fn id_mappings(linux: &Linux, report: &mut Report) {
    let namespace = linux.namespace("user");
    for (name, list) in [("uidMappings", &linux.uid_mappings), ("gidMappings", &linux.gid_mappings)] {
        let list = list.as_deref().unwrap_or_default();
        match namespace {
            None if !list.is_empty() => report.add(format_args!("/linux/{name}"), "needs a user namespace"),
            // containerd and CRI-O write both a path and its mappings; that they agree is the host's to say.
            Some(user) if list.is_empty() && user.joined().is_none() => {
                report.add(format_args!("/linux/{name}"), "is required for a new user namespace");
            }
            _ => {}
        }
        mappings(format_args!("/linux/{name}"), list, report);
    }
}

/// The lines of a uid_map, gid_map or of the user namespace of an id-mapped mount.
pub(super) fn mappings(at: impl Display, mappings: &[LinuxIdMapping], report: &mut Report) {
    if mappings.len() > MAPPINGS {
        report.add(&at, format_args!("must have at most {MAPPINGS} entries, got {}", mappings.len()));
        return;
    }
    for (i, mapping) in mappings.iter().enumerate() {
        let size = mapping.size();
        if size == 0 {
            report.add(format_args!("{at}/{i}/size"), "must be greater than 0");
            continue;
        }
        for (name, first) in [("containerID", mapping.container_id()), ("hostID", mapping.host_id())] {
            // The id 4294967295 means "no change" to system calls and cannot be mapped.
            if first.checked_add(size).is_none() {
                report.add(
                    format_args!("{at}/{i}/size"),
                    format_args!(
                        "must end at the id 4294967294, but {name} {first} and {size} ids go beyond"
                    ),
                );
            }
        }
        for (j, earlier) in mappings[..i].iter().enumerate() {
            if overlap(earlier.container_id(), earlier.size(), mapping.container_id(), size) {
                report.add(format_args!("{at}/{i}/containerID"), format_args!("overlaps entry {j}"));
            }
            if overlap(earlier.host_id(), earlier.size(), mapping.host_id(), size) {
                report.add(format_args!("{at}/{i}/hostID"), format_args!("overlaps entry {j}"));
            }
        }
    }
}

fn overlap(first: u32, size: u32, other: u32, other_size: u32) -> bool {
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    u64::from(first) < end(other, other_size) && u64::from(other) < end(first, size)
}

/// Both forms: a path below the cgroup mount, and systemd's `slice:prefix:name`.
fn cgroups_path(path: &str, report: &mut Report) {
    if path.split(['/', ':']).any(|name| name == "..") {
        report.add("/linux/cgroupsPath", format_args!("must not contain \"..\", got {path:?}"));
    }
    report.line("/linux/cgroupsPath", path);
}

fn namespaces(linux: &Linux, report: &mut Report) {
    let namespaces = linux.namespaces.as_deref().unwrap_or_default();
    for (i, namespace) in namespaces.iter().enumerate() {
        let kind = namespace.kind.as_str();
        if !NAMESPACES.contains(&kind) {
            report.add(
                format_args!("/linux/namespaces/{i}/type"),
                format_args!("{}, got {kind:?}", one_of(&NAMESPACES)),
            );
        } else if namespaces[..i].iter().any(|earlier| earlier.kind == kind) {
            report.add(format_args!("/linux/namespaces/{i}"), format_args!("{kind:?} is listed twice"));
        }
        if let Some(path) = namespace.joined() {
            report.absolute(format_args!("/linux/namespaces/{i}/path"), path);
        }
    }
}

fn device(at: &str, device: &Device, report: &mut Report) {
    report.absolute(format_args!("{at}/path"), &device.path);
    if device.path.split('/').any(|name| name == "..") || device.path.ends_with('/') {
        report.add(
            format_args!("{at}/path"),
            format_args!("must name a file without \"..\", got {:?}", device.path),
        );
    }
    match device.kind.as_str() {
        "p" => {}
        "b" | "c" | "u" => {
            // struct dev_t has 12 and 20 bits for them.
            for (name, number, most) in [("major", device.major, 0xfff), ("minor", device.minor, 0xf_ffff)] {
                match number {
                    None => report.add(format_args!("{at}/{name}"), "is required unless the type is \"p\""),
                    Some(number) if !(0..=most).contains(&number) => {
                        report.add(
                            format_args!("{at}/{name}"),
                            format_args!("must be between 0 and {most}, got {number}"),
                        );
                    }
                    Some(_) => {}
                }
            }
        }
        other => report.add(
            format_args!("{at}/type"),
            format_args!("must be \"b\", \"c\", \"u\" or \"p\", got {other:?}"),
        ),
    }
    // Engines copy stat(2)'s st_mode, whose upper bits repeat the type.
    if let Some(mode) = device.file_mode.filter(|mode| mode & !0o17_7777 != 0) {
        report.add(
            format_args!("{at}/fileMode"),
            format_args!("must be at most 4095 (octal 7777), got {mode}"),
        );
    }
}

fn net_devices(linux: &Linux, report: &mut Report) {
    let Some(devices) = linux.net_devices.as_ref().filter(|devices| !devices.is_empty()) else { return };
    if linux.namespace("network").is_none() {
        report.add("/linux/netDevices", "needs a network namespace");
    }
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for (host, device) in devices {
        let at = format!("/linux/netDevices/{}", escape(host));
        interface(&at, host, report);
        let name = device.name().as_deref().filter(|name| !name.is_empty());
        if let Some(name) = name {
            // A template such as "eth%d" is the kernel's to fill in.
            interface(format_args!("{at}/name"), name, report);
        }
        let name = name.unwrap_or(host);
        if let Some(other) = taken.insert(name, host).filter(|_| !name.contains('%')) {
            let pointer = if device.name().is_some() { format!("{at}/name") } else { at };
            report.add(pointer, format_args!("{name:?} is also the name that {other:?} gets"));
        }
    }
}

/// The kernel's dev_valid_name().
pub(super) fn interface(at: impl Display, name: &str, report: &mut Report) {
    let odd = |c: char| c == '/' || c == ':' || c == '\0' || c.is_ascii_whitespace() || c == '\x0b';
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
        report.add(
            at,
            format_args!(
                "must be an interface name of 1 to 15 bytes without '/', ':' and spaces, got {name:?}"
            ),
        );
    }
}

fn listener(seccomp: &Seccomp, report: &mut Report) {
    let path = seccomp.listener_path.as_deref().unwrap_or_default();
    report.text("/linux/seccomp/listenerPath", path);
    if path.is_empty() && seccomp.listener_metadata.as_ref().is_some_and(|data| !data.is_empty()) {
        report.add("/linux/seccomp/listenerMetadata", "needs listenerPath");
    }
}

/// It becomes `context="LABEL"` among a mount's options.
fn mount_label(label: &str, report: &mut Report) {
    if label.contains('"') {
        report.add("/linux/mountLabel", "must not contain a quotation mark");
    }
    report.line("/linux/mountLabel", label);
}

fn intel_rdt(rdt: &IntelRdt, report: &mut Report) {
    // "/" is the default class, which every process is in.
    if let Some(id) = rdt.clos_id.as_deref().filter(|id| !matches!(*id, "" | "/")) {
        report.name("/linux/intelRdt/closID", id);
    }
    for (i, line) in rdt.schemata.iter().flatten().enumerate() {
        report.line(format_args!("/linux/intelRdt/schemata/{i}"), line);
    }
    // Code and data prioritisation needs two lines in here.
    if let Some(lines) = &rdt.l3_cache_schema {
        report.text("/linux/intelRdt/l3CacheSchema", lines);
    }
    if let Some(line) = &rdt.mem_bw_schema {
        report.line("/linux/intelRdt/memBwSchema", line);
    }
}

fn personality(personality: &Personality, report: &mut Report) {
    if !matches!(personality.domain.as_str(), "LINUX" | "LINUX32") {
        report.add(
            "/linux/personality/domain",
            format_args!("must be \"LINUX\" or \"LINUX32\", got {:?}", personality.domain),
        );
    }
    if personality.flags.as_ref().is_some_and(|flags| !flags.is_empty()) {
        report.add("/linux/personality/flags", "must be empty: the specification defines none");
    }
}

/// time_namespaces(7): the offsets are fixed once the first process is in the namespace.
fn time_offsets(linux: &Linux, report: &mut Report) {
    let Some(offsets) = linux.time_offsets.as_ref().filter(|offsets| !offsets.is_empty()) else { return };
    match linux.namespace("time") {
        None => report.add("/linux/timeOffsets", "needs a time namespace"),
        Some(time) if time.joined().is_some() => {
            report
                .add("/linux/timeOffsets", "needs a new time namespace, the one that is joined has its own");
        }
        Some(_) => {}
    }
    for (clock, offset) in offsets {
        let at = format!("/linux/timeOffsets/{}", escape(clock));
        if !matches!(clock.as_str(), "boottime" | "monotonic") {
            report.add(&at, "must be the offset of \"boottime\" or \"monotonic\"");
        }
        if let Some(nanosecs) = offset.nanosecs().filter(|nanosecs| *nanosecs > 999_999_999) {
            report.add(
                format_args!("{at}/nanosecs"),
                format_args!("must be at most 999999999, got {nanosecs}"),
            );
        }
    }
}

/// What would change the caller's own mounts.
fn without_mount_namespace(spec: &Spec, report: &mut Report) {
    let linux = spec.linux();
    if linux.namespace("mount").is_some() {
        return;
    }
    let list = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let asked = [
        ("/root/readonly", spec.root.as_ref().is_some_and(|root| root.readonly)),
        ("/linux/devices", linux.devices.as_ref().is_some_and(|devices| !devices.is_empty())),
        ("/linux/rootfsPropagation", linux.rootfs_propagation.as_ref().is_some_and(|text| !text.is_empty())),
        ("/linux/maskedPaths", list(&linux.masked_paths)),
        ("/linux/readonlyPaths", list(&linux.readonly_paths)),
    ];
    for (pointer, _) in asked.iter().filter(|(_, asked)| *asked) {
        report.add(pointer, "needs a mount namespace");
    }
}
