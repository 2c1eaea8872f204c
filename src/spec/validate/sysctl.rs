//! The rules for `linux.sysctl`: /proc/sys is only partly namespaced, and what is not belongs to the host.

use super::{Report, escape};
use crate::spec::Linux;

/// The path below /proc/sys of a kernel parameter written with either separator, see sysctl.d(5):
/// the first `.` or `/` of the key is the separator, and the other one stands for itself inside a
/// component. `None` where that is not a path of plain names.
///
/// ```
/// use corten::spec::sysctl_path;
/// assert_eq!(sysctl_path("net.ipv4.conf.eno2/100.rp_filter").unwrap(), "net/ipv4/conf/eno2.100/rp_filter");
/// assert_eq!(sysctl_path("net/ipv4/conf/eno2.100/rp_filter").unwrap(), "net/ipv4/conf/eno2.100/rp_filter");
/// assert_eq!(sysctl_path("net.//.x"), None);
/// ```
pub fn sysctl_path(key: &str) -> Option<String> {
    let swap = key.find(['.', '/']).is_some_and(|first| key.as_bytes()[first] == b'.');
    let path: String = key
        .chars()
        .map(|c| match c {
            '.' if swap => '/',
            '/' if swap => '.',
            c => c,
        })
        .collect();
    let plain = path.split('/').all(|name| !matches!(name, "" | "." | ".."));
    (plain && !path.contains(['\0', '\n'])).then_some(path)
}

/// The System V limits; POSIX queues have a directory of their own.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

pub(super) fn check(linux: &Linux, report: &mut Report) {
    for (key, value) in linux.sysctl.iter().flatten() {
        let at = format_args!("/linux/sysctl/{}", escape(key)).to_string();
        let Some(path) = sysctl_path(key) else {
            report.add(&at, "must be the name of a kernel parameter such as \"net.ipv4.ip_forward\"");
            continue;
        };
        match owner(&path) {
            Some(kind) if linux.namespace(kind).is_none() => {
                let article = if matches!(kind, "ipc") { "an" } else { "a" };
                report.add(&at, format_args!("needs {article} {kind} namespace"));
            }
            Some(_) if path == "kernel/hostname" => report.add(&at, "must be given as the property hostname"),
            Some(_) => {}
            None => report.add(&at, "must be a kernel parameter that belongs to a namespace"),
        }
        // Two lines are two writes to some files: CVE-2022-0811 began with a value like that.
        report.line(&at, value);
    }
}

/// The type of namespace a parameter belongs to; `None`: it is the host's.
fn owner(path: &str) -> Option<&'static str> {
    match path {
        "kernel/domainname" | "kernel/hostname" => Some("uts"),
        _ if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Some("ipc"),
        _ if path.starts_with("net/") => Some("network"),
        _ if path.starts_with("user/") => Some("user"),
        _ => None,
    }
}
