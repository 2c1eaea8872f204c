//! Reading, writing and walking below a cgroup directory: relative to a descriptor, never
//! following a symbolic link, every descriptor close-on-exec.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::dir::{Dir as Listing, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, fstat};

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

pub(super) fn open(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    open_at(AT_FDCWD, path, flags)
}

pub(super) fn open_at<P: ?Sized + nix::NixPath>(
    dir: impl AsFd,
    path: &P,
    flags: OFlag,
) -> nix::Result<OwnedFd> {
    openat(dir, path, flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
}

/// A descriptor that is good for `*at` calls and `CLONE_INTO_CGROUP` only.
pub(super) fn open_dir(path: &Path) -> nix::Result<OwnedFd> {
    open(path, DIRECTORY)
}

pub(super) fn open_dir_at<P: ?Sized + nix::NixPath>(dir: impl AsFd, path: &P) -> nix::Result<OwnedFd> {
    open_at(dir, path, DIRECTORY)
}

/// The whole of a cgroup file.
pub(super) fn read<P: ?Sized + nix::NixPath>(dir: impl AsFd, name: &P) -> nix::Result<String> {
    let file = open_at(dir, name, OFlag::O_RDONLY)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match nix::unistd::read(&file, &mut chunk) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    // Cgroup files are ASCII but for device and interface names.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes `value` with one write(2), as every cgroup file demands.
pub(super) fn write<P: ?Sized + nix::NixPath>(dir: impl AsFd, name: &P, value: &str) -> nix::Result<()> {
    let file = open_at(dir, name, OFlag::O_WRONLY)?;
    loop {
        match nix::unistd::write(&file, value.as_bytes()) {
            // A v1 memory limit reclaims, and gives up when a signal comes.
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
            Ok(written) if written == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::EIO),
        }
    }
}

/// The value of `key` in a file of "key value" lines, such as `cgroup.events`.
pub(super) fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
}

/// Waits until `cgroup.events` in `dir` says `key value`. False if it did not until `deadline`.
pub(super) fn wait_event(dir: impl AsFd, key: &str, value: &str, deadline: Instant) -> nix::Result<bool> {
    let events = open_at(dir, "cgroup.events", OFlag::O_RDONLY)?;
    let mut buffer = [0; 512];
    loop {
        let length = match nix::sys::uio::pread(&events, &mut buffer, 0) {
            // The cgroup is gone: no process is in it, and none is frozen.
            Err(Errno::ENODEV) => return Ok(true),
            result => result?,
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        if value_of(&text, key) == Some(value) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Visits `top` and all cgroups below it: `enter` before the children of a cgroup, `leave` (with
/// the parent and the name) after them, not for `top` itself.
///
/// Holds one descriptor however deep the tree is: its depth is up to the container.
pub(super) fn walk(
    top: OwnedFd,
    mut enter: impl FnMut(&OwnedFd) -> nix::Result<()>,
    mut leave: impl FnMut(&OwnedFd, &CStr) -> nix::Result<()>,
) -> nix::Result<()> {
    let mut current = top;
    enter(&current)?;
    let mut pending = vec![children(&current)?];
    let mut names: Vec<CString> = Vec::new();
    while let Some(level) = pending.last_mut() {
        if let Some(name) = level.pop() {
            match open_dir_at(&current, name.as_c_str()) {
                Ok(child) => {
                    enter(&child)?;
                    pending.push(children(&child)?);
                    names.push(name);
                    current = child;
                }
                Err(errno) if is_gone(errno) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            pending.pop();
            if let Some(name) = names.pop() {
                current = open_dir_at(&current, "..")?;
                leave(&current, &name)?;
            }
        }
    }
    Ok(())
}

/// Somebody else removed the cgroup: its name is gone, or it is dead behind an open descriptor.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENODEV)
}

fn children(dir: &OwnedFd) -> nix::Result<Vec<CString>> {
    // kernfs counts sub-directories in the number of links: most cgroups have none, and listing
    // their hundred files is slow.
    if fstat(dir)?.st_nlink <= 2 {
        return Ok(Vec::new());
    }
    let mut listing = match Listing::openat(
        dir,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    ) {
        Err(errno) if is_gone(errno) => return Ok(Vec::new()),
        result => result?,
    };
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == Some(Type::Directory) && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
