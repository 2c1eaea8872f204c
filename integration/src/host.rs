//! Facts of this machine that tests depend on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// How the cgroup hierarchies are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// Only v1 controllers, or v1 controllers beside a v2 tree.
    V1,
    /// Only v2.
    V2,
}

/// How the cgroup hierarchies of this machine are mounted.
pub fn cgroups() -> Cgroups {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if v2 { Cgroups::V2 } else { Cgroups::V1 }
}

/// How long a command may take: 30 seconds, times `$TIMEOUT_SCALE` (4 in an emulated machine).
pub fn limit() -> Duration {
    let scale = std::env::var("TIMEOUT_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    Duration::from_secs(30 * scale)
}

/// Whether the kernel is at least this one.
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = read("/proc/sys/kernel/osrelease");
    let mut parts = release.split(['.', '-']).map(|p| p.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
}

/// Whether the kernel knows this file system type.
pub fn kernel_has(filesystem: &str) -> bool {
    read("/proc/filesystems").lines().any(|l| l.split_whitespace().next_back() == Some(filesystem))
}

/// What we, and so the runtime, may do at all: "root" of a sandbox may lack some capabilities.
pub fn own_capabilities() -> u64 {
    let status = read("/proc/self/status");
    let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a hexadecimal mask")
}

/// The content of a file as text; empty if it cannot be read.
pub fn read(path: impl AsRef<Path>) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Every cgroup of every hierarchy whose name holds `needle`, an id that [`crate::unique`] made.
pub fn cgroup_dirs(needle: &str) -> Vec<PathBuf> {
    // Whoever calls it goes on to kill and remove: only names that are ours.
    if !needle.contains(&format!("-{}-", std::process::id())) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if is_cgroup(&entry.path()) && entry.file_name().to_string_lossy().contains(needle) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// Kills what is in the cgroups of this id, and removes them: for tests that end in a panic, and for
/// runtimes that lose containers.
pub(crate) fn sweep_cgroups(id: &str) {
    for dir in cgroup_dirs(id).iter().rev() {
        let pids = read(dir.join("cgroup.procs"));
        let pids = pids.lines().filter_map(|l| l.parse().ok()).filter_map(Pid::from_raw);
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
            if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
                crate::invocation::readable_within(&pidfd, Duration::from_secs(1));
            }
        }
        let _ = std::fs::remove_dir(dir);
    }
}

/// Whether the directory is on a cgroup file system: a runtime that misses a hierarchy may make ordinary
/// directories where it should be.
fn is_cgroup(dir: &Path) -> bool {
    // CGROUP_SUPER_MAGIC and CGROUP2_SUPER_MAGIC of linux/magic.h.
    rustix::fs::statfs(dir).is_ok_and(|fs| fs.f_type == 0x0027_e0eb || fs.f_type == 0x6367_7270)
}

/// Mount points of this mount namespace at or below `dir`.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let prefix = dir.to_string_lossy();
    let inside = |point: &str| point == prefix || point.starts_with(&format!("{prefix}/"));
    let table = read("/proc/self/mountinfo");
    let points = table.lines().filter_map(|l| l.split(' ').nth(4));
    points.filter(|p| inside(p)).map(str::to_owned).collect()
}
