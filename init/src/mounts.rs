//! Mounts, by descriptor: a mount is made or cloned detached, given its attributes, and only then
//! put onto a mount point that was opened below the root. What is seen in the container is complete
//! from its first instant, and no name is resolved twice.

use core::ffi::CStr;

use libc::{AT_EMPTY_PATH, O_DIRECTORY, O_PATH};

use crate::paths::{self, FD_NAME, Walk, fd_name};
use crate::program::{Called, Fault, Op, Point, Program, Slot, Text, Words};
use crate::sys::{self, AT_FDCWD, AT_RECURSIVE, Errno, MountAttr, OPEN_TREE_CLONE};

const CLONE_HERE: u32 = OPEN_TREE_CLONE | AT_EMPTY_PATH as u32;
const RDONLY: MountAttr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, userns: 0 };
/// The `MS_*` flags that a bind remount must repeat to keep them; statfs(2) tells them with the same values.
const KEPT: u64 = libc::MS_RDONLY
    | libc::MS_NOSUID
    | libc::MS_NODEV
    | libc::MS_NOEXEC
    | libc::MS_NOATIME
    | libc::MS_NODIRATIME;
/// `ST_RELATIME` and `ST_NOSYMFOLLOW` of statfs(2), whose mount(2) flags have other values.
const ST_RELATIME: u64 = 0x1000;
const ST_NOSYMFOLLOW: u64 = 0x2000;
/// `MS_NOSYMFOLLOW` of mount(2). Linux 5.10; libc has no name for it.
const MS_NOSYMFOLLOW: u64 = 0x100;

/// Makes the mount that `path` is on private. Only the root of a mount can be asked, so we climb.
pub fn private_parent(path: &CStr) -> Result<(), Fault> {
    let mut here = sys::open(path, O_PATH | O_DIRECTORY).called("open")?;
    loop {
        match set_propagation(here, libc::MS_PRIVATE) {
            Err(Fault { errno: Errno(libc::EINVAL), .. }) => {
                let above = sys::openat(here, c"..", O_PATH | O_DIRECTORY, 0).called("open")?;
                sys::close(here);
                here = above;
            }
            answer => {
                sys::close(here);
                return answer;
            }
        }
    }
}

/// Changes the propagation of the mount whose root `fd` is; `flags` are those of mount(2).
pub fn set_propagation(fd: i32, flags: u64) -> Result<(), Fault> {
    let attr = MountAttr { propagation: flags & !libc::MS_REC, ..MountAttr::default() };
    match sys::mount_setattr(fd, flags & libc::MS_REC != 0, &attr) {
        Err(Errno(libc::ENOSYS | libc::EPERM)) => {
            let mut name = [0; FD_NAME];
            sys::mount(None, fd_name(fd, &mut name), None, flags, None).called("mount")
        }
        answer => answer.called("mount_setattr"),
    }
}

/// Binds the root file system onto itself, so that it is a mount, and opens it.
pub fn open_root(path: &CStr, mount_api: bool) -> Result<i32, Fault> {
    if !mount_api {
        sys::mount(Some(path), path, None, libc::MS_BIND | libc::MS_REC, None).called("mount")?;
        return sys::open(path, O_PATH | O_DIRECTORY).called("open");
    }
    let tree = sys::open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | AT_RECURSIVE).called("open_tree")?;
    let under = sys::open(path, O_PATH | O_DIRECTORY).called("open")?;
    let moved = sys::move_mount(tree, under).called("move_mount");
    sys::close(under);
    moved.map(|()| tree)
}

/// open_tree(2) of a path of the host.
pub fn clone(source: &CStr, recursive: bool) -> Result<i32, Fault> {
    let recursive = if recursive { AT_RECURSIVE } else { 0 };
    sys::open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | recursive).called("open_tree")
}

/// A new file system, detached. When it cannot be had, `said` is why.
pub fn create(
    program: &Program,
    kind: Text,
    source: Text,
    options: Words,
    attributes: u64,
    said: &mut Said,
) -> Result<i32, Fault> {
    let fs = sys::fsopen(program.text(kind)).called("fsopen")?;
    let made =
        configure(program, fs, source, options).and_then(|()| sys::fsmount(fs, attributes).called("fsmount"));
    if made.is_err() {
        // One message for each read, the oldest first, until ENODATA: see fsopen(2).
        while let Ok(length @ 1..) = sys::read(fs, &mut said.bytes) {
            said.length = length;
            if said.bytes[0] == b'e' {
                break;
            }
        }
    }
    sys::close(fs);
    made
}

/// What the kernel has to say about a mount that it refuses, beyond an errno.
pub struct Said {
    pub bytes: [u8; MOST_SAID],
    pub length: usize,
}

const MOST_SAID: usize = 256;

impl Said {
    /// The kernel said nothing, or was not asked.
    pub const NOTHING: Said = Said { bytes: [0; MOST_SAID], length: 0 };
}

fn configure(program: &Program, fs: i32, source: Text, options: Words) -> Result<(), Fault> {
    if source.len > 0 {
        sys::fsconfig_string(fs, c"source", program.text(source)).called("fsconfig")?;
    }
    for pair in program.words(options).chunks_exact(2) {
        let key = program.text(pair[0]);
        if pair[1].len == 0 {
            sys::fsconfig_flag(fs, key).called("fsconfig")?;
        } else {
            sys::fsconfig_string(fs, key, program.text(pair[1])).called("fsconfig")?;
        }
    }
    sys::fsconfig_create(fs).called("fsconfig")
}

/// Opens the mount point for `mount` below the root, making it where it is missing.
fn point(
    program: &Program,
    mount: Option<i32>,
    target: Text,
    point: Point,
    in_proc: bool,
) -> Result<i32, Fault> {
    let file = match (point, mount) {
        (Point::File, _) => true,
        (Point::Same, Some(mount)) => {
            let stat = sys::statat(mount, c"").called("fstat")?;
            stat.st_mode & libc::S_IFMT != libc::S_IFDIR
        }
        _ => false,
    };
    let how =
        Walk { plain: point == Point::Ordinary, ..if file { Walk::file() } else { Walk::directory(0o755) } };
    let found = paths::resolve(program.slot(Slot::ROOT), program.text(target), how)?;
    let fault = if !in_proc && sys::statfs(found).called("fstatfs")?.0 == libc::PROC_SUPER_MAGIC as i64 {
        // A path that leads into procfs through a symbolic link: what would be covered there is
        // read by us and by others as the kernel's word (CVE-2019-16884, CVE-2025-52881).
        Some(libc::EXDEV)
    } else if point == Point::Ordinary {
        let stat = sys::statat(found, c"").called("fstat")?;
        (stat.st_mode & libc::S_IFMT != libc::S_IFDIR).then_some(libc::ENOTDIR)
    } else {
        None
    };
    match fault {
        Some(errno) => {
            sys::close(found);
            Err(Fault::new("open", errno))
        }
        None => Ok(found),
    }
}

/// Puts the mount that was built onto its place.
pub fn attach(program: &Program, target: Text, kind: Point, in_proc: bool) -> Result<(), Fault> {
    let mount = program.slot(Slot::MOUNT);
    let at = point(program, Some(mount), target, kind, in_proc)?;
    let moved = sys::move_mount(mount, at).called("move_mount");
    sys::close(at);
    sys::close(mount);
    program.set(Slot::MOUNT, -1);
    moved
}

/// Opens what will be covered, if it is there.
pub fn remember(program: &Program, target: Text) -> Result<(), Fault> {
    program.set(Slot::MOUNT, find_if_there(program, target)?);
    Ok(())
}

/// `target` as a descriptor; -1: it does not exist.
fn find_if_there(program: &Program, target: Text) -> Result<i32, Fault> {
    match paths::find(program.slot(Slot::ROOT), program.text(target)) {
        Err(Fault { errno: Errno(libc::ENOENT), .. }) => Ok(-1),
        answer => answer,
    }
}

/// The top of a new file system and the directory that it covers or will cover; `None`: there is no
/// such directory.
pub fn new_and_old(program: &Program, target: Text, covered: bool) -> Result<Option<(i32, i32)>, Fault> {
    let old = if covered { program.slot(Slot::MOUNT) } else { find_if_there(program, target)? };
    if old < 0 {
        return Ok(None);
    }
    let flags = libc::O_RDONLY | O_DIRECTORY;
    let top = if covered {
        program.set(Slot::MOUNT, -1);
        paths::find(program.slot(Slot::ROOT), program.text(target)).and_then(|path| {
            let top = sys::openat(path, c".", flags, 0).called("open");
            sys::close(path);
            top
        })
    } else {
        sys::openat(program.slot(Slot::MOUNT), c".", flags, 0).called("open")
    };
    match top {
        Ok(top) => Ok(Some((top, old))),
        Err(fault) => {
            sys::close(old);
            Err(fault)
        }
    }
}

/// Gives the tmpfs that was made the mode of the directory that it covers.
pub fn keep_mode(program: &Program, target: Text, covered: bool) -> Result<(), Fault> {
    let Some((new, old)) = new_and_old(program, target, covered)? else { return Ok(()) };
    let mode = sys::statat(old, c"").called("fstat").map(|stat| stat.st_mode & 0o7777);
    let kept = mode.and_then(|mode| sys::fchmod(new, mode).called("fchmod"));
    sys::close(new);
    sys::close(old);
    kept
}

/// mount(2) by name of descriptor, for kernels before 5.2 and for the flags that fsconfig(2) lacks.
pub fn legacy(program: &Program, op: Op) -> Result<(), Fault> {
    let Op::LegacyMount { source, target, kind, flags, data, point: at, in_proc } = op else { return Ok(()) };
    let text = |text: Text| (text.len > 0).then(|| program.text(text));
    let mut source = text(source);
    let mut name = [0; FD_NAME];
    let mut opened = -1;
    if let (Some(path), true) = (source, flags & libc::MS_BIND != 0 && flags & libc::MS_REMOUNT == 0) {
        opened = sys::open(path, O_PATH).called("open")?;
        source = Some(fd_name(opened, &mut name));
    }
    let at = point(program, (opened >= 0).then_some(opened), target, at, in_proc)?;
    let mut here = [0; FD_NAME];
    let done = sys::mount(source, fd_name(at, &mut here), text(kind), flags, text(data)).called("mount");
    sys::close(at);
    if opened >= 0 {
        sys::close(opened);
    }
    done
}

/// Changes the propagation of the mount at `target`, or adds and takes away other `MS_*` flags.
pub fn remount(program: &Program, target: Text, flags: u64, clear: u64) -> Result<(), Fault> {
    let at = paths::find(program.slot(Slot::ROOT), program.text(target))?;
    let done = remount_here(at, flags, clear);
    sys::close(at);
    done
}

/// A user namespace may not take away what the flags of the source protect, and mount(2) takes away
/// what it is not told: flags that nobody speaks of are repeated.
fn remount_here(at: i32, flags: u64, clear: u64) -> Result<(), Fault> {
    let mut name = [0; FD_NAME];
    let remounted =
        if flags & (libc::MS_SHARED | libc::MS_SLAVE | libc::MS_PRIVATE | libc::MS_UNBINDABLE) != 0 {
            sys::mount(None, fd_name(at, &mut name), None, flags, None)
        } else {
            let (_, has) = sys::statfs(at).called("fstatfs")?;
            // Without any word on access times the kernel would keep a noatime that is to go.
            let relatime = has & ST_RELATIME != 0 || clear & libc::MS_NOATIME != 0;
            let relatime = if relatime { libc::MS_RELATIME } else { 0 };
            let nosymfollow = if has & ST_NOSYMFOLLOW != 0 { MS_NOSYMFOLLOW } else { 0 };
            let kept = ((has & KEPT) | relatime | nosymfollow) & !clear;
            let flags = flags | kept | libc::MS_REMOUNT | libc::MS_BIND;
            sys::mount(None, fd_name(at, &mut name), None, flags, None)
        };
    remounted.called("mount")
}

/// Gives the mount of the root attributes.
pub fn set_root(program: &Program, attr: &MountAttr, mount_api: bool) -> Result<(), Fault> {
    let root = program.slot(Slot::ROOT);
    if mount_api {
        return sys::mount_setattr(root, false, attr).called("mount_setattr");
    }
    remount_here(root, if attr.set & libc::MOUNT_ATTR_RDONLY != 0 { libc::MS_RDONLY } else { 0 }, 0)
}

/// Opens a path that is to be covered. `None`: it does not exist, and there is nothing to cover.
fn cover(program: &Program, path: Text) -> Result<Option<i32>, Fault> {
    match paths::find(program.slot(Slot::ROOT), program.text(path)) {
        Ok(found) => Ok(Some(found)),
        // Only a missing target may be passed over: anything else would leave the path in the open.
        Err(Fault { errno: Errno(libc::ENOENT | libc::ENOTDIR), .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Hides a path.
pub fn mask(program: &Program, path: Text, mount_api: bool, label: Text) -> Result<(), Fault> {
    let Some(target) = cover(program, path)? else { return Ok(()) };
    let directory = sys::statat(target, c"").called("fstat")?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let done = match (directory, mount_api) {
        (true, true) => empty(program, label).and_then(|mount| move_here(mount, target)),
        (true, false) => {
            let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
            let mut name = [0; FD_NAME];
            let data = (label.len > 0).then(|| program.text(label));
            sys::mount(Some(c"tmpfs"), fd_name(target, &mut name), Some(c"tmpfs"), flags, data)
                .called("mount")
        }
        (false, _) => null(program).and_then(|null| bind(null, target, mount_api)),
    };
    sys::close(target);
    done
}

fn move_here(mount: i32, target: i32) -> Result<(), Fault> {
    let moved = sys::move_mount(mount, target).called("move_mount");
    sys::close(mount);
    moved
}

/// A mount of the one empty directory that covers all masked directories: thousands of containers
/// with a tmpfs each for a dozen masks wear out the kernel's list of file systems.
fn empty(program: &Program, label: Text) -> Result<i32, Fault> {
    let first = program.slot(Slot::EMPTY);
    if first >= 0 {
        return sys::open_tree(first, c"", CLONE_HERE).called("open_tree");
    }
    let fs = sys::fsopen(c"tmpfs").called("fsopen")?;
    let labelled =
        if label.len > 0 { sys::fsconfig_string(fs, c"context", program.text(label)) } else { Ok(()) };
    let made = labelled
        .and_then(|()| sys::fsconfig_string(fs, c"nr_inodes", c"2"))
        .and_then(|()| sys::fsconfig_string(fs, c"mode", c"755"))
        .and_then(|()| sys::fsconfig_flag(fs, c"ro"))
        .and_then(|()| sys::fsconfig_create(fs))
        .called("fsconfig")
        .and_then(|()| {
            let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            sys::fsmount(fs, attributes | libc::MOUNT_ATTR_NOEXEC).called("fsmount")
        });
    sys::close(fs);
    let mount = made?;
    // The descriptor stays the mount's after it is moved into place, and is what later masks clone.
    program.set(Slot::EMPTY, mount);
    sys::fcntl(mount, libc::F_DUPFD_CLOEXEC, 3).called("fcntl")
}

/// The host's /dev/null, proven to be it: the container's might be a link to anything (CVE-2025-31133).
fn null(program: &Program) -> Result<i32, Fault> {
    if program.slot(Slot::NULL) < 0 {
        let null = sys::open(c"/dev/null", O_PATH | libc::O_NOFOLLOW).called("open")?;
        let stat = sys::statat(null, c"").called("fstat")?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFCHR || stat.st_rdev != libc::makedev(1, 3) {
            return Err(Fault::new("open", libc::ENODEV));
        }
        program.set(Slot::NULL, null);
    }
    Ok(program.slot(Slot::NULL))
}

/// Binds what one descriptor stands for onto another.
pub fn bind(source: i32, target: i32, mount_api: bool) -> Result<(), Fault> {
    if mount_api {
        return sys::open_tree(source, c"", CLONE_HERE)
            .called("open_tree")
            .and_then(|tree| move_here(tree, target));
    }
    let (mut from, mut to) = ([0; FD_NAME], [0; FD_NAME]);
    let (from, to) = (fd_name(source, &mut from), fd_name(target, &mut to));
    sys::mount(Some(from), to, None, libc::MS_BIND, None).called("mount")
}

/// Makes a path read-only by binding it onto itself, with what is mounted below it.
pub fn readonly(program: &Program, path: Text, mount_api: bool) -> Result<(), Fault> {
    let Some(target) = cover(program, path)? else { return Ok(()) };
    let done = if mount_api {
        sys::open_tree(target, c"", CLONE_HERE | AT_RECURSIVE).called("open_tree").and_then(|tree| {
            match sys::mount_setattr(tree, false, &RDONLY).called("mount_setattr") {
                Ok(()) => move_here(tree, target),
                Err(fault) => {
                    sys::close(tree);
                    Err(fault)
                }
            }
        })
    } else {
        let (mut from, mut to) = ([0; FD_NAME], [0; FD_NAME]);
        let (from, to) = (fd_name(target, &mut from), fd_name(target, &mut to));
        sys::mount(Some(from), to, None, libc::MS_BIND | libc::MS_REC, None)
            .called("mount")
            // The descriptor still stands for what is below the new mount.
            .and_then(|()| remount(program, path, libc::MS_RDONLY, 0))
    };
    sys::close(target);
    done
}

/// Makes the container's root the root of the mount namespace, and lets go of the host's.
pub fn pivot(program: &Program) -> Result<(), Fault> {
    let old = sys::open(c"/", O_PATH | O_DIRECTORY).called("open")?;
    sys::fchdir(program.slot(Slot::ROOT)).called("fchdir")?;
    sys::pivot_root(c".", c".").called("pivot_root")?;
    sys::fchdir(old).called("fchdir")?;
    // The host must not see its own root go: nothing may propagate from here.
    sys::mount(None, c".", None, libc::MS_SLAVE | libc::MS_REC, None).called("mount")?;
    sys::umount(c".", libc::MNT_DETACH).called("umount")?;
    sys::close(old);
    sys::chdir(c"/").called("chdir")
}

/// Moves the container's root over the host's, for a root that pivot_root(2) cannot replace.
pub fn move_root(program: &Program) -> Result<(), Fault> {
    sys::fchdir(program.slot(Slot::ROOT)).called("fchdir")?;
    sys::mount(Some(c"."), c"/", None, libc::MS_MOVE, None).called("mount")?;
    sys::chroot(c".").called("chroot")?;
    sys::chdir(c"/").called("chdir")
}

/// Unmounts a procfs or sysfs of the host before its root is hidden but not gone; where the kernel
/// has it locked, covers it.
pub fn discard(path: &CStr) -> Result<(), Fault> {
    sys::mount(None, path, None, libc::MS_SLAVE | libc::MS_REC, None).called("mount")?;
    match sys::umount(path, libc::MNT_DETACH) {
        Err(Errno(libc::EINVAL | libc::EPERM)) => {
            sys::mount(Some(c"tmpfs"), path, Some(c"tmpfs"), 0, None).called("mount")
        }
        answer => answer.called("umount"),
    }
}
