//! Removing the container's cgroup, with the sub-cgroups that were made inside.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::file::{is_gone, open_dir, open_dir_at, wait_event, walk};
use super::{Cgroup, Dir, Version, systemd};
use crate::error::Result;

/// How long killed processes may take to leave the cgroup.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Cgroup {
    /// Removes the cgroup in every hierarchy. What is gone already is no error; ancestors stay.
    ///
    /// The processes must have been killed: a cgroup that stays busy with dying ones is waited for,
    /// within a bound.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        // Even if systemd cannot be reached, what is left is removed.
        let mut first = self.unit().map_or(Ok(()), systemd::Unit::stop);
        // cgroup2 comes last in `dirs`, and first here: it alone tells when the processes are gone.
        for dir in self.dirs.iter().rev() {
            let removed = dir.remove(deadline).map_err(|errno| {
                let error = dir.cannot("remove", "rmdir", errno);
                match self.pids() {
                    Ok(pids) if !pids.is_empty() => {
                        error.because(format!("it holds {} process(es)", pids.len()))
                    }
                    _ => error,
                }
            });
            // One hierarchy that fails does not spare the others.
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }
}

impl Dir {
    fn remove(&self, deadline: Instant) -> nix::Result<()> {
        // The mount point's own cgroup is nobody's container.
        if self.path.trim_matches('/').is_empty() {
            return Ok(());
        }
        let path = self.full_path();
        let mut pause = Duration::from_micros(500);
        loop {
            match unlinkat(AT_FDCWD, &path, UnlinkatFlags::RemoveDir) {
                Ok(()) => return Ok(()),
                Err(errno) if is_gone(errno) => return Ok(()),
                Err(Errno::EBUSY) => {}
                // A read-only mount says EROFS even for what does not exist.
                Err(errno) => match open_dir(&path) {
                    Err(missing) if is_gone(missing) => return Ok(()),
                    _ => return Err(errno),
                },
            }
            let top = match open_dir(&path) {
                Err(errno) if is_gone(errno) => return Ok(()),
                result => result?,
            };
            let removed = remove_children(open_dir_at(&top, ".")?)?;
            if Instant::now() >= deadline {
                return Err(Errno::EBUSY);
            }
            if removed {
                continue;
            }
            match self.version {
                // False is the deadline, which the next round notices.
                Version::V2 => match wait_event(&top, "populated", "0", deadline) {
                    Ok(_) => std::thread::sleep(Duration::from_micros(200)),
                    Err(errno) if is_gone(errno) => {}
                    Err(errno) => return Err(errno),
                },
                Version::V1 => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
            }
        }
    }
}

/// Removes what can be removed below `top`; whether anything was.
fn remove_children(top: OwnedFd) -> nix::Result<bool> {
    let mut removed = false;
    walk(
        top,
        |_| Ok(()),
        |parent, name| match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => {
                removed = true;
                Ok(())
            }
            Err(errno) if is_gone(errno) || errno == Errno::EBUSY => Ok(()),
            Err(errno) => Err(errno),
        },
    )?;
    Ok(removed)
}
