//! The cgroups of a container, and who makes them.

use std::path::{Path, PathBuf};

use crate::bundle::Bundle;
use crate::container::Container;
use crate::host::{Cgroups, cgroups, read};

/// Where a process is: the directory of its cgroup of this controller, or of the v2 tree.
#[track_caller]
pub fn cgroup_of(pid: &str, controller: &str) -> PathBuf {
    let table = read(format!("/proc/{pid}/cgroup"));
    let line = table.lines().find_map(|l| {
        let (_, rest) = l.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let here = match cgroups() {
            Cgroups::V1 => controllers.split(',').any(|c| c == controller),
            Cgroups::V2 => controllers.is_empty(),
        };
        here.then(|| path.to_owned())
    });
    let path = line.unwrap_or_else(|| panic!("no {controller} in {table}"));
    let top = match cgroups() {
        Cgroups::V1 => format!("/sys/fs/cgroup/{controller}"),
        Cgroups::V2 => "/sys/fs/cgroup".to_owned(),
    };
    Path::new(&top).join(path.trim_start_matches('/'))
}

/// Whether systemd is the init process here.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// A bundle for each way to make cgroups that this machine has: by files, and by systemd.
pub fn bundles() -> impl Iterator<Item = Bundle> {
    let systemd = has_systemd().then(|| Bundle::new().global_flag("--systemd-cgroup"));
    std::iter::once(Bundle::new()).chain(systemd)
}

impl Container {
    /// The directory of init's cgroup of this controller, or of the v2 tree.
    #[track_caller]
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        cgroup_of(&self.pid().to_string(), controller)
    }

    /// What stands in a file of init's cgroup, which has another name on each version; nothing if there
    /// is none.
    #[track_caller]
    pub fn setting(&self, controller: &str, v1: &str, v2: &str) -> Option<String> {
        let file = if cgroups() == Cgroups::V1 { v1 } else { v2 };
        let text = std::fs::read_to_string(self.cgroup(controller).join(file)).ok()?;
        Some(text.trim().to_owned())
    }
}
