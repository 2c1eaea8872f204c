//! Making the container's cgroup, and giving it to a user namespace's root.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Uid, UnlinkatFlags, fchownat, unlinkat};

use super::file::{open_dir, open_dir_at, read, write};
use super::{Cgroup, Dir, Version};
use crate::error::{Error, Kind, Result};

const DIRECTORY_MODE: Mode =
    Mode::S_IRWXU.union(Mode::S_IRGRP).union(Mode::S_IXGRP).union(Mode::S_IROTH.union(Mode::S_IXOTH));
/// The controllers that may be enabled below a cgroup with processes (cgroup-v2.rst, "Threads").
const THREADED: [&str; 4] = ["cpu", "cpuset", "perf_event", "pids"];
/// What a cgroup's new owner gets where the kernel has no /sys/kernel/cgroup/delegate (before 4.15).
const DELEGATED: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Creates the cgroup and its missing ancestors in every hierarchy, such that a process can
    /// enter: an empty v1 cpuset is filled from its parent, v2 controllers are enabled in the
    /// ancestors as far as the kernel allows.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the cgroup was there and holds a process or is frozen. `Kernel` if a
    /// directory cannot be made; `errno` is EACCES, EPERM or EROFS without permission. What was
    /// created is removed again, except ancestors.
    pub fn create(&self) -> Result<()> {
        let new = self.create_dirs()?;
        let used = if new.len() < self.dirs.len() { self.check_unused() } else { Ok(()) };
        used.inspect_err(|_| discard(&new))
    }

    /// As [`Cgroup::create`], whoever is in it. Returns the directories that are new.
    pub(super) fn create_dirs(&self) -> Result<Vec<&Dir>> {
        let mut new: Vec<&Dir> = Vec::new();
        for dir in &self.dirs {
            let created = match dir.version {
                Version::V1 => dir.create_v1(),
                Version::V2 => dir.create_v2(),
            };
            match created {
                Ok(true) => new.push(dir),
                Ok(false) => {}
                Err((call, errno)) => {
                    discard(&new);
                    let what = format!("cannot create cgroup {}", dir.full_path().display());
                    return Err(Error::kernel(what, call, errno));
                }
            }
        }
        Ok(new)
    }

    /// Proves that nobody else runs in the cgroup, if it is there.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if it holds a process or is frozen.
    pub fn check_unused(&self) -> Result<()> {
        let taken = |message: String| Err(Error::new(Kind::AlreadyExists, message));
        let path = self.main().map(Dir::full_path).unwrap_or_default();
        let found = self.pids()?.len();
        if found > 0 {
            let message = format!("container's cgroup is not empty: {found} process(es) found");
            return taken(format!("cannot create cgroup {}: {message}", path.display()));
        }
        if self.is_frozen()? {
            let message = "container's cgroup unexpectedly frozen";
            return taken(format!("cannot create cgroup {}: {message}", path.display()));
        }
        Ok(())
    }

    /// Makes `uid` (of the initial user namespace) the owner of the v2 cgroup, so that the
    /// container may create sub-cgroups: the specification's "cgroup ownership". The directory and
    /// the files that the kernel lists in /sys/kernel/cgroup/delegate change hands, nothing else.
    /// v1 cgroups are never delegated.
    pub fn chown(&self, uid: u32) -> Result<()> {
        let Some(dir) = self.unified() else {
            return Ok(());
        };
        let path = dir.full_path();
        let cannot = |errno| {
            Error::kernel(format!("cannot give cgroup {} to user {uid}", path.display()), "fchownat", errno)
        };
        let fd = open_dir(&path).map_err(cannot)?;
        let listed = fs::read_to_string("/sys/kernel/cgroup/delegate");
        for file in listed.as_deref().unwrap_or(DELEGATED).lines().filter(|name| !name.contains('/')) {
            match fchownat(&fd, file, Some(Uid::from_raw(uid)), None, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // The list names the files of every controller.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(cannot(errno)),
            }
        }
        fchownat(&fd, "", Some(Uid::from_raw(uid)), None, AtFlags::AT_EMPTY_PATH).map_err(cannot)
    }
}

/// Removes what was created in vain.
fn discard(dirs: &[&Dir]) {
    for dir in dirs {
        // The failure before is the one to tell; a cgroup without processes can be removed.
        let _ = open_dir(&dir.mountpoint)
            .and_then(|root| unlinkat(root, dir.relative(), UnlinkatFlags::RemoveDir));
    }
}

type Step<T> = std::result::Result<T, (&'static str, Errno)>;

impl Dir {
    /// True if the directory is new.
    fn create_v1(&self) -> Step<bool> {
        let new = match mkdirat(AT_FDCWD, &self.full_path(), DIRECTORY_MODE) {
            Ok(()) => true,
            // There already, an ancestor is missing, or we may not.
            Err(_) => {
                let root = open_dir(&self.mountpoint).map_err(|errno| ("open", errno))?;
                make_with_parents(&root, self.relative())?
            }
        };
        if self.controllers.iter().any(|name| name == "cpuset") {
            let root = open_dir(&self.mountpoint).map_err(|errno| ("open", errno))?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fill_cpuset(&root, self.relative(), file, new).map_err(|errno| (file, errno))?;
            }
        }
        Ok(new)
    }

    fn create_v2(&self) -> Step<bool> {
        let root = open_dir(&self.mountpoint).map_err(|errno| ("open", errno))?;
        let offered = read(&root, "cgroup.controllers").unwrap_or_default();
        let offered: Vec<&str> = offered.split_whitespace().collect();
        let leaf = self.relative();
        let parent = leaf.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if missing(&root, parent, &offered).is_ok_and(|missing| missing.is_empty()) {
            return make(&root, leaf);
        }
        let mut ancestor = PathBuf::from(".");
        enable(&root, &ancestor, &offered);
        for component in parent.components().filter(|component| component.as_os_str() != ".") {
            ancestor.push(component);
            make(&root, &ancestor)?;
            join_threaded(&root, &ancestor);
            enable(&root, &ancestor, &offered);
        }
        let new = make(&root, leaf)?;
        join_threaded(&root, leaf);
        Ok(new)
    }
}

fn make(root: &OwnedFd, path: &Path) -> Step<bool> {
    match mkdirat(root, path, DIRECTORY_MODE) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        // Some file systems check for permission before existence.
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS) if open_dir_at(root, path).is_ok() => Ok(false),
        Err(errno) => Err(("mkdir", errno)),
    }
}

fn make_with_parents(root: &OwnedFd, path: &Path) -> Step<bool> {
    match make(root, path) {
        Err((_, Errno::ENOENT)) => {}
        result => return result,
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_with_parents(root, parent)?;
    }
    make(root, path)
}

/// No process can be in a v1 cpuset without CPUs or memory nodes (ENOSPC), and new ones have none:
/// takes the nearest ancestor's, for every empty cpuset from there down to `path`.
fn fill_cpuset(root: &OwnedFd, path: &Path, file: &str, new: bool) -> nix::Result<String> {
    let own = if new { String::new() } else { read(root, &path.join(file))?.trim().to_owned() };
    if !own.is_empty() || path == Path::new(".") {
        return Ok(own);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inherited = fill_cpuset(root, parent, file, false)?;
    write(root, &path.join(file), &inherited)?;
    Ok(inherited)
}

/// Those of `offered` that children of `path` do not have.
fn missing<'a>(root: &OwnedFd, path: &Path, offered: &[&'a str]) -> nix::Result<Vec<&'a str>> {
    let enabled = read(root, &path.join("cgroup.subtree_control"))?;
    Ok(offered.iter().copied().filter(|name| !enabled.split_whitespace().any(|e| e == *name)).collect())
}

/// Enables for the children of `path` what can be enabled. A controller that cannot is no failure
/// here: whether anybody needs it is known when a setting finds its file missing.
fn enable(root: &OwnedFd, path: &Path, offered: &[&str]) {
    // Reading first: a write, even one that changes nothing, waits for removed cgroups to go away.
    let Ok(missing) = missing(root, path, offered) else {
        return;
    };
    let Ok(dir) = open_dir_at(root, path) else {
        return;
    };
    let attempt = |names: &[&str]| -> nix::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let value: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
        write(dir.as_fd(), "cgroup.subtree_control", &value.join(" "))
    };
    match attempt(&missing) {
        // EBUSY: it has processes of its own. Enabling the threaded controllers alone would work,
        // but turn all its other children into invalid domains.
        Ok(()) | Err(Errno::EBUSY) => {}
        // In a threaded sub-tree no other controllers exist.
        Err(Errno::EOPNOTSUPP) => {
            let threaded: Vec<&str> =
                missing.iter().copied().filter(|name| THREADED.contains(name)).collect();
            // As above: not a failure yet.
            let _ = attempt(&threaded);
        }
        // One controller of several is refused (EINVAL: "cpu" beside real-time processes; ENOENT:
        // not enabled above).
        Err(_) => {
            for name in missing {
                if attempt(&[name]) == Err(Errno::EBUSY) {
                    break;
                }
            }
        }
    }
}

/// A child of a threaded cgroup is an invalid domain, which no process can enter, until it is made
/// threaded too.
fn join_threaded(root: &OwnedFd, path: &Path) {
    if read(root, &path.join("cgroup.type")).is_ok_and(|kind| kind.trim() == "domain invalid")
        && let Ok(dir) = open_dir_at(root, path)
    {
        // If it stays invalid, entering it fails with the kernel's EOPNOTSUPP.
        let _ = write(dir, "cgroup.type", "threaded");
    }
}
