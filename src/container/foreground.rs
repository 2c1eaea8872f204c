//! What `run` and `exec` do while the container's process runs in the foreground: they stand for it.
//! Signals go on to it, its terminal is the user's, its orphans are reaped, its exit code is ours.

use std::os::fd::{AsFd, OwnedFd};

use corten_init::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open};

use super::notify::Notify;
use super::terminal::Relay;
use crate::error::{Error, Result};

/// All signals, kept from their usual effects. They get them back when this is dropped.
///
/// Made before the container's process, so that none is lost: what comes before [`Foreground::wait`]
/// is passed on then. The process must reset its own signal mask.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
    mask: SigSet,
    is_subreaper: bool,
}

impl Foreground {
    /// Blocks all signals; with `subreaper`, the container's orphans become our children (runc's
    /// behaviour without `--no-subreaper`).
    pub fn begin(subreaper: bool) -> Result<Foreground> {
        let what = || "cannot wait for signals";
        if subreaper {
            nix::sys::prctl::set_child_subreaper(true).map_err(|e| Error::kernel(what(), "prctl", e))?;
        }
        let mut signals = SigSet::all();
        for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGTRAP] {
            signals.remove(fault);
        }
        let mut mask = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut mask))
            .map_err(|e| Error::kernel(what(), "sigprocmask", e))?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        match SignalFd::with_flags(&signals, flags) {
            Ok(signals) => Ok(Foreground { signals, mask, is_subreaper: subreaper }),
            Err(errno) => {
                mask.thread_set_mask().map_err(|e| Error::kernel(what(), "sigprocmask", e))?;
                Err(Error::kernel(what(), "signalfd4", errno))
            }
        }
    }

    /// Waits for the end of our child `pid` and returns its exit code, 128+n after signal n. With
    /// `terminal`, the master of its terminal, that is relayed to ours. With `notify` we tell the service
    /// manager when it is ready; the process to watch stays ours.
    pub fn wait(&self, pid: i32, terminal: Option<OwnedFd>, mut notify: Option<Notify>) -> Result<i32> {
        let what = || format!("cannot wait for process {pid}");
        let process = Pid::from_raw(pid).ok_or_else(|| Error::kernel(what(), "pidfd_open", Errno::EINVAL))?;
        let pidfd = pidfd_open(process, PidfdFlags::empty())
            .map_err(|e| Error::kernel(what(), "pidfd_open", Errno::from_raw(e.raw_os_error())))?;
        let mut relay = terminal.map(Relay::new).transpose()?;
        loop {
            let notified = notify.as_ref().map_or(pidfd.as_fd(), Notify::as_fd);
            let watched = [self.signals.as_fd(), pidfd.as_fd(), notified];
            let [signalled, ..] = match &mut relay {
                Some(relay) => relay.step(watched, None)?,
                None => ready(watched).map_err(|e| Error::kernel(what(), "poll", e))?,
            };
            if signalled {
                self.pass_on(pid, relay.as_ref());
            }
            notify = notify.filter(|notify| !notify.pass_on(sys::getpid()));
            if let Some(status) = self.reap(process).map_err(|e| Error::kernel(what(), "wait4", e))? {
                if let Some(relay) = relay {
                    relay.finish(self.signals.as_fd(), || self.is_told_to_stop())?;
                }
                return Ok(exit_code(status));
            }
        }
    }

    /// Sends the signals that came to us to the process.
    fn pass_on(&self, pid: i32, relay: Option<&Relay>) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = info.ssi_signo as i32;
            match signal {
                libc::SIGCHLD | libc::SIGURG => {}
                libc::SIGWINCH => {
                    if let Some(relay) = relay {
                        relay.resize();
                    }
                }
                // It is our child and not yet waited for, so the pid is still its own.
                _ => match sys::kill(pid, signal) {
                    Ok(()) => tracing::debug!("passed signal {signal} on to process {pid}"),
                    Err(errno) => tracing::debug!("cannot pass signal {signal} on: errno {}", errno.0),
                },
            }
        }
    }

    fn is_told_to_stop(&self) -> bool {
        let mut told = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            let ends = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
            told |= ends.contains(&(info.ssi_signo as i32));
        }
        told
    }

    /// Waits for every child that has ended, or for the process alone; its status if it was among them.
    fn reap(&self, process: Pid) -> nix::Result<Option<WaitStatus>> {
        loop {
            let reaped = if self.is_subreaper {
                rustix::process::wait(WaitOptions::NOHANG)
            } else {
                rustix::process::waitpid(Some(process), WaitOptions::NOHANG)
            };
            match reaped {
                Ok(Some((pid, status))) if pid == process => return Ok(Some(status)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(errno) if errno == rustix::io::Errno::INTR => {}
                Err(errno) => return Err(Errno::from_raw(errno.raw_os_error())),
            }
        }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.mask.thread_set_mask().ok();
    }
}

fn ready<const N: usize>(watched: [std::os::fd::BorrowedFd; N]) -> nix::Result<[bool; N]> {
    let mut fds = watched.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) => Ok(fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))),
        Err(Errno::EINTR) => Ok([false; N]),
        Err(errno) => Err(errno),
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        // wait4(2) without WUNTRACED and WCONTINUED reports nothing else.
        (None, None) => 255,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_exit_code_is_the_processs() {
        let before = SigSet::thread_get_mask().unwrap();
        for (script, code) in [("exit 9", 9), ("kill -9 $$", 137), ("kill -40 $$", 168), ("sleep 0.2", 0)] {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            let foreground = Foreground::begin(false).unwrap();
            assert_eq!(foreground.wait(child.id() as i32, None, None).unwrap(), code, "{script}");
            assert!(child.wait().is_err(), "it was reaped");
        }
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
