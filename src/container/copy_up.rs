//! Fills a new tmpfs from the directory it is going to cover: the mount option `tmpcopyup`.
//!
//! What is copied belongs to the container, and another container may be changing it meanwhile. So
//! everything goes by descriptors, no symbolic link is followed, no mount is entered, and nothing is
//! opened for its content that did not look like a regular file. The tmpfs is attached nowhere yet:
//! nobody else can reach into it.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat, ftruncate,
    futimens, linkat, mkdirat, mknodat, openat, openat2, readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno as Refusal;

use crate::error::{Error, Kind, Result};

/// How deep directories may nest; each level holds two descriptors open.
const DEEPEST: usize = 128;

/// The most the kernel gives for a list of names or for a value (limits.h of xattr(7)).
const XATTR_MAX: usize = 64 << 10;

/// Whoever starts with one of these is copied.
const XATTRS: [&[u8]; 3] = [b"user.", b"security.capability", b"system.posix_acl_"];

/// Copies all of the directory `from` into the file system whose root is `to`: directories, files,
/// symbolic links, fifos and devices, with their modes, owners, times, hard links and extended attributes.
/// `to` itself becomes like `from`. Both may be `O_PATH` descriptors.
///
/// An owner who is nobody in our user namespace, a device we may not make, an attribute the tmpfs does
/// not take, and sockets are left out. A file that loses its owner loses its set-id bits, too.
///
/// # Errors
/// The tmpfs is full, a file cannot be read, directories nest deeper than 128. The text names the file.
pub fn copy_up(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    let top = Path::new(".");
    let root = open_directory(to, c".").map_err(|failure| failure.at(top))?;
    let from = open_directory(from, c".").map_err(|failure| failure.at(top))?;
    let mut copy = Copy { root, links: HashMap::new(), names: vec![0; XATTR_MAX], value: vec![0; XATTR_MAX] };
    let to = open_directory(copy.root.as_fd(), c".").map_err(|failure| failure.at(top))?;
    copy.directory(&from, &to, top, 0)
}

/// A call that failed, before anybody says on which file.
struct Failure(&'static str, Errno);

impl Failure {
    fn at(self, path: &Path) -> Error {
        Error::kernel(format!("cannot copy {} into the tmpfs", path.display()), self.0, self.1)
    }
}

trait Called<T> {
    fn called(self, call: &'static str) -> std::result::Result<T, Failure>;
}

impl<T> Called<T> for rustix::io::Result<T> {
    fn called(self, call: &'static str) -> std::result::Result<T, Failure> {
        self.map_err(|errno| Failure(call, Errno::from_raw(errno.raw_os_error())))
    }
}

type Step<T> = std::result::Result<T, Failure>;

struct Copy {
    root: OwnedFd,
    /// Where in the tmpfs the first name of a file with several is.
    links: HashMap<(u64, u64), PathBuf>,
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Copy {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            let what = format!("cannot copy {} into the tmpfs", path.display());
            return Err(Error::new(Kind::Unsupported, what)
                .because(format!("it is more than {DEEPEST} directories deep")));
        }
        let listing = Dir::read_from(from).called("getdents64").map_err(|failure| failure.at(path))?;
        // The names first: an open listing would be a third descriptor for each level.
        let names: std::result::Result<Vec<_>, _> =
            listing.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect();
        for name in names.called("getdents64").map_err(|failure| failure.at(path))? {
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let child = self.entry(from, to, &name, &path).map_err(|failure| failure.at(&path))?;
            if let Some((from, to)) = child {
                self.directory(&from, &to, &path, depth + 1)?;
            }
        }
        // At last: filling it changes its times.
        fstat(from)
            .called("fstat")
            .and_then(|stat| self.finish(from, to, &stat))
            .map_err(|failure| failure.at(path))
    }

    /// Copies one entry; both sides of it, if it is a directory that is still to be filled.
    fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        path: &Path,
    ) -> Step<Option<(OwnedFd, OwnedFd)>> {
        let stat = match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed meanwhile.
            Err(Refusal::NOENT) => return Ok(None),
            stat => stat.called("newfstatat")?,
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU).called("mkdirat")?;
                let to = open_directory(to.as_fd(), name)?;
                match open_directory(from.as_fd(), name) {
                    Ok(from) => return Ok(Some((from, to))),
                    // Something is mounted there: only the place for it is copied.
                    Err(Failure(_, Errno::EXDEV)) => {
                        fchmod(&to, Mode::from_raw_mode(0o755)).called("fchmod")?;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            FileType::RegularFile => self.file(from, to, name, path)?,
            FileType::Symlink => {
                let content = readlinkat(from, name, Vec::new()).called("readlinkat")?;
                symlinkat(&content, to, name).called("symlinkat")?;
                own_at(to, name, &stat)?;
                let times = times(&stat);
                utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW).called("utimensat")?;
            }
            kind @ (FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice) => {
                match mknodat(to, name, kind, Mode::empty(), stat.st_rdev) {
                    Err(Refusal::PERM) if kind != FileType::Fifo => return Ok(None),
                    answer => answer.called("mknodat")?,
                }
                let kept = own_at(to, name, &stat)?;
                chmodat(to, name, mode(&stat, kept), AtFlags::empty()).called("fchmodat")?;
                utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW).called("utimensat")?;
            }
            // A socket is of no use without the process that bound it.
            _ => {}
        }
        Ok(None)
    }

    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr, path: &Path) -> Step<()> {
        // Not to hang, nor to get a terminal, should it have become something else.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let source = match open_below(from.as_fd(), name, flags) {
            Err(Failure(_, Errno::ENOENT | Errno::EXDEV | Errno::ELOOP)) => return Ok(()),
            source => File::from(source?),
        };
        let stat = fstat(&source).called("fstat")?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return linkat(&self.root, first, to, name, AtFlags::empty()).called("linkat");
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR).called("openat")?);
        content(&source, &target, stat.st_size as u64)?;
        self.finish(&source, &target, &stat)
    }

    /// Gives `to` what `from` has besides its content.
    fn finish(&mut self, from: impl AsFd, to: impl AsFd, stat: &Stat) -> Step<()> {
        let (from, to) = (from.as_fd(), to.as_fd());
        // The owner first: changing it clears set-id bits and capabilities.
        let kept = kept(fchown(to, Some(owner(stat)), Some(group(stat))))?;
        fchmod(to, mode(stat, kept)).called("fchmod")?;
        self.attributes(from, to, kept)?;
        futimens(to, &times(stat)).called("utimensat")
    }

    fn attributes(&mut self, from: BorrowedFd, to: BorrowedFd, kept: bool) -> Step<()> {
        let length = match flistxattr(from, &mut self.names[..]) {
            Err(Refusal::OPNOTSUPP) => return Ok(()),
            length => length.called("flistxattr")?,
        };
        for name in self.names[..length].split_inclusive(|byte| *byte == 0) {
            let copied = XATTRS.iter().any(|prefix| name.starts_with(prefix));
            // Capabilities of a file that somebody else owned would become ours to give.
            if !copied || (!kept && name.starts_with(b"security.")) {
                continue;
            }
            let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
            let Ok(length) = fgetxattr(from, name, &mut self.value[..]) else { continue };
            match fsetxattr(to, name, &self.value[..length], XattrFlags::empty()) {
                // Not on a tmpfs of this kernel, not for us, or it names users who are not mapped.
                Err(Refusal::OPNOTSUPP | Refusal::PERM | Refusal::INVAL) => {}
                answer => answer.called("fsetxattr")?,
            }
        }
        Ok(())
    }
}

/// Opens a name of a directory where no symbolic link and no mount is there; EXDEV tells of a mount.
fn open_below(dir: BorrowedFd, name: &CStr, flags: OFlags) -> Step<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS) {
        // Linux before 5.6 enters the mount.
        Err(Refusal::NOSYS | Refusal::PERM) => openat(dir, name, flags, Mode::empty()).called("openat"),
        answer => answer.called("openat2"),
    }
}

fn open_directory(dir: BorrowedFd, name: &CStr) -> Step<OwnedFd> {
    open_below(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Copies what is written of a file, and leaves its holes: each page of a tmpfs is memory.
fn content(from: &File, to: &File, size: u64) -> Step<()> {
    let copy = |length| {
        let mut from = from.take(length);
        std::io::copy(&mut from, &mut &*to).map(drop).map_err(|cause| {
            Failure("copy_file_range", cause.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
        })
    };
    if size == 0 {
        // Files that the kernel makes up have no size.
        return copy(u64::MAX);
    }
    let mut position = 0;
    loop {
        let start = match seek(from, SeekFrom::Data(position)) {
            Err(Refusal::NXIO) => break,
            start => start.called("lseek")?,
        };
        let end = seek(from, SeekFrom::Hole(start)).called("lseek")?;
        seek(from, SeekFrom::Start(start)).called("lseek")?;
        seek(to, SeekFrom::Start(start)).called("lseek")?;
        copy(end - start)?;
        position = end;
    }
    ftruncate(to, size).called("ftruncate")
}

/// Whether an owner could be kept.
fn kept(changed: rustix::io::Result<()>) -> Step<bool> {
    match changed {
        Ok(()) => Ok(true),
        Err(Refusal::PERM | Refusal::INVAL) => Ok(false),
        Err(errno) => Err(errno).called("fchownat"),
    }
}

fn own_at(dir: &OwnedFd, name: &CStr, stat: &Stat) -> Step<bool> {
    kept(chownat(dir, name, Some(owner(stat)), Some(group(stat)), AtFlags::SYMLINK_NOFOLLOW))
}

fn owner(stat: &Stat) -> Uid {
    Uid::from_raw(stat.st_uid)
}

fn group(stat: &Stat) -> Gid {
    Gid::from_raw(stat.st_gid)
}

fn mode(stat: &Stat, kept: bool) -> Mode {
    let set_id = if kept { Mode::empty() } else { Mode::SUID | Mode::SGID };
    Mode::from_raw_mode(stat.st_mode) - set_id
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::process::Command;

    use rustix::fs::CWD;
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    };

    use super::*;
    use crate::container::inside::inside;
    use crate::container::inside::tests::{Container, alone};

    /// A directory to copy and a tmpfs that is attached nowhere.
    struct Scratch {
        source: PathBuf,
        tmpfs: OwnedFd,
    }

    impl Scratch {
        fn new(name: &str, size: &str) -> Scratch {
            let source = std::env::temp_dir().join(format!("corten-copy-up-{}-{name}", std::process::id()));
            std::fs::create_dir(&source).unwrap();
            let fs = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
            fsconfig_set_string(fs.as_fd(), c"size", size).unwrap();
            fsconfig_create(fs.as_fd()).unwrap();
            let tmpfs = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
            Scratch { source, tmpfs }
        }

        fn from(&self) -> OwnedFd {
            openat(CWD, &self.source, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .unwrap()
        }

        fn copy(&self) -> Result<()> {
            copy_up(self.from().as_fd(), self.tmpfs.as_fd())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.source.join(name)
        }

        fn file(&self, name: &str, content: &[u8], mode: u32) {
            std::fs::write(self.path(name), content).unwrap();
            std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }

        /// Where the tmpfs can be looked into.
        fn copied(&self, name: &str) -> PathBuf {
            use std::os::fd::AsRawFd;
            PathBuf::from(format!("/proc/self/fd/{}/{name}", self.tmpfs.as_raw_fd()))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.source).unwrap();
        }
    }

    fn facts(path: &Path) -> (u32, u32, u32, u64, i64, i64, u64) {
        let stat = std::fs::symlink_metadata(path).unwrap();
        let size = if stat.is_dir() { 0 } else { stat.size() };
        (stat.mode(), stat.uid(), stat.gid(), stat.rdev(), stat.mtime(), stat.mtime_nsec(), size)
    }

    #[test]
    fn everything_is_copied_with_what_belongs_to_it() {
        let scratch = Scratch::new("all", "64m");
        scratch.file("file", b"content", 0o640);
        scratch.file("set-id", b"x", 0o6755);
        scratch.file("empty", b"", 0o000);
        std::fs::create_dir_all(scratch.path("a/b")).unwrap();
        scratch.file("a/b/deep", &vec![7; 3 << 20], 0o600);
        std::fs::hard_link(scratch.path("a/b/deep"), scratch.path("again")).unwrap();
        symlink("/etc/passwd", scratch.path("link")).unwrap();
        symlink("nowhere", scratch.path("a/dangling")).unwrap();
        let node = |name, kind, device| {
            mknodat(CWD, scratch.path(name), kind, Mode::from_raw_mode(0o620), device).unwrap();
        };
        node("fifo", FileType::Fifo, 0);
        node("device", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
        let _socket = std::os::unix::net::UnixListener::bind(scratch.path("socket")).unwrap();
        for name in ["set-id", "a", "link", "fifo", "device", "."] {
            std::os::unix::fs::lchown(scratch.path(name), Some(1234), Some(4321)).unwrap();
        }
        // chown(2) clears set-id bits.
        std::fs::set_permissions(scratch.path("set-id"), std::fs::Permissions::from_mode(0o6755)).unwrap();
        std::fs::set_permissions(scratch.path("a"), std::fs::Permissions::from_mode(0o3771)).unwrap();
        std::fs::set_permissions(&scratch.source, std::fs::Permissions::from_mode(0o1750)).unwrap();
        let old = Timespec { tv_sec: 981_173_106, tv_nsec: 5_000_000 };
        let times = Timestamps { last_access: old, last_modification: old };
        let names = ["a/b/deep", "a/b", "a", "link", "a/dangling", "fifo", "device", "file", "empty", "."];
        for name in names {
            utimensat(CWD, scratch.path(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }

        scratch.copy().unwrap();
        for name in names.into_iter().chain(["again", "set-id"]) {
            let expected = facts(&scratch.path(name));
            if !matches!(name, "again" | "set-id") {
                assert_eq!(expected.4, old.tv_sec);
            }
            assert_eq!(facts(&scratch.copied(name)), expected, "{name}");
        }
        assert_eq!(std::fs::read(scratch.copied("file")).unwrap(), b"content");
        assert_eq!(std::fs::read(scratch.copied("again")).unwrap(), vec![7; 3 << 20]);
        assert_eq!(std::fs::read_link(scratch.copied("link")).unwrap(), Path::new("/etc/passwd"));
        let inode = |name| std::fs::metadata(scratch.copied(name)).unwrap().ino();
        assert_eq!(inode("again"), inode("a/b/deep"));
        assert!(!scratch.copied("socket").exists());
    }

    #[test]
    fn holes_stay_holes() {
        let scratch = Scratch::new("holes", "1m");
        let file = File::create(scratch.path("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"middle", 1 << 30).unwrap();
        file.set_len(2 << 30).unwrap();
        scratch.copy().unwrap();
        let copied = File::open(scratch.copied("sparse")).unwrap();
        assert_eq!(copied.metadata().unwrap().len(), 2 << 30);
        let mut piece = [0; 8];
        std::os::unix::fs::FileExt::read_at(&copied, &mut piece, 1 << 30).unwrap();
        assert_eq!(&piece, b"middle\0\0");
    }

    #[test]
    fn attributes_and_capabilities_are_copied() {
        let scratch = Scratch::new("xattrs", "1m");
        scratch.file("file", b"x", 0o755);
        let file = File::open(scratch.path("file")).unwrap();
        // struct vfs_cap_data, revision 2: CAP_NET_RAW, effective.
        let mut capability = [0; 20];
        capability[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
        capability[4..8].copy_from_slice(&(1u32 << 13).to_le_bytes());
        fsetxattr(&file, c"security.capability", &capability, XattrFlags::empty()).unwrap();
        fsetxattr(&file, c"trusted.not", b"this", XattrFlags::empty()).unwrap();
        scratch.copy().unwrap();
        let copied = File::open(scratch.copied("file")).unwrap();
        let mut value = [0; 64];
        let length = fgetxattr(&copied, c"security.capability", &mut value[..]).unwrap();
        assert_eq!(value[..length], capability);
        assert_eq!(fgetxattr(&copied, c"trusted.not", &mut value[..]), Err(Refusal::NODATA));
    }

    #[test]
    fn failures_name_the_file() {
        let scratch = Scratch::new("full", "64k");
        std::fs::create_dir(scratch.path("sub")).unwrap();
        scratch.file("sub/large", &vec![1; 1 << 20], 0o600);
        assert_eq!(
            scratch.copy().unwrap_err().to_string(),
            "cannot copy ./sub/large into the tmpfs: copy_file_range: no space left on device"
        );
        let scratch = Scratch::new("deep", "1m");
        std::fs::create_dir_all(scratch.path(&"d/".repeat(DEEPEST))).unwrap();
        scratch.copy().unwrap();
        let scratch = Scratch::new("deeper", "1m");
        std::fs::create_dir_all(scratch.path(&"d/".repeat(DEEPEST + 1))).unwrap();
        let error = scratch.copy().unwrap_err().to_string();
        assert!(error.ends_with("d into the tmpfs: it is more than 128 directories deep"), "{error}");
    }

    #[test]
    fn mounts_are_not_entered() {
        let scratch = Scratch::new("mounts", "1m");
        std::fs::create_dir(scratch.path("mounted")).unwrap();
        let other = Scratch::new("mounts-other", "1m");
        other.file("secret", b"x", 0o600);
        let mount = |arguments: &[&std::ffi::OsStr]| {
            assert!(Command::new(arguments[0]).args(&arguments[1..]).status().unwrap().success());
        };
        let target = scratch.path("mounted");
        mount(&["mount".as_ref(), "--bind".as_ref(), other.source.as_os_str(), target.as_os_str()]);
        let copied = scratch.copy();
        mount(&["umount".as_ref(), target.as_os_str()]);
        copied.unwrap();
        assert!(scratch.copied("mounted").is_dir() && !scratch.copied("mounted/secret").exists());
    }

    #[test]
    fn who_is_not_mapped_gives_nothing_away() {
        if !alone("copy_up::tests::who_is_not_mapped_gives_nothing_away", None) {
            return;
        }
        let scratch = Scratch::new("userns", "1m");
        let container = Container::new(&["-n"], Some("0 100000 1000"));
        for (name, owner) in [("mapped", 100_005), ("foreign", 5)] {
            scratch.file(name, b"x", 0o755);
            std::os::unix::fs::chown(scratch.path(name), Some(owner), Some(owner)).unwrap();
            scratch.file(name, b"x", 0o6755);
        }
        std::fs::set_permissions(&scratch.source, std::fs::Permissions::from_mode(0o755)).unwrap();
        let owner = (Some(Uid::from_raw(100_000)), Some(Gid::from_raw(100_000)));
        fchown(open_directory(scratch.tmpfs.as_fd(), c".").ok().unwrap(), owner.0, owner.1).unwrap();
        inside(container.1.as_fd(), libc::CLONE_NEWUSER as u64, || scratch.copy()).unwrap();
        let mode_and_owner = |name| {
            let facts = facts(&scratch.copied(name));
            (facts.0 & 0o7777, facts.1, facts.2)
        };
        assert_eq!(mode_and_owner("mapped"), (0o6755, 100_005, 100_005));
        assert_eq!(mode_and_owner("foreign"), (0o755, 100_000, 100_000));
    }
}
