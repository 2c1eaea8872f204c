//! Device nodes and the links beside them.

use core::ffi::CStr;

use crate::mounts;
use crate::paths::{self, Walk};
use crate::program::{Called, Fault, Program, Slot, Text};
use crate::sys::{self, Errno};

/// Makes a node. One that exists already must be the same device: an image may not choose what
/// /dev/null is.
pub fn make(program: &Program, path: Text, mode: u32, device: u64, owner: (u32, u32)) -> Result<(), Fault> {
    let (dir, name) = paths::parent(program.slot(Slot::ROOT), program.text(path), 0o755)?;
    let made = make_in(dir, name, mode, device, owner);
    sys::close(dir);
    made
}

fn make_in(dir: i32, name: &CStr, mode: u32, device: u64, (uid, gid): (u32, u32)) -> Result<(), Fault> {
    match sys::mknodat(dir, name, mode, device) {
        Ok(()) | Err(Errno(libc::EEXIST)) => {}
        Err(errno) => return Err(Fault { call: "mknod", errno }),
    }
    let node = sys::openat(dir, name, libc::O_PATH | libc::O_NOFOLLOW, 0).called("open")?;
    let settled = sys::statat(node, c"").called("fstat").and_then(|stat| {
        if stat.st_mode & libc::S_IFMT != mode & libc::S_IFMT
            || (mode & libc::S_IFMT != libc::S_IFIFO && stat.st_rdev != device)
        {
            return Err(Fault::new("mknod", libc::EEXIST));
        }
        if (stat.st_uid, stat.st_gid) != (uid, gid) {
            sys::chown(node, uid, gid).called("chown")?;
        }
        if stat.st_mode & 0o7777 != mode & 0o7777 {
            let mut link = [0; paths::FD_NAME];
            sys::fchmodat(sys::AT_FDCWD, paths::fd_name(node, &mut link), mode & 0o7777).called("chmod")?;
        }
        Ok(())
    });
    sys::close(node);
    settled
}

/// Binds the host's node into the root, after proving that it is the device asked for.
pub fn bind(
    program: &Program,
    source: Text,
    path: Text,
    mode: u32,
    device: u64,
    mount_api: bool,
) -> Result<(), Fault> {
    let node = sys::open(program.text(source), libc::O_PATH).called("open")?;
    let stat = sys::statat(node, c"").called("fstat")?;
    if stat.st_mode & libc::S_IFMT != mode & libc::S_IFMT || stat.st_rdev != device {
        sys::close(node);
        return Err(Fault::new("open", libc::ENODEV));
    }
    let bound =
        paths::resolve(program.slot(Slot::ROOT), program.text(path), Walk::file()).and_then(|target| {
            let bound = mounts::bind(node, target, mount_api);
            sys::close(target);
            bound
        });
    sys::close(node);
    bound
}

/// Makes a symbolic link; with `replace`, in the place of whatever is there.
pub fn link(program: &Program, content: Text, path: Text, replace: bool) -> Result<(), Fault> {
    let (dir, name) = paths::parent(program.slot(Slot::ROOT), program.text(path), 0o755)?;
    let content = program.text(content);
    let made = match sys::symlinkat(content, dir, name) {
        Err(Errno(libc::EEXIST)) if replace && !is_link(dir, name, content) => sys::unlinkat(dir, name, 0)
            .called("unlink")
            .and_then(|()| sys::symlinkat(content, dir, name).called("symlink")),
        Err(Errno(libc::EEXIST)) => Ok(()),
        answer => answer.called("symlink"),
    };
    sys::close(dir);
    made
}

fn is_link(dir: i32, name: &CStr, content: &CStr) -> bool {
    let mut buffer = [0; 256];
    sys::readlinkat(dir, name, &mut buffer).is_ok_and(|length| buffer[..length] == *content.to_bytes())
}
