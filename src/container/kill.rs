//! `kill`: a signal for the container's init, or for all of its processes.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::state::{Process, Status};
use super::store;
use crate::error::{Error, Kind, Result};
use crate::plan::Namespaces;
use crate::spec::Spec;

/// A pidfd of exactly this process; `None` if it is gone.
pub(super) fn pidfd_of(process: &Process) -> Result<Option<OwnedFd>> {
    let Some(pid) = rustix::process::Pid::from_raw(process.pid) else { return Ok(None) };
    let pidfd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        answer => answer.map_err(|errno| {
            let what = format!("cannot open process {}", process.pid);
            Error::kernel(what, "pidfd_open", Errno::from_raw(errno.raw_os_error()))
        })?,
    };
    // The pid may have been another's when it was opened; now that it is held, the answer stays true.
    Ok(process.is_alive().then_some(pidfd))
}

/// Sends `signal` to the container's init; with `all`, to every process in its cgroup.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<()> {
    let entry = store::open(root, id)?;
    let state = entry.state()?;
    let what = || format!("cannot send signal {signal} to container {id}");
    // Without a pid namespace of its own, the others do not die with the init.
    let shares_pids = || {
        let config = entry.config().and_then(|bytes| Spec::parse(&bytes));
        config.is_ok_and(|spec| !Namespaces::of(&spec).is_new("pid"))
    };
    // Without a cgroup only the init is known.
    if !state.cgroup.is_none() && (all || (signal == libc::SIGKILL && shares_pids())) {
        return state.cgroup.kill_all(signal);
    }
    let not_running = || Error::new(Kind::WrongStatus, what()).because("container not running");
    if state.status(&entry) == Status::Stopped {
        return if all { Ok(()) } else { Err(not_running()) };
    }
    let init = state.init.as_ref().ok_or_else(not_running)?;
    let pidfd = pidfd_of(init)?.ok_or_else(not_running)?;
    use std::os::fd::AsRawFd;
    match corten_init::sys::pidfd_send_signal(pidfd.as_raw_fd(), signal, 0, 0) {
        Err(corten_init::sys::Errno(libc::ESRCH)) => return Err(not_running()),
        answer => answer.map_err(|errno| super::launch::kernel(what(), "pidfd_send_signal", errno))?,
    }
    if signal == libc::SIGKILL {
        // A process in a frozen cgroup of version 1 dies only when that is thawed.
        state.cgroup.thaw()?;
    }
    Ok(())
}
