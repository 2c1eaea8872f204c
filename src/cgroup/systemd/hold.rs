//! A process that keeps a new scope alive until the container's own is in it.

use std::os::fd::RawFd;

use corten_init::sys::{self, Side};
use nix::errno::Errno;
use nix::libc::SIGKILL;

use crate::error::{Error, Result};

/// The process; killed when this is dropped, and when we are.
#[derive(Debug)]
pub struct Hold {
    pid: i32,
    pidfd: RawFd,
}

impl Hold {
    pub(super) fn new() -> Result<Hold> {
        match sys::clone3(sys::CLONE_CLEAR_SIGHAND, None) {
            Ok(Side::Child) => corten_init::hold(),
            Ok(Side::Parent { pid, pidfd }) => Ok(Hold { pid, pidfd }),
            Err(errno) => {
                let what = "cannot start a process to hold the systemd unit";
                Err(Error::kernel(what, "clone3", Errno::from_raw(errno.0)))
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Our own child, which we have not waited for: the number is still its.
        let _ = sys::kill(self.pid, SIGKILL);
        let _ = sys::wait(self.pid, 0);
        sys::close(self.pidfd);
    }
}
