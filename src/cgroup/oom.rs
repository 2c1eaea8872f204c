//! Out of memory: has it happened, where was the limit, and waiting for it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::file::{is_gone, open_at, open_dir, open_dir_at, read, value_of, write};
use super::{Cgroup, Dir, Version};
use crate::error::{Error, Kind, Result};

/// What [`OomWatch::wait`] woke up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomEvent {
    /// The OOM killer was at work in the cgroup.
    Oom,
    /// The cgroup is empty or gone.
    Gone,
    /// Nothing happened in time.
    Timeout,
}

/// Waits for the OOM killer.
#[derive(Debug)]
pub struct OomWatch {
    dir: Dir,
    /// memory.events on version 2, an eventfd on version 1.
    source: Source,
    kills: u64,
}

#[derive(Debug)]
enum Source {
    Events { memory: OwnedFd, cgroup: OwnedFd },
    Event { eventfd: EventFd, _control: OwnedFd },
}

impl Cgroup {
    /// How many processes of the cgroup and below it the OOM killer has killed. 0 if the cgroup is
    /// gone: ask before [`Cgroup::remove`].
    pub fn oom_kills(&self) -> u64 {
        self.dir("memory").map_or(0, Dir::oom_kills)
    }

    /// If the OOM killer has killed in the cgroup, which limit it was:
    /// `memory limit 1048576 of cgroup /sys/fs/cgroup/x`. The limit may be an ancestor's, or
    /// the whole machine's memory.
    pub fn oom_cause(&self) -> Option<String> {
        let dir = self.dir("memory").filter(|dir| dir.oom_kills() > 0)?;
        let root = open_dir(&dir.mountpoint).ok()?;
        let mut path = dir.relative().to_path_buf();
        while !path.as_os_str().is_empty() {
            let fd = open_dir_at(&root, &path).ok()?;
            let (limit, hit) = match dir.version {
                // Of this cgroup's own limit, Linux 5.2.
                Version::V2 => {
                    let events = read(&fd, "memory.events.local").ok()?;
                    (read(&fd, "memory.max").ok()?, value_of(&events, "oom") != Some("0"))
                }
                // The peak, because newer kernels (6.18) count no failures any more. With swap as
                // much as memory it may be the limit of both together that was reached.
                Version::V1 => {
                    let number = |file: &str| read(&fd, file).ok()?.trim().parse::<u64>().ok();
                    let limit = number("memory.limit_in_bytes")?;
                    let peak = number("memory.max_usage_in_bytes")?;
                    // A large page may not have fitted any more.
                    (limit.to_string(), peak >= limit - limit / 10)
                }
            };
            if hit {
                let cgroup = dir.mountpoint.join(&path);
                return Some(format!("memory limit {} of cgroup {}", limit.trim(), cgroup.display()));
            }
            path.pop();
        }
        Some("the machine is out of memory".to_owned())
    }

    /// Starts to watch for the OOM killer.
    ///
    /// # Errors
    ///
    /// `Unsupported` if the container has no memory cgroup.
    pub fn watch_oom(&self) -> Result<OomWatch> {
        let dir = self.dir("memory").ok_or_else(|| {
            Error::new(Kind::Unsupported, "cannot watch for OOM: the container has no memory cgroup")
        })?;
        let source = dir.oom_source().map_err(|errno| dir.cannot("watch for OOM in", "open", errno))?;
        Ok(OomWatch { dir: dir.clone(), source, kills: dir.oom_kills() })
    }
}

impl OomWatch {
    /// Waits for something to happen, at most for `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<OomEvent> {
        let deadline = Instant::now() + timeout;
        loop {
            let kills = self.dir.oom_kills();
            if kills > self.kills {
                self.kills = kills;
                return Ok(OomEvent::Oom);
            }
            if self.dir.is_deserted() {
                return Ok(OomEvent::Gone);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(OomEvent::Timeout);
            }
            // Version 1 does not tell when the last process goes.
            let (mut fds, left) = match &self.source {
                Source::Events { memory, cgroup } => (
                    vec![
                        PollFd::new(memory.as_fd(), PollFlags::POLLPRI),
                        PollFd::new(cgroup.as_fd(), PollFlags::POLLPRI),
                    ],
                    left,
                ),
                Source::Event { eventfd, .. } => (
                    vec![PollFd::new(eventfd.as_fd(), PollFlags::POLLIN)],
                    left.min(Duration::from_millis(500)),
                ),
            };
            let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.dir.cannot("watch for OOM in", "poll", errno)),
            }
            match &self.source {
                // Reading is what takes the notice of a kernfs file back.
                Source::Events { memory, cgroup } => {
                    for fd in [memory, cgroup] {
                        let _ = nix::sys::uio::pread(fd, &mut [0; 512], 0);
                    }
                }
                // EAGAIN: it was the timeout.
                Source::Event { eventfd, .. } => {
                    let _ = eventfd.read();
                }
            }
        }
    }
}

impl Dir {
    fn oom_kills(&self) -> u64 {
        let file = if self.version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        let text = open_dir(&self.full_path()).and_then(|fd| read(fd, file)).unwrap_or_default();
        value_of(&text, "oom_kill").and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    fn oom_source(&self) -> nix::Result<Source> {
        let fd = open_dir(&self.full_path())?;
        if self.version == Version::V2 {
            let open = |file: &str| open_at(&fd, file, OFlag::O_RDONLY);
            return Ok(Source::Events { memory: open("memory.events")?, cgroup: open("cgroup.events")? });
        }
        // admin-guide/cgroup-v1/memory.rst, "OOM Control".
        let control = open_at(&fd, "memory.oom_control", OFlag::O_RDONLY)?;
        let eventfd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let line = format!("{} {}", eventfd.as_fd().as_raw_fd(), control.as_raw_fd());
        write(&fd, "cgroup.event_control", &line)?;
        Ok(Source::Event { eventfd, _control: control })
    }

    /// Nobody is in it any more.
    fn is_deserted(&self) -> bool {
        let file = if self.version == Version::V2 { "cgroup.events" } else { "cgroup.procs" };
        match open_dir(&self.full_path()).and_then(|fd| read(fd, file)) {
            Ok(text) if self.version == Version::V2 => value_of(&text, "populated") == Some("0"),
            Ok(text) => text.is_empty(),
            Err(errno) => is_gone(errno),
        }
    }
}
