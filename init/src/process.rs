//! What a process is to the kernel: its users, capabilities, limits and labels.

use core::ffi::CStr;

use crate::paths;
use crate::program::{Called, Fault, Program, Slot, Text};
use crate::sys::{self, Errno};

/// Opens a procfs that nothing in the container can cover. A new instance where the kernel lets us
/// have one; else the host's, proven to be the root of a procfs.
pub fn open_proc(program: &Program) -> Result<(), Fault> {
    let fresh = sys::fsopen(c"proc").and_then(|fs| {
        let mount = sys::fsconfig_create(fs).and_then(|()| {
            sys::fsmount(fs, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC)
        });
        sys::close(fs);
        mount
    });
    let proc = match fresh {
        Ok(mount) => mount,
        Err(Errno(libc::EPERM | libc::ENOSYS | libc::EBUSY)) => {
            let host =
                sys::open(c"/proc", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW).called("open")?;
            let (fs, stat) = (sys::statfs(host).called("fstatfs")?, sys::statat(host, c"").called("fstat")?);
            const ROOT_INODE: u64 = 1;
            if fs.0 != libc::PROC_SUPER_MAGIC as i64 || stat.st_ino != ROOT_INODE {
                return Err(Fault::new("open", libc::EXDEV));
            }
            host
        }
        Err(errno) => return Err(Fault { call: "fsopen", errno }),
    };
    program.set(Slot::PROC, proc);
    Ok(())
}

/// Writes to a file of procfs, in one write(2), through the procfs of [`open_proc`].
fn write_proc(program: &Program, path: &CStr, value: &[u8]) -> Result<(), Fault> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
    let proc = program.slot(Slot::PROC);
    let file = match sys::openat2(proc, path, libc::O_WRONLY, 0, resolve) {
        Err(Errno(libc::ENOSYS | libc::EPERM)) => sys::openat(proc, path, libc::O_WRONLY, 0),
        answer => answer,
    };
    let file = file.called("open")?;
    let written = sys::write(file, value).called("write");
    sys::close(file);
    written.map(drop)
}

/// `path` is relative to /proc.
pub fn sysctl(program: &Program, path: Text, value: Text) -> Result<(), Fault> {
    write_proc(program, program.text(path), program.bytes(value))
}

/// `path` is relative to /proc/thread-self, which is a link that must not be followed blindly: it is
/// the kernel's own here, in a procfs of our own.
pub fn attribute(program: &Program, path: Text, value: Text) -> Result<(), Fault> {
    write_proc(program, program.text(path), program.bytes(value))
}

/// A session keyring of the container's own (keyrings(7)).
pub fn keyring(program: &Program, name: Text) -> Result<(), Fault> {
    let serial = match sys::join_session_keyring(program.text(name)) {
        // No keyrings in this kernel, or a sandbox that forbids them to us and so to our children.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => return Ok(()),
        answer => answer.called("keyctl")?,
    };
    const USER_SEARCH: u32 = 0x0008_0000;
    let mut description = [0; 256];
    let length = sys::describe_key(serial, &mut description).called("keyctl")?;
    let mut fields = description[..length.min(description.len())].split(|byte| *byte == b';');
    let permissions = fields.nth(3).and_then(|text| core::str::from_utf8(text).ok());
    let permissions = permissions.and_then(|text| u32::from_str_radix(text, 16).ok());
    match permissions {
        Some(has) => sys::keyctl(libc::KEYCTL_SETPERM, serial, has | USER_SEARCH).called("keyctl"),
        None => Err(Fault::new("keyctl", libc::EINVAL)),
    }
}

/// Drops from the bounding set what is not to be kept.
pub fn bounding(keep: u64, last: u32) -> Result<(), Fault> {
    for capability in 0..=last {
        if capability >= 64 || keep & (1 << capability) == 0 {
            sys::prctl(libc::PR_CAPBSET_DROP, u64::from(capability)).called("prctl")?;
        }
    }
    Ok(())
}

/// Raises ambient capabilities; `refused` hears of each that the kernel does not raise.
pub fn ambient(set: u64, mut refused: impl FnMut(u32, Errno)) -> Result<(), Fault> {
    match sys::ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0) {
        // Linux before 4.3 has no ambient set that could hold anything.
        Err(Errno(libc::EINVAL)) if set == 0 => return Ok(()),
        answer => answer.called("prctl")?,
    }
    for capability in (0..64u32).filter(|capability| set & (1 << capability) != 0) {
        if let Err(errno) = sys::ambient(libc::PR_CAP_AMBIENT_RAISE, u64::from(capability)) {
            refused(capability, errno);
        }
    }
    Ok(())
}

/// Resets the CPU affinity; the kernel takes out what is not there, or not ours. In a sandbox that
/// forbids it we stay where we are.
pub fn every_cpu() {
    /// As many as any kernel is built for (`CONFIG_NR_CPUS`).
    const MOST_CPUS: usize = 8192;
    let _ = sys::sched_setaffinity(0, &[0xff; MOST_CPUS / 8]);
}

/// Most supplementary groups of a process (`NGROUPS_MAX` is 65536; nobody has more than a few).
const MOST_GROUPS: usize = 1024;

/// Sets the supplementary groups: setgroups(2).
pub fn groups(program: &Program, groups: Text) -> Result<(), Fault> {
    let mut list = [0; MOST_GROUPS];
    let bytes = program.bytes(groups);
    let count = bytes.len() / 4;
    let list = list.get_mut(..count).ok_or(Fault::new("setgroups", libc::EINVAL))?;
    for (group, bytes) in list.iter_mut().zip(bytes.chunks_exact(4)) {
        *group = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    sys::setgroups(list).called("setgroups")
}

/// Becomes a user and a group for good: the real, effective and saved ids.
pub fn user(uid: u32, gid: u32) -> Result<(), Fault> {
    sys::setresgid(gid, gid, gid).called("setresgid")?;
    sys::setresuid(uid, uid, uid).called("setresuid")
}

/// Gives stdio to `uid`, so that programs may reopen /dev/stderr. /dev/null belongs to everyone, and
/// what cannot be given away (a read-only file, a user who is not mapped) stays as it is.
pub fn own_stdio(uid: u32) -> Result<(), Fault> {
    for fd in 0..=2 {
        let Ok(stat) = sys::statat(fd, c"") else { continue };
        if stat.st_uid == uid
            || (stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3))
        {
            continue;
        }
        match sys::chown(fd, uid, u32::MAX) {
            Ok(()) | Err(Errno(libc::EINVAL | libc::EPERM | libc::EROFS | libc::ENOSYS)) => {}
            Err(errno) => return Err(Fault { call: "chown", errno }),
        }
    }
    Ok(())
}

/// chdir(2), then proof that the directory is inside the root: /proc/self/fd/N might lead out
/// (CVE-2024-21626).
pub fn directory(path: &CStr) -> Result<(), Fault> {
    sys::chdir(path).called("chdir")?;
    let mut cwd = [0; 4096];
    match sys::getcwd(&mut cwd) {
        Ok(_) if cwd[0] == b'/' => Ok(()),
        Ok(_) => Err(Fault::new("getcwd", libc::EXDEV)),
        // Longer than PATH_MAX is deep inside, not outside.
        Err(Errno(libc::ERANGE | libc::ENAMETOOLONG)) => Ok(()),
        Err(errno) => Err(Fault { call: "getcwd", errno }),
    }
}

/// The longest passwd file that is read: it comes from the image, and must not cost us more.
const MOST_PASSWD: usize = 1 << 20;

/// Writes the home directory of `uid` from the container's passwd(5) behind the "HOME=" that
/// [`Program::home`] begins with. What is there stays when there is none.
pub fn home(program: &Program, uid: u32) {
    let Ok(file) = paths::open_file(program.slot(Slot::ROOT), c"/etc/passwd") else { return };
    let mut line = Line { bytes: [0; 1024], length: 0 };
    let mut chunk = [0; 4096];
    let mut total = 0;
    'read: while total < MOST_PASSWD {
        let Ok(length @ 1..) = sys::read(file, &mut chunk) else { break };
        total += length;
        for &byte in &chunk[..length] {
            if byte != b'\n' {
                line.push(byte);
            } else if line.take(uid, program) {
                line.length = 0;
                break 'read;
            } else {
                line.length = 0;
            }
        }
    }
    // The last line may lack its end.
    line.take(uid, program);
    sys::close(file);
}

struct Line {
    bytes: [u8; 1024],
    length: usize,
}

impl Line {
    fn push(&mut self, byte: u8) {
        // A longer line is counted, so that it is known to be one, but not kept.
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length = (self.length + 1).min(self.bytes.len() + 1);
    }

    /// Whether the line is the user's; its home directory is then taken.
    fn take(&self, uid: u32, program: &Program) -> bool {
        let Some(line) = self.bytes.get(..self.length) else { return false };
        let mut fields = line.split(|byte| *byte == b':');
        let number = fields.nth(2).and_then(|text| core::str::from_utf8(text).ok());
        if number.and_then(|text| text.parse().ok()) != Some(uid) {
            return false;
        }
        const PREFIX: usize = b"HOME=".len();
        let Some(home) = fields.nth(2).filter(|home| !home.is_empty()) else { return true };
        if home.contains(&0) || PREFIX + home.len() >= program.home.len() {
            return true;
        }
        for (cell, byte) in program.home[PREFIX..].iter().zip(home.iter().chain(&[0])) {
            cell.set(*byte);
        }
        true
    }
}
