//! `start`: lets a created container go, and tells the truth about whether it went.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use corten_init::sys;
use corten_init::wire::{LONGEST, Message, START};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::hooks::Occasion;
use super::kill::pidfd_of;
use super::launch::kernel;
use super::notify::Notify;
use super::state::{State, Status};
use super::store;
use super::{delete, fault, filtered, serve};
use crate::error::{Error, Kind, Result};
use crate::spec::Spec;

/// Starts a container that was created. When this returns, its program runs; with `NOTIFY_SOCKET` in the
/// environment, it has also said that it is ready, or has ended.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let entry = store::open(root, id)?;
    let lock = entry.lock(super::PATIENCE)?;
    let state = entry.state()?;
    let what = || format!("cannot start container {id}");
    let Some(connection) = entry.connect_start()? else {
        let reason = match state.status(&entry) {
            Status::Running | Status::Paused => "cannot start an already running container",
            Status::Stopped => "cannot start a container that has stopped",
            Status::Creating | Status::Created => "it is still being created",
        };
        return Err(Error::new(Kind::WrongStatus, what()).because(reason));
    };
    if state.cgroup.is_frozen().unwrap_or(false) {
        return Err(Error::new(Kind::WrongStatus, what()).because("it is paused"));
    }
    let init = state.init.as_ref().map(pidfd_of).transpose()?.flatten();
    let Some(init) = init else {
        return Err(
            Error::new(Kind::WrongStatus, what()).because("cannot start a container that has stopped")
        );
    };
    let notify = Notify::listen(&entry)?;
    sys::send(connection.as_raw_fd(), START, &[]).map_err(|errno| kernel(what(), "sendmsg", errno))?;
    let spec = entry.config().and_then(|bytes| Spec::parse(&bytes))?;
    listen(&connection, &init, &state, &spec)?;
    poststart(&state, &spec)?;
    // Whoever wants to end a container that never gets ready must be able to.
    drop(lock);
    match notify {
        Some(notify) => notify.wait(init.as_fd(), state.init.as_ref().map_or(0, |init| init.pid)),
        None => Ok(()),
    }
}

/// Hears how it goes: silence until the connection ends is success.
fn listen(connection: &OwnedFd, init: &OwnedFd, state: &State, spec: &Spec) -> Result<()> {
    let what = format!("cannot start container {}", state.id);
    let name =
        spec.process.as_ref().and_then(|process| process.args.as_ref()?.first().cloned()).unwrap_or_default();
    let mut buffer = vec![0; LONGEST];
    loop {
        let mut ready = [
            PollFd::new(connection.as_fd(), PollFlags::POLLIN),
            PollFd::new(init.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::kernel(what, "poll", errno)),
        }
        if ready[0].revents().is_none_or(|events| events.is_empty()) {
            return went(state, spec);
        }
        let (length, _) = serve::take(connection.as_fd(), &mut buffer)
            .map_err(|errno| Error::kernel(what.clone(), "recvmsg", errno))?;
        if length == 0 {
            return went(state, spec);
        }
        match Message::decode(&buffer[..length]) {
            Some(Message::Fault(report)) => {
                let error = fault::late_error(&report, &name);
                return Err(filtered::suspect(error, &report, spec.linux().seccomp.as_ref()));
            }
            Some(Message::Hook { status, timed_out, words, output, .. }) => {
                return Err(fault::late_hook(words, status, timed_out, output));
            }
            _ => return Err(Error::new(Kind::Internal, what).because("its init said something unexpected")),
        }
    }
}

/// Whether the silence of the init means that it executed, or that its seccomp filter killed it.
fn went(state: &State, spec: &Spec) -> Result<()> {
    let pid = state.init.as_ref().map_or(0, |init| init.pid);
    match &spec.linux().seccomp {
        Some(profile) if filtered::ended_unexecuted(pid) => {
            Err(Error::new(Kind::Kernel, format!("cannot start container {}", state.id))
                .because("its init process ended before it executed the program")
                .and(filtered::death(pid, profile)))
        }
        _ => Ok(()),
    }
}

fn poststart(state: &State, spec: &Spec) -> Result<()> {
    let hooks = spec.hooks.as_ref();
    let poststart = hooks.and_then(|hooks| hooks.poststart().as_deref()).unwrap_or_default();
    if poststart.is_empty() {
        return Ok(());
    }
    let pid = state.init.as_ref().map_or(0, |init| init.pid);
    let document = state.hook_document(Status::Running, pid);
    // The program may be done before the hooks are.
    let occasion =
        Occasion { kind: "poststart", state: &document, directory: &state.bundle, container: None };
    occasion.run_all(poststart).inspect_err(|_| {
        // runtime-spec 1.3: a poststart hook that fails stops the container.
        if let Err(more) = delete::stop(state) {
            tracing::warn!("{more}");
        }
    })
}
