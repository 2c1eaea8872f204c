//! Facts about the machine and about ourselves, read once, so that planning can be pure.
//!
//! Nothing here is decided. A fact that only a rare option needs is read only for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use corten_init::sys::{self, Calls};

use crate::cgroup::Layout;
use crate::error::{Error, Kind, Result};

/// What the plan must know of where it will run.
#[derive(Debug, Clone)]
pub struct Host {
    /// Which system calls work here.
    pub calls: Calls,
    /// Our effective user and group.
    pub uid: u32,
    pub gid: u32,
    /// The capabilities we have, bit n for capability n.
    pub capabilities: u64,
    /// The highest capability the kernel knows.
    pub last_capability: u32,
    /// We are in the initial user namespace.
    pub initial_userns: bool,
    /// The file mode creation mask we were started with.
    pub umask: u32,
    /// The signals we ignore, bit n-1 for signal n: whoever started us may have left us some.
    pub ignored_signals: u64,
    pub apparmor: bool,
    pub selinux: bool,
    pub cgroups: Layout,
    /// Every mounted procfs and sysfs, the deepest first; read only for `--no-pivot`.
    pub kernel_mounts: Vec<PathBuf>,
}

// Numbers of capabilities(7) that decide how we do things.

/// Changing groups, and mapping any of them into a user namespace.
pub const CAP_SETGID: u32 = 6;
/// Mounting, joining namespaces, and much else.
pub const CAP_SYS_ADMIN: u32 = 21;
/// Making device nodes.
pub const CAP_MKNOD: u32 = 27;

/// How many descriptors after stdio we were started with, without a gap.
static INHERITED_FDS: AtomicU32 = AtomicU32::new(0);

/// Counts the descriptors that the caller passed. Called before we open any of our own: what a
/// container gets by `--preserve-fds` must be the caller's and never ours (CVE-2024-21626).
pub fn count_inherited_fds() {
    let is_open = |fd: &u32| sys::fcntl(*fd as i32, libc::F_GETFD, 0).is_ok();
    INHERITED_FDS.store((3..).take_while(is_open).count() as u32, Ordering::Relaxed);
}

/// Proves that the caller did pass `count` descriptors after stdio.
pub fn check_inherited_fds(count: u32) -> Result<()> {
    let inherited = INHERITED_FDS.load(Ordering::Relaxed);
    if count <= inherited {
        return Ok(());
    }
    let what = format!("cannot pass {count} descriptors to the container");
    let missing = inherited + 3;
    Err(Error::new(Kind::InvalidArgument, what)
        .because(format!("please check that fd {missing} is open (--preserve-fds, LISTEN_FDS): unable to stat preserved-fd {missing}")))
}

impl Host {
    /// Reads the facts. `no_pivot`: those that option needs, too.
    pub fn read(no_pivot: bool) -> Result<Host> {
        let status = Status::read()?;
        Ok(Host {
            calls: sys::probe(),
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            capabilities: status.capabilities,
            last_capability: last_capability(),
            initial_userns: initial_userns(),
            umask: status.umask,
            ignored_signals: status.ignored_signals,
            apparmor: std::fs::read("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with(b"Y")),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
            cgroups: Layout::read()?,
            kernel_mounts: if no_pivot { kernel_mounts()? } else { Vec::new() },
        })
    }

    /// Whether we have the capability of this number in our user namespace.
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }

    /// Whether we may do to other namespaces what root may.
    pub fn is_privileged(&self) -> bool {
        self.has(CAP_SYS_ADMIN)
    }

    /// Whether we are an ordinary user, or root of a user namespace only.
    pub fn is_rootless(&self) -> bool {
        self.uid != 0 || !self.initial_userns
    }
}

fn last_capability() -> u32 {
    // The highest that libc and the caps crate know is 40; newer kernels may have more.
    let known = |number: u32| sys::prctl(libc::PR_CAPBSET_READ, u64::from(number)).is_ok();
    let mut last = 40;
    while known(last + 1) {
        last += 1;
    }
    while last > 0 && !known(last) {
        last -= 1;
    }
    last
}

fn initial_userns() -> bool {
    // Only the initial namespace maps everything onto itself; see user_namespaces(7).
    std::fs::read_to_string("/proc/self/uid_map")
        .map_or(true, |map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

/// What /proc/thread-self/status says (proc_pid_status(5)): one file instead of a system call for each.
#[derive(Debug, PartialEq, Eq)]
struct Status {
    capabilities: u64,
    umask: u32,
    ignored_signals: u64,
}

impl Status {
    fn read() -> Result<Status> {
        let what = "cannot read what we are";
        let path = "/proc/thread-self/status";
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(what, &format!("open {path}"), e))?;
        Status::parse(&text)
            .ok_or_else(|| Error::new(Kind::Kernel, what).because(format!("{path} has an unknown form")))
    }

    fn parse(text: &str) -> Option<Status> {
        let field = |name: &str, radix: u32| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), radix).ok()
        };
        Some(Status {
            capabilities: field("CapEff:", 16)?,
            // Linux 4.7; before that a container's mask is the usual one.
            umask: field("Umask:", 8).map_or(0o022, |umask| umask as u32),
            ignored_signals: field("SigIgn:", 16)?,
        })
    }
}

fn kernel_mounts() -> Result<Vec<PathBuf>> {
    let what = "cannot list the host's mounts";
    let mounts = procfs::process::Process::myself()
        .and_then(|process| process.mountinfo())
        .map_err(|cause| Error::new(Kind::Kernel, what).because(cause))?;
    let mut paths: Vec<_> = mounts
        .into_iter()
        .filter(|mount| matches!(mount.fs_type.as_str(), "proc" | "sysfs"))
        .map(|mount| mount.mount_point)
        .collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read() {
        let text = "Name:\tx\nUmask:\t0027\nSigIgn:\t0000000180001000\nCapEff:\t000001fffeffffff\n";
        let status = Status { capabilities: 0x1ff_feff_ffff, umask: 0o027, ignored_signals: 0x1_8000_1000 };
        assert_eq!(Status::parse(text), Some(status));
        assert_eq!(Status::parse("Name:\tx\n"), None);
    }

    #[test]
    fn this_machine_has_facts() {
        let host = Host::read(true).unwrap();
        assert!(host.last_capability >= 37);
        assert!(host.kernel_mounts.iter().any(|path| path == Path::new("/proc")));
    }
}
