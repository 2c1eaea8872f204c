//! The runtime's side of a container's terminal: handing its master to an engine, or relaying between
//! it and the user's terminal.
//!
//! The terminal itself is made by the init. The relay never loses output, never spins and never waits
//! for one side while the other has something to do. The user's terminal always gets its modes back.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use corten_init::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::sys::stat::{Mode, fstat};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, write};

use crate::error::{Error, Kind, Result};

/// How long a receiver of descriptors may take to accept our connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How long a side that failed for now is left alone, and how long the terminal must have been silent
/// after the end of the container's process while others keep it open.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the container may take to notice that its input has ended.
const END_OF_FILE_PAUSE: Duration = Duration::from_secs(1);

/// Checks that terminal, console socket and foreground fit together, in runc's words.
pub fn check(terminal: bool, detach: bool, console_socket: Option<&Path>) -> Result<()> {
    let reason = match console_socket {
        None if detach && terminal => {
            "cannot allocate tty if corten will detach without setting console socket"
        }
        Some(_) if !detach || !terminal => {
            "cannot use console socket if corten will not detach or allocate tty"
        }
        _ => return Ok(()),
    };
    Err(Error::new(Kind::InvalidArgument, reason).at("/process/terminal"))
}

/// A connection to an engine that waits for one descriptor (`--console-socket`, `--pidfd-socket`).
#[derive(Debug)]
pub struct DescriptorSocket {
    socket: OwnedFd,
    what: String,
}

impl DescriptorSocket {
    /// Connects to the listening unix socket at `path`; `name` says in messages what it is
    /// ("console socket"). Done before anything is made, so that a wrong path costs nothing.
    pub fn connect(path: &Path, name: &str) -> Result<DescriptorSocket> {
        let what = format!("{name} {}", path.display());
        let refused = |call, errno| Error::kernel(format!("cannot connect to {what}"), call, errno);
        // sun_path holds 108 bytes, but a directory's descriptor makes every path short.
        let (parent, file) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(file)) if !parent.as_os_str().is_empty() => (parent, file),
            _ => (Path::new("."), path.as_os_str()),
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = open(parent, flags, Mode::empty()).map_err(|e| refused("open", e))?;
        let short = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(file);
        let address = UnixAddr::new(&short).map_err(|e| refused("connect", e))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket =
            socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(|e| refused("socket", e))?;
        let deadline = Instant::now() + CONNECT_PATIENCE;
        loop {
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Ok(DescriptorSocket { socket, what }),
                // Its queue of connections is full; poll(2) does not tell when it no longer is.
                Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(errno) => return Err(refused("connect", errno)),
            }
        }
    }

    /// Sends `fd` in one SCM_RIGHTS message of unix(7) with `name` as its data, as runc does, and
    /// closes the connection.
    pub fn send(self, fd: BorrowedFd, name: &str) -> Result<()> {
        sys::send(self.socket.as_raw_fd(), name.as_bytes(), &[fd.as_raw_fd()]).map(drop).map_err(|e| {
            Error::kernel(
                format!("cannot send a descriptor to {}", self.what),
                "sendmsg",
                Errno::from_raw(e.0),
            )
        })
    }
}

/// The user's terminal in raw mode, until it is dropped.
#[derive(Debug)]
struct HostTerminal {
    fd: OwnedFd,
    modes: Termios,
}

impl HostTerminal {
    /// Makes `fd` raw, except that it goes on to translate newlines: output that does not come from
    /// the container looks right then.
    fn of(fd: BorrowedFd) -> Option<HostTerminal> {
        let modes = tcgetattr(fd).ok()?;
        let mut raw = modes.clone();
        cfmakeraw(&mut raw);
        raw.output_flags |= OutputFlags::OPOST;
        let fd = fd.try_clone_to_owned().ok()?;
        tcsetattr(&fd, SetArg::TCSANOW, &raw).ok()?;
        Some(HostTerminal { fd, modes })
    }
}

impl Drop for HostTerminal {
    fn drop(&mut self) {
        // The terminal may be gone; nothing is to be restored then.
        tcsetattr(&self.fd, SetArg::TCSANOW, &self.modes).ok();
    }
}

/// The first answer about standard error, output and input, in runc's order: one of them may be the
/// user's terminal.
fn of_stdio<T>(question: impl Fn(BorrowedFd) -> Option<T>) -> Option<T> {
    let (stderr, stdout, stdin) = (std::io::stderr(), std::io::stdout(), std::io::stdin());
    [stderr.as_fd(), stdout.as_fd(), stdin.as_fd()].into_iter().find_map(question)
}

/// Readies a terminal that will be relayed, before the container's program can look at it: the size is
/// the user's, and newlines are left as they are, since the user's terminal translates them and a file
/// should not get them translated.
pub(super) fn prepare(master: BorrowedFd) -> Result<()> {
    let what = || "cannot prepare the terminal";
    let mut modes = tcgetattr(master).map_err(|e| Error::kernel(what(), "tcgetattr", e))?;
    modes.output_flags.remove(OutputFlags::ONLCR);
    tcsetattr(master, SetArg::TCSANOW, &modes).map_err(|e| Error::kernel(what(), "tcsetattr", e))?;
    if let Some(size) = of_stdio(|fd| rustix::termios::tcgetwinsize(fd).ok()) {
        // A terminal that refuses its size still works.
        rustix::termios::tcsetwinsize(master, size).ok();
    }
    Ok(())
}

/// Bytes on their way in one direction.
#[derive(Debug)]
struct Flow {
    buffer: Vec<u8>,
    start: usize,
}

impl Flow {
    const SIZE: usize = 32 << 10;

    fn new() -> Flow {
        Flow { buffer: Vec::with_capacity(Flow::SIZE), start: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    fn clear(&mut self) {
        self.buffer.clear();
        self.start = 0;
    }

    /// Reads into the empty buffer. `Ok(0)` is the end of the input.
    fn fill(&mut self, fd: BorrowedFd) -> nix::Result<usize> {
        self.clear();
        self.buffer.resize(Flow::SIZE, 0);
        let length = read(fd, &mut self.buffer);
        self.buffer.truncate(*length.as_ref().unwrap_or(&0));
        length
    }

    /// Writes once, at most what a pipe takes without blocking after poll(2) said so (PIPE_BUF).
    fn drain(&mut self, fd: BorrowedFd) -> nix::Result<()> {
        let rest = &self.buffer[self.start..];
        self.start += write(fd, &rest[..rest.len().min(4096)])?;
        Ok(())
    }
}

/// Copies between the master of a container's terminal and the user's input and output.
#[derive(Debug)]
pub(super) struct Relay {
    master: OwnedFd,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    host: Option<HostTerminal>,
    to_container: Flow,
    to_user: Flow,
    /// When to try again to read from a side that had nothing but an error: master, input. Where the
    /// input has ended: when to tell the container.
    retry: [Option<Instant>; 2],
    /// Nobody has the terminal open, and all its output was read.
    is_hung_up: bool,
    ended_line: bool,
}

const MASTER: usize = 0;
const INPUT: usize = 1;
const OUTPUT: usize = 2;

impl Relay {
    /// A relay between `master`, which was [`prepare`]d, and our standard input and output.
    pub(super) fn new(master: OwnedFd) -> Result<Relay> {
        let input = private(std::io::stdin().as_fd(), OFlag::O_RDONLY)?;
        let output = private(std::io::stdout().as_fd(), OFlag::O_WRONLY)?;
        let host = of_stdio(HostTerminal::of);
        let relay = Relay::between(master, input, output, host)?;
        relay.resize();
        Ok(relay)
    }

    fn between(
        master: OwnedFd,
        input: OwnedFd,
        output: OwnedFd,
        host: Option<HostTerminal>,
    ) -> Result<Relay> {
        let what = || "cannot relay the terminal";
        let flags = fcntl(&master, FcntlArg::F_GETFL).map_err(|e| Error::kernel(what(), "fcntl", e))?;
        let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
        fcntl(&master, FcntlArg::F_SETFL(flags)).map_err(|e| Error::kernel(what(), "fcntl", e))?;
        Ok(Relay {
            master,
            input: Some(input),
            output: Some(output),
            host,
            to_container: Flow::new(),
            to_user: Flow::new(),
            retry: [None; 2],
            is_hung_up: false,
            ended_line: true,
        })
    }

    /// Gives the container's terminal the size of the user's.
    pub(super) fn resize(&self) {
        if let Some(host) = &self.host
            && let Ok(size) = rustix::termios::tcgetwinsize(&host.fd)
        {
            // A terminal that refuses its size still works.
            rustix::termios::tcsetwinsize(&self.master, size).ok();
        }
    }

    /// Waits until something happens, at most until `deadline`, and copies what can be copied. Tells
    /// for each of `watched` whether it is readable.
    pub(super) fn step<const N: usize>(
        &mut self,
        watched: [BorrowedFd; N],
        deadline: Option<Instant>,
    ) -> Result<[bool; N]> {
        let now = Instant::now();
        let has_ended = self.input.is_none() && self.retry[INPUT].is_some_and(|retry| retry <= now);
        if has_ended && self.to_container.is_empty() {
            self.type_end_of_file();
        }
        let is_due = |side: usize| self.retry[side].is_none_or(|retry| retry <= now);
        let reads_master = self.to_user.is_empty() && is_due(MASTER);
        let mut wanted = [PollFlags::empty(); 3];
        wanted[MASTER].set(PollFlags::POLLIN, reads_master);
        wanted[MASTER].set(PollFlags::POLLOUT, !self.to_container.is_empty());
        wanted[INPUT].set(PollFlags::POLLIN, self.to_container.is_empty() && is_due(INPUT));
        wanted[OUTPUT].set(PollFlags::POLLOUT, !self.to_user.is_empty());

        let sides = [Some(&self.master), self.input.as_ref(), self.output.as_ref()];
        let mut fds: Vec<PollFd> = watched.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        let places: [Option<usize>; 3] = std::array::from_fn(|side| {
            // Asking for nothing would still report a hangup, again and again.
            let fd = sides[side].filter(|_| !wanted[side].is_empty())?;
            fds.push(PollFd::new(fd.as_fd(), wanted[side]));
            Some(fds.len() - 1)
        });
        let retries = self.retry.iter().flatten().filter(|retry| **retry > now);
        match poll(&mut fds, patience(retries.chain(&deadline).min().copied())) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::kernel("cannot relay the terminal", "poll", errno)),
        }
        let events = |index: usize| fds[index].revents().unwrap_or(PollFlags::empty());
        let [master, input, output] = places.map(|place| place.map_or(PollFlags::empty(), events));
        let ready = std::array::from_fn(|index| !events(index).is_empty());
        drop(fds);

        if !input.is_empty() {
            self.read_input();
        }
        if !output.is_empty() {
            self.write_output();
        }
        if !master.is_empty() && !self.to_container.is_empty() {
            self.write_master(master);
        }
        if master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) && reads_master {
            self.read_master();
        }
        Ok(ready)
    }

    fn read_input(&mut self) {
        let Some(input) = &self.input else { return };
        match self.to_container.fill(input.as_fd()) {
            Ok(0) => {
                self.input = None;
                self.retry[INPUT] = Some(Instant::now());
            }
            Ok(_) => self.ended_line = self.to_container.buffer.ends_with(b"\n"),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // We are in the background of the user's terminal, and may come back.
            Err(Errno::EIO) => self.retry[INPUT] = Some(Instant::now() + PAUSE),
            Err(_) => {
                self.input = None;
                self.retry[INPUT] = None;
            }
        }
    }

    /// A terminal has no end of file but the one that is typed: twice behind an unfinished line, the
    /// first only sends the line (termios(3), VEOF). A program that changes the terminal's modes throws
    /// away what was typed before, so it is typed again and again, as an end of file stays one.
    fn type_end_of_file(&mut self) {
        let typed: &[u8] = if self.ended_line { b"\x04" } else { b"\x04\x04" };
        self.to_container.clear();
        self.to_container.buffer.extend_from_slice(typed);
        self.ended_line = true;
        self.retry[INPUT] = Some(Instant::now() + END_OF_FILE_PAUSE);
    }

    fn write_output(&mut self) {
        let Some(output) = &self.output else { return };
        match self.to_user.drain(output.as_fd()) {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Nobody reads any more; the container must not notice.
            Err(_) => {
                self.output = None;
                self.to_user.clear();
            }
        }
    }

    fn write_master(&mut self, events: PollFlags) {
        match self.to_container.drain(self.master.as_fd()) {
            Ok(()) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if !events.contains(PollFlags::POLLHUP) => {}
            Err(_) => self.to_container.clear(),
        }
    }

    fn read_master(&mut self) {
        match self.to_user.fill(self.master.as_fd()) {
            Ok(0) | Err(Errno::EIO) => {
                // A process of the container may open it again.
                self.is_hung_up = true;
                self.retry[MASTER] = Some(Instant::now() + PAUSE);
            }
            Ok(_) => {
                self.is_hung_up = false;
                if self.output.is_none() {
                    self.to_user.clear();
                }
            }
            Err(_) => {}
        }
    }

    /// Copies what the container's process printed before it ended. `stops` is asked whenever `signals`
    /// is readable and ends it.
    pub(super) fn finish(mut self, signals: BorrowedFd, mut stops: impl FnMut() -> bool) -> Result<()> {
        self.input = None;
        self.to_container.clear();
        self.retry = [None; 2];
        self.is_hung_up = false;
        let mut silence = Instant::now() + PAUSE;
        loop {
            let waits = !self.to_user.is_empty();
            if !waits && (self.is_hung_up || Instant::now() >= silence) {
                return Ok(());
            }
            let [signalled] = self.step([signals], (!waits).then_some(silence))?;
            if signalled && stops() {
                return Ok(());
            }
            if !self.to_user.is_empty() {
                silence = Instant::now() + PAUSE;
            }
        }
    }
}

/// As a timeout of poll(2).
fn patience(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    // A millisecond more, or the last round would spin.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// Our own open file description of a pipe or terminal, which may be O_NONBLOCK without disturbing
/// those who share it with us. Files are never waited for; they share their position.
fn private(fd: BorrowedFd, access: OFlag) -> Result<OwnedFd> {
    let kind = fstat(fd).map_or(0, |stat| stat.st_mode & libc::S_IFMT);
    if [libc::S_IFIFO, libc::S_IFCHR].contains(&kind) {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        // Somebody else's terminal (su) cannot be opened, only used.
        if let Ok(own) = open(path.as_str(), flags, Mode::empty()) {
            return Ok(own);
        }
    }
    fd.try_clone_to_owned().map_err(|e| Error::io("cannot relay the terminal", "fcntl", e))
}

#[cfg(test)]
mod tests;
