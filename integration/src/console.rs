//! Terminals: the socket a runtime sends a pty master to, and ptys of our own.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::host::limit;
use crate::invocation::readable_within;

/// What `--console-socket` names.
#[derive(Debug)]
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    /// Listens on a socket in this directory.
    pub fn new(dir: &Path) -> ConsoleSocket {
        let path = dir.join(crate::rootfs::unique("console"));
        let listener = UnixListener::bind(&path).expect("bind a console socket");
        ConsoleSocket { listener, path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The one descriptor that the runtime sends. Panics when none comes.
    #[track_caller]
    pub fn receive(&self) -> Terminal {
        assert!(readable_within(&self.listener, limit()), "nobody connects to the console socket");
        let (stream, _) = self.listener.accept().expect("accept");
        assert!(readable_within(&stream, limit()), "nothing is sent to the console socket");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 4096];
        let mut iov = [IoSliceMut::new(&mut name)];
        recvmsg(&stream, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC).expect("recvmsg");
        let mut fds: Vec<OwnedFd> = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                fds.extend(received);
            }
        }
        assert_eq!(fds.len(), 1, "one descriptor comes through the console socket");
        Terminal { master: File::from(fds.remove(0)), seen: String::new() }
    }
}

/// The master side of a pty.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    seen: String,
}

impl Terminal {
    /// A new pty: this side, and the slave.
    pub fn open() -> (Terminal, OwnedFd) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).expect("open a pty");
        (Terminal { master: File::from(master), seen: String::new() }, slave)
    }

    /// Types.
    pub fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("write to a terminal");
    }

    /// Reads until the text has come; returns all that came so far. Panics when it does not come.
    #[track_caller]
    pub fn read_until(&mut self, text: &str) -> String {
        let end = Instant::now() + limit();
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let came = readable_within(&self.master, left) && self.read_some();
            assert!(came, "{text:?} does not come through the terminal, only {:?}", self.seen);
        }
        self.seen.clone()
    }

    /// Reads until the other side is closed; returns all that came.
    #[track_caller]
    pub fn read_to_end(&mut self) -> String {
        let end = Instant::now() + limit();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            assert!(readable_within(&self.master, left), "the terminal stays open; it says {:?}", self.seen);
            if !self.read_some() {
                return self.seen.clone();
            }
        }
    }

    fn read_some(&mut self) -> bool {
        let mut buffer = [0; 4096];
        // EIO is how a pty says that no slave is open any more.
        let n = self.master.read(&mut buffer).unwrap_or(0);
        self.seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        n > 0
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(self.master.as_fd()).expect("window size");
        (size.ws_col, size.ws_row)
    }

    /// Changes columns and rows, which sends SIGWINCH to the foreground group.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.as_fd(), size).expect("set the window size");
    }

    /// Whether the terminal is in raw mode.
    pub fn is_raw(&self) -> bool {
        let modes = rustix::termios::tcgetattr(self.master.as_fd()).expect("tcgetattr").local_modes;
        !modes.intersects(rustix::termios::LocalModes::ICANON | rustix::termios::LocalModes::ECHO)
    }
}
