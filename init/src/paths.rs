//! Paths below a root that is not to be trusted.
//!
//! Everything in the container's file system may be a symbolic link that somebody placed or swaps
//! while we look. A path is therefore resolved once, below the root's descriptor, and the descriptor
//! that comes of it is what is mounted on, written to or made a node in. openat2(2) with
//! `RESOLVE_IN_ROOT` does it in one call; the walk below makes what is missing, and stands in on
//! kernels before 5.6 and in sandboxes that do not know the call.

use core::ffi::CStr;

use libc::{O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_WRONLY};

use crate::program::{Called, Fault};
use crate::sys::{self, Errno};

const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;
/// How many symbolic links a path may go through, as in the kernel.
const MOST_LINKS: usize = 40;

/// What to do about a last component that is missing, and about symbolic links.
#[derive(Clone, Copy)]
pub struct Walk {
    /// Missing directories are made.
    pub make: bool,
    /// The last component, where it is missing, is made a file.
    pub file: bool,
    /// The mode of what is made last.
    pub mode: u32,
    /// A symbolic link anywhere is an error.
    pub plain: bool,
}

impl Walk {
    /// Looks, and makes nothing.
    pub const FIND: Walk = Walk { make: false, file: false, mode: 0, plain: false };

    /// Makes missing directories.
    pub const fn directory(mode: u32) -> Walk {
        Walk { make: true, file: false, mode, plain: false }
    }

    /// Makes missing directories, and a missing file at their end.
    pub const fn file() -> Walk {
        Walk { make: true, file: true, mode: 0o755, plain: false }
    }
}

/// Opens `path` below `root` as an `O_PATH` descriptor.
pub fn find(root: i32, path: &CStr) -> Result<i32, Fault> {
    resolve(root, path, Walk::FIND)
}

/// Opens `path` below `root` as an `O_PATH` descriptor, making what is missing as `walk` says.
pub fn resolve(root: i32, path: &CStr, how: Walk) -> Result<i32, Fault> {
    let plain = if how.plain { libc::RESOLVE_NO_SYMLINKS } else { 0 };
    match sys::openat2(root, path, O_PATH, 0, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | plain) {
        Err(Errno(libc::ENOENT)) if how.make => walk(root, path, how),
        // ENOSYS before Linux 5.6; a sandbox that does not know the call answers EPERM.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => walk(root, path, how),
        answer => answer.called("openat2"),
    }
}

/// Opens a regular file below `root` for reading. What is something else is not opened, nor waited for.
pub fn open_file(root: i32, path: &CStr) -> Result<i32, Fault> {
    let regular = |fd: i32| {
        let stat = sys::statat(fd, c"").called("fstat");
        let regular = stat.is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
        if !regular {
            sys::close(fd);
        }
        regular.then_some(fd).ok_or(Fault::new("open", libc::EINVAL))
    };
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    sys::close(regular(find(root, path)?)?);
    let opened = match sys::openat2(root, path, flags, 0, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS)
    {
        Err(Errno(libc::ENOSYS | libc::EPERM)) => {
            let (dir, name) = parent(root, path, 0o755)?;
            let opened = sys::openat(dir, name, flags | O_NOFOLLOW, 0);
            sys::close(dir);
            opened
        }
        answer => answer,
    };
    // It may have been swapped since the first look.
    regular(opened.called("open")?)
}

/// The length of the longest name that [`fd_name`] makes, its NUL included.
pub const FD_NAME: usize = 32;

/// "/proc/self/fd/N": the name of a descriptor for the calls that take only names.
pub fn fd_name(fd: i32, buffer: &mut [u8; FD_NAME]) -> &CStr {
    const START: &[u8] = b"/proc/self/fd/";
    buffer[..START.len()].copy_from_slice(START);
    let mut digits = [0u8; 10];
    let mut count = 0;
    let mut number = fd.unsigned_abs();
    loop {
        digits[count] = b'0' + (number % 10) as u8;
        count += 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    for index in 0..count {
        buffer[START.len() + index] = digits[count - 1 - index];
    }
    buffer[START.len() + count] = 0;
    CStr::from_bytes_until_nul(buffer).unwrap_or(c"")
}

/// Splits `path` into the directory above and the last component, and opens the directory below
/// `root`, making it where it is missing. Returns its descriptor and where the component starts.
pub fn parent(root: i32, path: &CStr, mode: u32) -> Result<(i32, &CStr), Fault> {
    let bytes = path.to_bytes();
    let start = bytes.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = path.to_bytes_with_nul().get(start..).and_then(|name| CStr::from_bytes_with_nul(name).ok());
    let name = name.filter(|name| !matches!(name.to_bytes(), b"" | b"." | b".."));
    let name = name.ok_or(Fault::new("open", libc::EINVAL))?;
    let mut above = [0; PATH_MAX];
    above.get_mut(..start).ok_or(Fault::new("open", libc::ENAMETOOLONG))?.copy_from_slice(&bytes[..start]);
    if start == 0 {
        above[0] = b'/';
    }
    let above = CStr::from_bytes_until_nul(&above).unwrap_or(c"/");
    Ok((resolve(root, above, Walk::directory(mode))?, name))
}

/// What is left of a path that is being walked.
struct Rest {
    bytes: [u8; 2 * PATH_MAX],
    start: usize,
}

impl Rest {
    fn new(path: &[u8]) -> Result<Rest, Fault> {
        let mut rest = Rest { bytes: [0; 2 * PATH_MAX], start: 2 * PATH_MAX };
        rest.prepend(path)?;
        Ok(rest)
    }

    fn prepend(&mut self, path: &[u8]) -> Result<(), Fault> {
        let start = self.start.checked_sub(path.len()).ok_or(Fault::new("open", libc::ENAMETOOLONG))?;
        self.bytes[start..self.start].copy_from_slice(path);
        self.start = start;
        Ok(())
    }

    /// Takes the next component; also tells whether it is the last.
    fn next<'n>(&mut self, name: &'n mut [u8; NAME_MAX + 1]) -> Result<Option<(&'n CStr, bool)>, Fault> {
        let left = &self.bytes[self.start..];
        let Some(begin) = left.iter().position(|byte| *byte != b'/') else { return Ok(None) };
        let length = left[begin..].iter().position(|byte| *byte == b'/').unwrap_or(left.len() - begin);
        if length > NAME_MAX {
            return Err(Fault::new("open", libc::ENAMETOOLONG));
        }
        name[..length].copy_from_slice(&left[begin..begin + length]);
        name[length] = 0;
        let last = left[begin + length..].iter().all(|byte| *byte == b'/');
        self.start += begin + length;
        Ok(CStr::from_bytes_until_nul(name).ok().map(|name| (name, last)))
    }
}

/// Resolves a path one component at a time, following symbolic links inside the root only.
fn walk(root: i32, path: &CStr, how: Walk) -> Result<i32, Fault> {
    let start = || sys::openat(root, c".", O_PATH | O_DIRECTORY, 0).called("open");
    let top = sys::statat(root, c"").called("fstat")?;
    let mut rest = Rest::new(path.to_bytes())?;
    let mut name = [0; NAME_MAX + 1];
    let mut links = 0;
    let mut here = start()?;
    while let Some((name, last)) = rest.next(&mut name)? {
        let next = match name.to_bytes() {
            b"." => continue,
            b".." => {
                let stat = sys::statat(here, c"").called("fstat")?;
                // Out of a directory that was moved away from below its bind mount the kernel lets
                // nobody climb (path_connected(), Linux 4.3), so the root is the only top there is.
                if (stat.st_dev, stat.st_ino) == (top.st_dev, top.st_ino) {
                    continue;
                }
                sys::openat(here, c"..", O_PATH | O_DIRECTORY, 0).called("open")
            }
            _ => step(here, name, last, how),
        };
        let above = here;
        here = next.inspect_err(|_| sys::close(above))?;
        let stat = sys::statat(here, c"").called("fstat")?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFLNK {
            links += 1;
            let mut content = [0; PATH_MAX];
            let length = sys::readlinkat(here, c"", &mut content).called("readlink")?;
            sys::close(here);
            if how.plain || links > MOST_LINKS {
                sys::close(above);
                return Err(Fault::new("open", libc::ELOOP));
            }
            rest.prepend(b"/")?;
            rest.prepend(&content[..length])?;
            here = if content[0] == b'/' { start()? } else { above };
            if content[0] != b'/' {
                continue;
            }
        }
        sys::close(above);
    }
    Ok(here)
}

/// Opens one component without following it, making it where it is missing.
fn step(here: i32, name: &CStr, last: bool, how: Walk) -> Result<i32, Fault> {
    let open = || sys::openat(here, name, O_PATH | O_NOFOLLOW, 0);
    match open() {
        Err(Errno(libc::ENOENT)) if how.make => {}
        answer => return answer.called("open"),
    }
    if last && how.file {
        match sys::openat(here, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, how.mode) {
            Ok(made) => sys::close(made),
            Err(Errno(libc::EEXIST)) => {}
            Err(errno) => return Err(Fault { call: "open", errno }),
        }
    } else {
        match sys::mkdirat(here, name, if last { how.mode } else { 0o755 }) {
            Ok(()) | Err(Errno(libc::EEXIST)) => {}
            Err(errno) => return Err(Fault { call: "mkdir", errno }),
        }
    }
    open().called("open")
}
