//! The way from the container's program to the service manager that started us: sd_notify(3).
//!
//! Only where `NOTIFY_SOCKET` is in our environment. Then a directory of the state directory is mounted
//! read-only at [`NOTIFY_DIRECTORY`](crate::plan::NOTIFY_DIRECTORY) in the container, whose `NOTIFY_SOCKET` names a socket in it, and whoever
//! lets the program run (`run`, `start`) listens there until it says that it is ready. What is told to
//! the manager is worded here, never copied: the container must not name a process of the host, or stop
//! a watchdog, in our name.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use corten_init::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::store::Entry;
use crate::error::{Error, Result};

/// A notification is a datagram of a few lines; systemd takes 4096 bytes, too.
const LONGEST: usize = 4096;
/// How many messages are read before anything else is looked at.
const AT_ONCE: usize = 64;
/// How long the manager may take to hear what we said before we end and it cannot tell any more who we were.
const PATIENCE: Duration = Duration::from_secs(5);

const WHAT: &str = "cannot notify the service manager";

/// The manager's socket, if there is a manager.
fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

/// Whether somebody wants to be notified.
pub fn is_wanted() -> bool {
    notify_socket().is_some()
}

/// A socket on which the container's program will say that it is ready.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    host: OsString,
}

impl Notify {
    /// Listens where the container was told to speak; `None` if nobody wants to know, or if the container
    /// was created without that.
    pub fn listen(entry: &Entry) -> Result<Option<Notify>> {
        let Some(host) = notify_socket() else { return Ok(None) };
        let socket = entry.listen_notify()?.map(UnixDatagram::from);
        Ok(socket.map(|socket| Notify { socket, host }))
    }

    /// Whether the program has said by now that it is ready.
    fn has_come(&self) -> bool {
        let mut buffer = [0; LONGEST];
        // Not without end: a program that says something else faster than we read must not hold us.
        for _ in 0..AT_ONCE {
            // Descriptors that come along are closed by the kernel: there is no room for them.
            match self.socket.recv(&mut buffer) {
                Ok(length) if says_ready(&buffer[..length]) => return true,
                Ok(_) => {}
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// Once the program has said that it is ready, passes that on, with `main` as the process to watch:
    /// true, and there is nothing more to wait for.
    pub fn pass_on(&self, main: i32) -> bool {
        let ready = self.has_come();
        if ready && let Err(error) = self.tell(main) {
            tracing::warn!("{error}");
        }
        ready
    }

    /// Waits until the program says that it is ready, or has ended; `main` is its process.
    ///
    /// # Errors
    /// Waiting fails. A manager who cannot be reached is no error: the container runs.
    pub fn wait(&self, container: BorrowedFd, main: i32) -> Result<()> {
        loop {
            let mut fds =
                [self.socket.as_fd(), container].map(|watched| PollFd::new(watched, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::kernel(WHAT, "poll", errno)),
            }
            let has_ended = fds[1].revents().is_some_and(|events| !events.is_empty());
            if self.pass_on(main) {
                self.wait_until_heard();
                return Ok(());
            }
            if has_ended {
                return Ok(());
            }
        }
    }

    fn tell(&self, main: i32) -> Result<()> {
        // In one message: once it knows the main process the manager may hear only that one.
        self.send(format!("READY=1\nMAINPID={main}").as_bytes(), None)
    }

    /// Has the manager close a pipe of ours when it has read everything so far (sd_notify_barrier(3)).
    fn wait_until_heard(&self) {
        let Ok((reader, writer)) = std::io::pipe() else { return };
        let sent = self.send(b"BARRIER=1", Some(writer.as_fd()));
        drop(writer);
        if let Err(error) = sent {
            tracing::debug!("{error}");
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout) {
                Err(Errno::EINTR) => {}
                Ok(0) => return tracing::debug!("the service manager does not acknowledge notifications"),
                _ => return,
            }
        }
    }

    fn send(&self, message: &[u8], fd: Option<BorrowedFd>) -> Result<()> {
        let failed = |call: &str, cause| Error::io(WHAT, &format!("{call} {}", self.host.display()), cause);
        let address = match self.host.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&self.host),
        };
        let socket = UnixDatagram::unbound().map_err(|cause| failed("socket for", cause))?;
        let connected = address.and_then(|address| socket.connect_addr(&address));
        connected.map_err(|cause| failed("connect", cause))?;
        let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        sys::send(socket.as_raw_fd(), message, &fds)
            .map(drop)
            .map_err(|errno| Error::kernel(WHAT, "sendmsg", Errno::from_raw(errno.0)))
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_line_of_its_own() {
        for message in ["READY=1", "STATUS=up\nREADY=1\n", "READY=1\nMAINPID=1"] {
            assert!(says_ready(message.as_bytes()), "{message}");
        }
        for message in ["", "READY=0", "STATUS=READY=1", "READY=10", "MAINPID=1"] {
            assert!(!says_ready(message.as_bytes()), "{message}");
        }
    }
}
