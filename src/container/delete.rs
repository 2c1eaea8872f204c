//! `delete`: nothing of a container stays, from whatever state it was in.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use super::hooks::Occasion;
use super::kill::pidfd_of;
use super::state::{State, Status};
use super::store::{self, Entry};
use crate::error::{Error, Kind, Result};
use crate::spec::{Hooks, Spec};

/// How long processes may take to die of SIGKILL: one in the middle of a slow I/O takes its time.
const DYING: Duration = Duration::from_secs(10);

/// Deletes a container that has stopped, or was only created. With `force`, also one that runs; an
/// unknown id is then no error.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    let entry = match store::open(root, id) {
        Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
        answer => answer?,
    };
    let _lock = match entry.lock(super::PATIENCE) {
        // Somebody else deleted it while we waited.
        Err(error) if force && error.kind() == Kind::NotFound => return Ok(()),
        answer => answer?,
    };
    let state = match entry.state() {
        Ok(state) => state,
        // Not a byte of it is needed to free the id.
        Err(_) if force => return entry.remove(),
        Err(error) => return Err(error),
    };
    let status = state.status(&entry);
    if !force && !matches!(status, Status::Stopped | Status::Created) {
        return Err(Error::new(
            Kind::WrongStatus,
            format!("cannot delete container {id} that is not stopped: {status}"),
        ));
    }
    let hooks = entry.config().and_then(|bytes| Spec::parse(&bytes)).ok().and_then(|spec| spec.hooks);
    destroy(&entry, &state, hooks.as_ref())
}

/// Ends the container's processes, removes its cgroup and its state, and runs the poststop hooks. The
/// caller holds the lock.
pub fn destroy(entry: &Entry, state: &State, hooks: Option<&Hooks>) -> Result<()> {
    stop(state)?;
    state.cgroup.remove()?;
    if let Some(group) = &state.rdt {
        group.remove()?;
    }
    entry.remove()?;
    let poststop = hooks.and_then(|hooks| hooks.poststop().as_deref()).unwrap_or_default();
    let document = state.hook_document(Status::Stopped, 0);
    let occasion = Occasion { kind: "poststop", state: &document, directory: &state.bundle, container: None };
    occasion.run_each(poststop);
    Ok(())
}

/// Ends all of the container's processes.
pub fn stop(state: &State) -> Result<()> {
    end_init(state)?;
    // Without a pid namespace of its own, or with processes that were put into the cgroup, some may be left.
    state.cgroup.kill_all(libc::SIGKILL)
}

/// Kills the init and waits until it is dead.
fn end_init(state: &State) -> Result<()> {
    let Some(init) = state.init.as_ref() else { return Ok(()) };
    let Some(pidfd) = pidfd_of(init)? else { return Ok(()) };
    let what = || format!("cannot end container {}", state.id);
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL)
        .or_else(|errno| if errno == rustix::io::Errno::SRCH { Ok(()) } else { Err(errno) })
        .map_err(|errno| {
            Error::kernel(what(), "pidfd_send_signal", nix::errno::Errno::from_raw(errno.raw_os_error()))
        })?;
    // A process in a frozen cgroup of version 1 dies only when that is thawed.
    state.cgroup.thaw()?;
    let deadline = Instant::now() + DYING;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, timeout) {
            Ok(0) => {
                return Err(Error::new(Kind::Kernel, what()).because(format!(
                    "process {} did not die of SIGKILL within {} s",
                    init.pid,
                    DYING.as_secs()
                )));
            }
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::kernel(what(), "poll", errno)),
        }
    }
}
