//! The container's cgroup: where it is, how it is made, entered, limited, watched, frozen, killed
//! and removed, on v1, hybrid and v2.
//!
//! [`Layout`] says what the machine offers, [`path::place`] turns it and `linux.cgroupsPath` into a
//! [`Cgroup`], and everything else is a method of that value, which is stored in `state.json`.
//! What to write for `linux.resources` is computed without I/O.
//!
//! This module never starts a process and never decides what happens when a cgroup cannot be
//! had: without permission [`Cgroup::create`] fails with the errno, and the caller may go on with
//! [`Cgroup::none`]. It never touches a directory outside the container's cgroup but to create the
//! ancestors, to enable controllers in them and to fill an empty v1 cpuset of theirs.
//!
//! cgroups(7), the kernel's admin-guide/cgroup-v2.rst and admin-guide/cgroup-v1/.

mod create;
mod devices;
mod devices_bpf;
mod file;
mod layout;
mod measure;
mod oom;
pub mod path;
mod processes;
mod remove;
mod restrict;
mod settings;
pub mod stats;
pub mod systemd;
#[cfg(test)]
mod tests;
mod v1;
mod v2;
mod write;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

pub use devices::{Devices, devices};
pub use layout::{Hierarchy, Layout, Version};
pub use oom::{OomEvent, OomWatch};
pub use settings::{Missing, Setting, settings};
pub use stats::Stats;

use crate::error::{Error, Result};

/// The container's cgroup: one directory in each hierarchy. Empty where the container has none.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    dirs: Vec<Dir>,
    /// The systemd unit that the directories belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<systemd::Unit>,
}

/// The container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dir {
    pub version: Version,
    /// As [`Hierarchy::controllers`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<String>,
    pub mountpoint: PathBuf,
    /// Below `mountpoint`, with a leading slash.
    pub path: String,
}

/// Open descriptors through which a process enters the cgroup without `cgroup.procs`, the write to
/// which waits for an RCU grace period (about 10 ms on an idle machine).
#[derive(Debug, Default)]
pub struct Entry {
    /// The v2 (also a hybrid machine's) directory, for `CLONE_INTO_CGROUP`.
    pub into_cgroup: Option<OwnedFd>,
    /// The v1 `tasks` files, write-only: the child writes "0" to each while it is single-threaded.
    pub tasks: Vec<OwnedFd>,
}

impl Cgroup {
    pub(crate) fn new(dirs: impl Iterator<Item = Dir>) -> Cgroup {
        Cgroup { dirs: dirs.collect(), unit: None }
    }

    /// No cgroup at all: the container stays where the runtime is. Every method is then a no-op.
    pub fn none() -> Cgroup {
        Cgroup::default()
    }

    pub fn is_none(&self) -> bool {
        self.dirs.is_empty()
    }

    pub fn dirs(&self) -> &[Dir] {
        &self.dirs
    }

    /// In how many v1 hierarchies it is.
    pub fn v1_dirs(&self) -> usize {
        self.dirs.iter().filter(|dir| dir.version == Version::V1).count()
    }

    /// The directory in the hierarchy that has `controller` (on pure v2: the directory).
    pub fn dir(&self, controller: &str) -> Option<&Dir> {
        let named = |dir: &&Dir| dir.controllers.iter().any(|name| name == controller);
        self.dirs.iter().find(named).or_else(|| if self.is_pure_v2() { self.unified() } else { None })
    }

    /// The directory in the cgroup2 hierarchy, be it the only one or beside v1 hierarchies.
    pub fn unified(&self) -> Option<&Dir> {
        self.dirs.iter().find(|dir| dir.version == Version::V2)
    }

    pub fn is_pure_v2(&self) -> bool {
        !self.dirs.is_empty() && self.dirs.iter().all(|dir| dir.version == Version::V2)
    }

    /// The directory that lists all processes: every one of them entered each hierarchy, but only
    /// cgroup2 tells of changes.
    fn main(&self) -> Option<&Dir> {
        self.unified().or_else(|| self.dir("devices")).or_else(|| self.dirs.first())
    }

    /// The sub-cgroups named by `exec --cgroup`; see [`path::sub`].
    pub fn sub(&self, arguments: &[impl AsRef<str>]) -> Result<Cgroup> {
        path::sub(self, arguments)
    }

    /// Opens what a new process needs to enter the cgroup.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = Entry::default();
        for dir in &self.dirs {
            let cannot = |call: &str, errno| {
                // runc's users match " adding pid " with the kernel's answer after it.
                let what = format!("cannot join cgroup {}: adding pid to cgroups", dir.full_path().display());
                Error::kernel(what, call, errno)
            };
            match dir.version {
                Version::V2 => {
                    let fd = file::open_dir(&dir.full_path()).map_err(|errno| cannot("open", errno))?;
                    entry.into_cgroup = Some(fd);
                }
                Version::V1 => {
                    let tasks = dir.full_path().join("tasks");
                    let fd =
                        file::open(&tasks, OFlag::O_WRONLY).map_err(|errno| cannot("open tasks", errno))?;
                    entry.tasks.push(fd);
                }
            }
        }
        Ok(entry)
    }

    /// Moves an existing process into the cgroup. Slow (see [`Entry`]): only where it cannot enter
    /// by itself.
    pub fn attach(&self, pid: i32) -> Result<()> {
        for dir in &self.dirs {
            let path = dir.full_path();
            let attempt = || file::write(file::open_dir(&path)?, "cgroup.procs", &pid.to_string());
            let mut result = attempt();
            // EINVAL: the process is so new that the scheduler does not know it yet (TASK_NEW).
            for _ in 0..5 {
                if result != Err(Errno::EINVAL) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
                result = attempt();
            }
            if let (Err(Errno::EACCES | Errno::EPERM), Some(unit)) = (result, &self.unit) {
                // From another session the kernel does not let us, but systemd can.
                return unit.attach(pid);
            }
            result.map_err(|errno| {
                let what = format!("cannot join cgroup {}: adding pid {pid} to cgroups", path.display());
                Error::kernel(what, "write cgroup.procs", errno)
            })?;
        }
        Ok(())
    }
}

impl Dir {
    /// The directory in the file system.
    pub fn full_path(&self) -> PathBuf {
        self.mountpoint.join(self.relative())
    }

    /// The path below the mount point, without a leading slash; `.` for the mount point itself.
    fn relative(&self) -> &Path {
        match self.path.trim_matches('/') {
            "" => Path::new("."),
            path => Path::new(path),
        }
    }
}
