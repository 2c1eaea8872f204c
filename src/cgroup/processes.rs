//! The processes in the container's cgroup: listing, freezing, killing.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use corten_init::sys;
use nix::errno::Errno;
use nix::libc::SIGKILL;

use super::file::{is_gone, open_dir, read, value_of, wait_event, walk, write};
use super::{Cgroup, Dir, Version};
use crate::error::{Error, Kind, Result};

/// How long all processes may take to freeze: one in an uninterruptible sleep delays it.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(5);

impl Cgroup {
    /// The processes in the cgroup and below it, as this pid namespace numbers them. Empty if the
    /// cgroup is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(dir) = self.main() {
            dir.pids(&mut pids).map_err(|errno| dir.cannot("list the processes of", "read", errno))?;
        }
        Ok(pids)
    }

    /// No process is in the cgroup or below it.
    pub fn is_empty(&self) -> Result<bool> {
        let Some(dir) = self.unified() else {
            return Ok(self.pids()?.is_empty());
        };
        match open_dir(&dir.full_path()).and_then(|fd| read(fd, "cgroup.events")) {
            Ok(events) => Ok(value_of(&events, "populated") == Some("0")),
            Err(errno) if is_gone(errno) => Ok(true),
            Err(errno) => Err(dir.cannot("look into", "read cgroup.events", errno)),
        }
    }

    /// Stops every process until [`Cgroup::thaw`]. If not all are stopped in time none is.
    ///
    /// # Errors
    ///
    /// `Unsupported` without a freezer; `Kernel`.
    pub fn freeze(&self) -> Result<()> {
        let dir = self.freezer()?;
        let result = match dir.version {
            Version::V1 => dir.freeze_v1(),
            Version::V2 => dir.freeze_v2(),
        };
        result.inspect_err(|_| {
            // Half frozen is worse than either; the first failure is the one to tell.
            let _ = self.thaw();
        })
    }

    /// Lets the processes run on. A cgroup that is gone, or that cannot be frozen, is no error.
    pub fn thaw(&self) -> Result<()> {
        let Ok(dir) = self.freezer() else {
            return Ok(());
        };
        let (file, value) = match dir.version {
            Version::V1 => ("freezer.state", "THAWED"),
            Version::V2 => ("cgroup.freeze", "0"),
        };
        match open_dir(&dir.full_path()).and_then(|fd| write(fd, file, value)) {
            Err(errno) if !is_gone(errno) => Err(dir.cannot("thaw", &format!("write {file}"), errno)),
            _ => Ok(()),
        }
    }

    /// Whether the cgroup itself (not an ancestor alone) is frozen. False without a freezer or
    /// when the cgroup is gone.
    pub fn is_frozen(&self) -> Result<bool> {
        let Ok(dir) = self.freezer() else {
            return Ok(false);
        };
        let frozen = open_dir(&dir.full_path()).and_then(|fd| match dir.version {
            Version::V2 => Ok(read(&fd, "cgroup.freeze")?.trim() == "1"
                && value_of(&read(&fd, "cgroup.events")?, "frozen") == Some("1")),
            Version::V1 => Ok(read(&fd, "freezer.state")?.trim() == "FROZEN"
                && read(&fd, "freezer.self_freezing")?.trim() == "1"),
        });
        match frozen {
            // ENOENT also for a v2 kernel before 5.2, which cannot freeze.
            Err(errno) if is_gone(errno) => Ok(false),
            result => result.map_err(|errno| dir.cannot("tell whether it is frozen:", "read", errno)),
        }
    }

    /// Sends a signal, by its number, to every process in the cgroup and below it, in such a way that none escapes
    /// by forking. A cgroup that is gone has no processes.
    ///
    /// After SIGKILL the cgroup is never left frozen; after another signal it is frozen only if it
    /// was before.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal == SIGKILL && self.kill_unified()? {
            // Frozen v1 processes die when they are thawed. Without a v1 freezer there is nothing
            // to thaw: killing overrides a v2 freeze.
            if !self.is_pure_v2() && self.freezer().is_ok() {
                self.thaw()?;
            }
            return Ok(());
        }
        let paused = self.is_frozen()?;
        // Without a freezer the processes are signalled all the same, again while new ones appear.
        let frozen = paused || self.freeze().is_ok();
        let result = self.signal(signal, !frozen);
        if frozen && (!paused || signal == SIGKILL) {
            self.thaw()?;
        }
        result
    }

    /// cgroup.kill (Linux 5.14). False where there is none.
    fn kill_unified(&self) -> Result<bool> {
        let Some(dir) = self.unified() else {
            return Ok(false);
        };
        match open_dir(&dir.full_path()).and_then(|fd| write(fd, "cgroup.kill", "1")) {
            Ok(()) => Ok(true),
            // EOPNOTSUPP: a threaded cgroup.
            Err(errno) if is_gone(errno) || errno == Errno::EOPNOTSUPP => Ok(false),
            Err(errno) => Err(dir.cannot("kill the processes of", "write cgroup.kill", errno)),
        }
    }

    fn signal(&self, signal: i32, repeat: bool) -> Result<()> {
        let mut reached = Vec::new();
        loop {
            let mut pids = self.pids()?;
            pids.retain(|pid| !reached.contains(pid));
            for &pid in &pids {
                match sys::kill(pid, signal).map_err(|errno| Errno::from_raw(errno.0)) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => {
                        let what = format!("cannot send signal {signal} to process {pid}");
                        return Err(Error::kernel(what, "kill", errno));
                    }
                }
            }
            if pids.is_empty() || !repeat {
                return Ok(());
            }
            reached.extend(pids);
        }
    }

    fn freezer(&self) -> Result<&Dir> {
        let kernel_can = |dir: &&Dir| dir.version == Version::V2;
        self.dirs
            .iter()
            .find(|dir| dir.controllers.iter().any(|name| name == "freezer"))
            .or_else(|| self.dirs.iter().find(kernel_can))
            .ok_or_else(|| {
                Error::new(Kind::Unsupported, "cannot toggle freezer: cgroups not configured for container")
            })
    }
}

impl Dir {
    fn pids(&self, pids: &mut Vec<i32>) -> nix::Result<()> {
        let mut collect = |fd: &OwnedFd| {
            let text = match read(fd, "cgroup.procs") {
                // The processes of a threaded cgroup are listed by their threads.
                Err(Errno::EOPNOTSUPP) => read(fd, "cgroup.threads"),
                result => result,
            };
            match text {
                // 0 is a process of another pid namespace.
                Ok(text) => pids
                    .extend(text.lines().filter_map(|line| line.parse().ok()).filter(|&pid: &i32| pid > 0)),
                Err(errno) if is_gone(errno) => {}
                Err(errno) => return Err(errno),
            }
            Ok(())
        };
        match open_dir(&self.full_path()) {
            Ok(top) => walk(top, &mut collect, |_, _| Ok(())),
            Err(errno) if is_gone(errno) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn freeze_v2(&self) -> Result<()> {
        let cannot = |call: &str, errno| self.cannot("freeze", call, errno);
        let fd = open_dir(&self.full_path()).map_err(|errno| cannot("open", errno))?;
        write(&fd, "cgroup.freeze", "1").map_err(|errno| cannot("write cgroup.freeze", errno))?;
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        match wait_event(&fd, "frozen", "1", deadline) {
            Ok(true) => Ok(()),
            Ok(false) => Err(cannot("wait for cgroup.events", Errno::ETIMEDOUT)),
            Err(errno) => Err(cannot("read cgroup.events", errno)),
        }
    }

    fn freeze_v1(&self) -> Result<()> {
        let cannot = |call: &str, errno| self.cannot("freeze", call, errno);
        let fd = open_dir(&self.full_path()).map_err(|errno| cannot("open", errno))?;
        let deadline = Instant::now() + FREEZE_TIMEOUT;
        let mut pause = Duration::from_micros(20);
        loop {
            // Again each time: a process that was forked meanwhile joins FREEZING only by it.
            write(&fd, "freezer.state", "FROZEN").map_err(|errno| cannot("write freezer.state", errno))?;
            let state = read(&fd, "freezer.state").map_err(|errno| cannot("read freezer.state", errno))?;
            if state.trim() == "FROZEN" {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(cannot("wait for freezer.state", Errno::ETIMEDOUT));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    pub(super) fn cannot(&self, verb: &str, call: &str, errno: Errno) -> Error {
        Error::kernel(format!("cannot {verb} cgroup {}", self.full_path().display()), call, errno)
    }
}
