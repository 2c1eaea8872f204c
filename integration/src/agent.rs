//! A seccomp agent: the socket of `linux.seccomp.listenerPath`.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

use crate::host::limit;
use crate::invocation::readable_within;

/// Listens where a runtime sends the descriptor of a filter's notifications.
#[derive(Debug)]
pub struct Agent {
    listener: UnixListener,
    path: PathBuf,
}

impl Agent {
    /// Listens on a socket in this directory.
    pub fn new(dir: &Path) -> Agent {
        let path = dir.join(crate::rootfs::unique("agent"));
        let listener = UnixListener::bind(&path).expect("bind an agent's socket");
        Agent { listener, path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The container process state, and the descriptors that came with it. Panics when nothing comes.
    #[track_caller]
    pub fn receive(&self) -> (Value, Vec<OwnedFd>) {
        assert!(readable_within(&self.listener, limit()), "nobody connects to the agent");
        let (stream, _) = self.listener.accept().expect("accept");
        let (mut text, mut fds) = (Vec::new(), Vec::new());
        loop {
            // It need not close the connection.
            if let Ok(state) = serde_json::from_slice(&text) {
                return (state, fds);
            }
            assert!(readable_within(&stream, limit()), "the runtime does not send a whole state");
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut buffer = [0; 4096];
            let mut iov = [IoSliceMut::new(&mut buffer)];
            let received =
                recvmsg(&stream, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC).expect("recvmsg");
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            assert!(received.bytes > 0, "this is no state: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&buffer[..received.bytes]);
        }
    }
}
