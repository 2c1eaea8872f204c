//! Our own binary, out of reach of the container.
//!
//! A process that is about to become the container's program is still us: through `/proc/PID/exe`
//! somebody in the container could open the runtime's file and write to it (CVE-2019-5736). Commands
//! that enter a container therefore execute themselves again from a copy that nobody can write to: a
//! detached read-only mount of the file, which costs two system calls, or, without the privilege to
//! make one, a sealed copy in memory.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use corten_init::sys::{self, MountAttr};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, Result};

const WHAT: &str = "cannot protect the runtime's own binary";
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);
/// statfs(2); libc has it as different types on its targets.
const ST_RDONLY: u64 = 1;
const EXE: &str = "/proc/self/exe";

/// Returns in a process whose binary nobody can write to; executes it if this one's is not so.
pub fn seal() -> Result<()> {
    let own = File::open(EXE).map_err(|e| Error::io(WHAT, &format!("open {EXE}"), e))?;
    if is_sealed(&own)? {
        return Ok(());
    }
    let copy = match read_only_mount() {
        Ok(mount) => mount,
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => copy_in_memory(own)?,
        Err(errno) => return Err(Error::kernel(WHAT, "open_tree", errno)),
    };
    let arguments: Vec<_> =
        std::env::args_os().filter_map(|argument| CString::new(argument.into_vec()).ok()).collect();
    let variables: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let entry = [name.into_vec(), value.into_vec()].join(&b'=');
            CString::new(entry).ok()
        })
        .collect();
    let path = CString::new(format!("/proc/self/fd/{}", copy.as_raw_fd())).unwrap_or_default();
    match nix::unistd::execve(&path, &arguments, &variables) {
        Ok(never) => match never {},
        Err(errno) => Err(Error::kernel(WHAT, "execve", errno)),
    }
}

fn is_sealed(own: &File) -> Result<bool> {
    // ST_RDONLY of statfs(2): nobody can open the file for writing through this mount.
    let (_, flags) = sys::statfs(own.as_raw_fd())
        .map_err(|errno| Error::kernel(WHAT, "fstatfs", Errno::from_raw(errno.0)))?;
    if flags & ST_RDONLY != 0 {
        return Ok(true);
    }
    // Only files in memory have seals; others answer EINVAL.
    Ok(fcntl(own.as_fd(), FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SEALS)))
}

fn read_only_mount() -> nix::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount =
        open_tree(rustix::fs::CWD, EXE, flags).map_err(|errno| Errno::from_raw(errno.raw_os_error()))?;
    let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    sys::mount_setattr(mount.as_raw_fd(), false, &attr).map_err(|errno| Errno::from_raw(errno.0))?;
    Ok(mount)
}

fn copy_in_memory(mut own: File) -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Where the sysctl vm.memfd_noexec is not 0, only what is made to be executed can be.
    let copy = match memfd_create("corten", flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        // Linux before 6.3.
        Err(Errno::EINVAL) => memfd_create("corten", flags),
        answer => answer,
    };
    let copy = copy.map_err(|errno| Error::kernel(WHAT, "memfd_create", errno))?;
    let mut copy = File::from(copy);
    std::io::copy(&mut own, &mut copy).map_err(|e| Error::io(WHAT, "write", e))?;
    let copy = OwnedFd::from(copy);
    fcntl(copy.as_fd(), FcntlArg::F_ADD_SEALS(SEALS)).map_err(|errno| Error::kernel(WHAT, "fcntl", errno))?;
    Ok(copy)
}
