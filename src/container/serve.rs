//! What the parent does for the init process while it performs its program: everything that needs the
//! host's namespaces or privileges, at the moments when the init asks. Every wait also watches the
//! init itself, so that its death is noticed whatever it was about.

use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use corten_init::program::Sync;
use corten_init::sys;
use corten_init::wire::{GO, LONGEST, Message};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::launch::{Init, kernel};
use super::{copy_up, idmap, inside};
use super::{fault, filtered};
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::netlink;
use crate::plan::Plan;
use crate::spec;

/// What only the caller can do, at the init's request.
pub trait Duties {
    /// Everything is mounted and the old root is still there: the hooks run now.
    fn hooks(&mut self, init: &Init) -> Result<()>;
    /// The container is ready: what must be known of it is recorded now.
    fn ready(&mut self, init: &Init) -> Result<()>;
    /// The master of the container's terminal.
    fn terminal(&mut self, master: OwnedFd) -> Result<()>;
    /// The descriptor of the seccomp filter's listener.
    fn listener(&mut self, init: &Init, listener: OwnedFd) -> Result<()>;
    /// The seccomp profile, which may be what ends the init.
    fn profile(&self) -> Option<&spec::Seccomp>;
}

/// Where the init process went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for `start`.
    Waits,
    /// It has become the container's program.
    Executes,
}

/// Serves the init process until it needs us no more.
///
/// # Errors
/// A step failed, the init died, or what it asked for failed. The caller ends it by dropping `init`.
pub fn serve(plan: &Plan, host: &Host, init: &mut Init, duties: &mut dyn Duties) -> Result<Outcome> {
    write_oom_score(plan, init)?;
    let mut buffer = vec![0; LONGEST];
    let start = plan.start_step();
    loop {
        let (length, mut descriptors) = receive(init, &mut buffer)?;
        if length == 0 {
            let is_last = init.step() + 1 >= plan.steps.len();
            return if is_last && (plan.filter.is_empty() || !filtered::ended_unexecuted(init.pid)) {
                Ok(Outcome::Executes)
            } else {
                Err(fault::died(plan, init, duties.profile()))
            };
        }
        // Its first word comes from inside the cgroup, or it is about to be moved there.
        let hold = init.hold.take();
        let Some(message) = Message::decode(&buffer[..length]) else {
            return Err(Error::new(Kind::Internal, "cannot understand the init process"));
        };
        match message {
            Message::Forked => {
                init.replace(descriptors.next().ok_or_else(missing)?)?;
                // It may have been cloned before its sibling got its score.
                write_oom_score(plan, init)?;
            }
            Message::Sync { what: Sync::Cgroup, .. } => {
                if init.outside {
                    plan.cgroup.attach(init.pid)?;
                }
            }
            Message::Sync { what: Sync::IdMaps, .. } => {
                if let Some(map) = &plan.id_map {
                    idmap::write_maps(init.pid, map, host)?;
                }
            }
            Message::Sync { what: Sync::TimeOffsets, .. } => write_time_offsets(plan, init)?,
            Message::Sync { what: Sync::Network, .. } => move_devices(plan, init)?,
            Message::Sync { what: Sync::Hooks, .. } => duties.hooks(init)?,
            Message::Sync { what: Sync::Ready, .. } => {
                set_limits(plan, init)?;
                duties.ready(init)?;
                if start.is_some() {
                    go(init)?;
                    return Ok(Outcome::Waits);
                }
            }
            Message::Terminal { .. } => {
                let master = descriptors.next().ok_or_else(missing)?;
                duties.terminal(master)?;
            }
            Message::Listener { .. } => {
                let listener = descriptors.next().ok_or_else(missing)?;
                duties.listener(init, listener)?;
            }
            Message::CopyUp { step } => {
                let (to, from) = descriptors.next().zip(descriptors.next()).ok_or_else(missing)?;
                let user = if plan.in_userns { libc::CLONE_NEWUSER as u64 } else { 0 };
                let copied =
                    inside::inside(init.pidfd.as_fd(), user, || copy_up::copy_up(from.as_fd(), to.as_fd()));
                copied.map_err(|error| error.at(plan.steps[step as usize].origin.to_string()))?;
            }
            Message::Warning { step, call, errno, number } => {
                fault::warn(plan, step as usize, call, errno, number);
                continue;
            }
            Message::Fault(report) => {
                let error = fault::error(plan, &report);
                let profile = filtered::in_force(plan, report.step as usize, duties.profile());
                return Err(filtered::suspect(error, &report, profile));
            }
            Message::Hook { step, status, timed_out, output, .. } => {
                return Err(fault::hook(plan, step as usize, status, timed_out, output));
            }
        }
        drop(hold);
        go(init)?;
    }
}

fn missing() -> Error {
    Error::new(Kind::Internal, "cannot serve the init process")
        .because("a descriptor is missing from its message")
}

/// Lets the init process go on.
fn go(init: &Init) -> Result<()> {
    match sys::send(init.socket.as_raw_fd(), GO, &[]) {
        // It is dead: the next receive finds out how.
        Err(sys::Errno(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
        answer => {
            answer.map(drop).map_err(|errno| kernel("cannot answer the init process", "sendmsg", errno))
        }
    }
}

/// Waits for a message or the init's death, and takes the message with its descriptors. Length 0:
/// there are no more.
fn receive(init: &Init, buffer: &mut [u8]) -> Result<(usize, std::vec::IntoIter<OwnedFd>)> {
    let what = "cannot serve the init process";
    loop {
        let mut ready = [
            PollFd::new(init.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(init.pidfd.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Error::kernel(what, "poll", errno)),
        }
        if ready[0].revents().is_none_or(|events| events.is_empty()) {
            // It died, and somebody who has its end of the socket as well lives on.
            return Ok((0, Vec::new().into_iter()));
        }
        return take(init.socket.as_fd(), buffer).map_err(|errno| Error::kernel(what, "recvmsg", errno));
    }
}

/// Takes one message and its descriptors.
pub fn take(socket: BorrowedFd, buffer: &mut [u8]) -> nix::Result<(usize, std::vec::IntoIter<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut fds = Vec::new();
    let received = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // Its end was closed with our answer unread: it is dead.
            Err(rustix::io::Errno::CONNRESET) => return Ok((0, fds.into_iter())),
            Err(errno) => return Err(Errno::from_raw(errno.raw_os_error())),
            Ok(received) => break received,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds.into_iter()))
}

fn write_oom_score(plan: &Plan, init: &Init) -> Result<()> {
    let Some(score) = plan.oom_score_adj else { return Ok(()) };
    write_proc(
        init,
        "oom_score_adj",
        &score.to_string(),
        "set the OOM score adjustment",
        "/process/oomScoreAdj",
    )
}

fn write_time_offsets(plan: &Plan, init: &Init) -> Result<()> {
    write_proc(init, "timens_offsets", &plan.time_offsets, "set the clocks", "/linux/timeOffsets")
}

fn write_proc(init: &Init, file: &str, value: &str, what: &str, pointer: &str) -> Result<()> {
    let what = format!("cannot {what} to {}", value.trim_end().replace('\n', ", "));
    let path = format!("/proc/{}/{file}", init.pid);
    let mut opened = File::options()
        .write(true)
        .open(&path)
        .map_err(|e| Error::io(what.clone(), &format!("open {path}"), e).at(pointer))?;
    opened.write_all(value.as_bytes()).map_err(|e| Error::io(what, &format!("write {path}"), e).at(pointer))
}

fn set_limits(plan: &Plan, init: &Init) -> Result<()> {
    for limit in &plan.limits {
        sys::prlimit(init.pid, limit.resource, limit.soft, limit.hard).map_err(|errno| {
            let name = crate::plan::limit_name(limit.resource);
            let what = format!("cannot set {name} to {} (hard {})", limit.soft, limit.hard);
            kernel(what, "prlimit", errno).at(limit.origin.to_string())
        })?;
    }
    Ok(())
}

fn move_devices(plan: &Plan, init: &Init) -> Result<()> {
    let path = format!("/proc/{}/ns/net", init.pid);
    let netns = File::open(&path)
        .map_err(|e| Error::io("cannot move network devices", &format!("open {path}"), e))?;
    for (name, new_name) in &plan.net_devices {
        netlink::move_device(name, new_name, netns.as_fd())?;
    }
    Ok(())
}

/// Connects to a seccomp agent and hands it the listener, with the container process state of the
/// specification.
pub fn send_listener(path: &str, state: &[u8], listener: BorrowedFd) -> Result<()> {
    let what = format!("failed to connect with seccomp agent {path}");
    let stream = std::os::unix::net::UnixStream::connect(path).map_err(|e| Error::io(what, "connect", e))?;
    let sent = sys::send(stream.as_raw_fd(), state, &[listener.as_raw_fd()]);
    sent.map(drop).map_err(|errno| {
        kernel(format!("cannot send the listener to seccomp agent {path}"), "sendmsg", errno)
    })
}
