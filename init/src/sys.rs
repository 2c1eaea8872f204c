//! Every system call that the standard library and nix do not make safe, and all that the init
//! process uses. This is the only file of the workspace with `unsafe`.
//!
//! The wrappers are thin: one call, its arguments as Rust types, `Err(Errno)` when the kernel says
//! no. They allocate nothing, so that they may run between `clone3` and `execve`. Descriptors are
//! plain numbers here, because the init process owns all of its descriptors at once and ends with
//! `execve` or `_exit`; the parent wraps what it keeps in `OwnedFd`.

#![allow(unsafe_code)]

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::{size_of, zeroed};
use core::ptr::{null, null_mut};
use core::sync::atomic::AtomicU64;

/// What the kernel answered: an `errno` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

pub type Result<T> = core::result::Result<T, Errno>;

/// One word of a system call.
trait Word {
    fn word(self) -> usize;
}
macro_rules! words { ($($t:ty),*) => { $(impl Word for $t { fn word(self) -> usize { self as usize } })* } }
words!(i32, u32, i64, u64, usize);
impl Word for &CStr {
    fn word(self) -> usize {
        self.as_ptr() as usize
    }
}
impl Word for Option<&CStr> {
    fn word(self) -> usize {
        self.map_or(0, |text| text.as_ptr() as usize)
    }
}
impl<T> Word for *const T {
    fn word(self) -> usize {
        self as usize
    }
}
impl<T> Word for *mut T {
    fn word(self) -> usize {
        self as usize
    }
}

macro_rules! call {
    ($number:ident $(, $word:expr)*) => {{
        let words = six([$(Word::word($word)),*]);
        // SAFETY: every pointer among the words comes from a reference or a slice that outlives the
        // call, and goes with the length the kernel is told; plain numbers are checked by the kernel.
        let answer = unsafe {
            libc::syscall(libc::$number, words[0], words[1], words[2], words[3], words[4], words[5])
        };
        checked(answer as isize)
    }};
}

fn six<const N: usize>(words: [usize; N]) -> [usize; 6] {
    core::array::from_fn(|index| words.get(index).copied().unwrap_or(0))
}

fn checked(answer: isize) -> Result<usize> {
    if answer == -1 { Err(errno()) } else { Ok(answer as usize) }
}

fn errno() -> Errno {
    // SAFETY: the C library's errno is a valid thread-local for the whole life of the thread.
    Errno(unsafe { *libc::__errno_location() })
}

/// Defines wrappers that pass their arguments on as they are and return nothing, or a descriptor.
macro_rules! wrap {
    (nothing: $($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) = $number:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name($($arg: $kind),*) -> Result<()> { call!($number $(, $arg)*).map(drop) }
    )*};
    (descriptor: $($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) = $number:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name($($arg: $kind),*) -> Result<i32> { call!($number $(, $arg)*).map(|fd| fd as i32) }
    )*};
}

// The man page of the same name in section 2 describes each.
wrap! { nothing:
    /// Marks, or with `flags` 0 closes, the descriptors from `first` on. Linux 5.9, `CLOSE_RANGE_CLOEXEC` 5.11.
    close_range(first: u32, last: u32, flags: u32) = SYS_close_range;
    mkdirat(dir: i32, path: &CStr, mode: u32) = SYS_mkdirat;
    mknodat(dir: i32, path: &CStr, mode: u32, device: u64) = SYS_mknodat;
    symlinkat(content: &CStr, dir: i32, path: &CStr) = SYS_symlinkat;
    unlinkat(dir: i32, path: &CStr, flags: i32) = SYS_unlinkat;
    /// Changes the mode of `path` below `dir`; the last component must not be a symbolic link that matters.
    fchmodat(dir: i32, path: &CStr, mode: u32) = SYS_fchmodat;
    fchmod(fd: i32, mode: u32) = SYS_fchmod;
    ftruncate(fd: i32, length: u64) = SYS_ftruncate;
    chdir(path: &CStr) = SYS_chdir;
    fchdir(fd: i32) = SYS_fchdir;
    chroot(path: &CStr) = SYS_chroot;
    mount(source: Option<&CStr>, target: &CStr, kind: Option<&CStr>, flags: u64, data: Option<&CStr>) = SYS_mount;
    umount(path: &CStr, flags: i32) = SYS_umount2;
    pivot_root(new: &CStr, old: &CStr) = SYS_pivot_root;
    setns(fd: i32, kinds: u64) = SYS_setns;
    unshare(kinds: u64) = SYS_unshare;
    kill(pid: i32, signal: i32) = SYS_kill;
    setsid() = SYS_setsid;
    setpgid(pid: i32, group: i32) = SYS_setpgid;
    setresuid(real: u32, effective: u32, saved: u32) = SYS_setresuid;
    setresgid(real: u32, effective: u32, saved: u32) = SYS_setresgid;
    personality(persona: u64) = SYS_personality;
    keyctl(operation: u32, serial: i32, argument: u32) = SYS_keyctl;
    pidfd_send_signal(pidfd: i32, signal: i32, info: u64, flags: u32) = SYS_pidfd_send_signal;
    ioprio_set(which: i32, who: i32, priority: i32) = SYS_ioprio_set;
}

wrap! { descriptor:
    fcntl(fd: i32, command: i32, argument: i32) = SYS_fcntl;
    ioctl(fd: i32, request: u64, argument: u64) = SYS_ioctl;
    pidfd_open(pid: i32, flags: u32) = SYS_pidfd_open;
}

pub const AT_FDCWD: i32 = libc::AT_FDCWD;

pub fn open(path: &CStr, flags: i32) -> Result<i32> {
    openat(AT_FDCWD, path, flags, 0)
}

pub fn openat(dir: i32, path: &CStr, flags: i32, mode: u32) -> Result<i32> {
    call!(SYS_openat, dir, path, flags | libc::O_CLOEXEC, mode).map(|fd| fd as i32)
}

/// openat2(2), always close-on-exec. `resolve`: `RESOLVE_*`.
pub fn openat2(dir: i32, path: &CStr, flags: i32, mode: u32, resolve: u64) -> Result<i32> {
    let how = [(flags | libc::O_CLOEXEC) as u64, u64::from(mode), resolve];
    loop {
        match call!(SYS_openat2, dir, path, how.as_ptr(), size_of::<[u64; 3]>()) {
            // A rename or mount elsewhere on the machine raced with "..": ask again (openat2(2)).
            Err(Errno(libc::EAGAIN)) => {}
            answer => return answer.map(|fd| fd as i32),
        }
    }
}

pub fn close(fd: i32) {
    let _ = call!(SYS_close, fd);
}

pub fn dup3(from: i32, to: i32) -> Result<()> {
    if from == to {
        return fcntl(from, libc::F_SETFD, 0).map(drop);
    }
    call!(SYS_dup3, from, to, 0).map(drop)
}

pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match call!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len()) {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer,
        }
    }
}

pub fn pread(fd: i32, buffer: &mut [u8], offset: u64) -> Result<usize> {
    call!(SYS_pread64, fd, buffer.as_mut_ptr(), buffer.len(), offset)
}

/// lseek(2) to the start or the end (`SEEK_SET`, `SEEK_END`) of a file: where that is.
pub fn seek(fd: i32, whence: i32) -> Result<u64> {
    call!(SYS_lseek, fd, 0, whence).map(|place| place as u64)
}

pub fn write(fd: i32, buffer: &[u8]) -> Result<usize> {
    loop {
        match call!(SYS_write, fd, buffer.as_ptr(), buffer.len()) {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer,
        }
    }
}

/// Reads a symbolic link; without `path`, the one that `dir` itself refers to.
pub fn readlinkat(dir: i32, path: &CStr, buffer: &mut [u8]) -> Result<usize> {
    call!(SYS_readlinkat, dir, path, buffer.as_mut_ptr(), buffer.len())
}

/// Changes the owner of what `fd` refers to, which may be an `O_PATH` descriptor.
pub fn chown(fd: i32, uid: u32, gid: u32) -> Result<()> {
    call!(SYS_fchownat, fd, c"", uid, gid, libc::AT_EMPTY_PATH).map(drop)
}

/// fstatat(2) with `AT_EMPTY_PATH`: an empty path asks for `dir` itself. Never follows a symbolic link.
pub fn statat(dir: i32, path: &CStr) -> Result<libc::stat> {
    // SAFETY: `struct stat` is plain numbers, for which all zeroes is a value.
    let mut stat: libc::stat = unsafe { zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: `path` ends with NUL and `stat` is writable and large enough; both outlive the call.
    checked(unsafe { libc::fstatat(dir, path.as_ptr(), &mut stat, flags) } as isize).map(|_| stat)
}

/// The magic number of the file system that `fd` is on, and its `ST_*` flags (statfs(2)).
pub fn statfs(fd: i32) -> Result<(i64, u64)> {
    // `struct statfs` of a 64-bit kernel is fifteen words: the type is the first, the flags the eleventh.
    let mut words = [0u64; 15];
    call!(SYS_fstatfs, fd, words.as_mut_ptr()).map(|_| (words[0] as i64, words[10]))
}

/// Whether the effective user may access `path` in the way of `mode` (faccessat2(2), Linux 5.8; else faccessat(2)).
pub fn accessat(dir: i32, path: &CStr, mode: i32) -> Result<()> {
    match call!(SYS_faccessat2, dir, path, mode, libc::AT_EACCESS) {
        // EPERM: a sandbox that does not know the call.
        Err(Errno(libc::ENOSYS | libc::EPERM)) => call!(SYS_faccessat, dir, path, mode).map(drop),
        answer => answer.map(drop),
    }
}

pub fn getcwd(buffer: &mut [u8]) -> Result<usize> {
    call!(SYS_getcwd, buffer.as_mut_ptr(), buffer.len())
}

pub fn umask(mode: u32) {
    let _ = call!(SYS_umask, mode);
}

pub const OPEN_TREE_CLONE: u32 = 1;
pub const AT_RECURSIVE: u32 = 0x8000;

/// open_tree(2), Linux 5.2.
pub fn open_tree(dir: i32, path: &CStr, flags: u32) -> Result<i32> {
    call!(SYS_open_tree, dir, path, flags | libc::O_CLOEXEC as u32).map(|fd| fd as i32)
}

/// move_mount(2) from a descriptor onto a descriptor, Linux 5.2.
pub fn move_mount(from: i32, to: i32) -> Result<()> {
    const F_EMPTY_PATH: u32 = 0x4;
    const T_EMPTY_PATH: u32 = 0x40;
    call!(SYS_move_mount, from, c"", to, c"", F_EMPTY_PATH | T_EMPTY_PATH).map(drop)
}

/// fsopen(2), Linux 5.2.
pub fn fsopen(kind: &CStr) -> Result<i32> {
    call!(SYS_fsopen, kind, 1u32).map(|fd| fd as i32)
}

pub fn fsconfig_string(fs: i32, key: &CStr, value: &CStr) -> Result<()> {
    call!(SYS_fsconfig, fs, 1u32, key, value, 0u32).map(drop)
}

pub fn fsconfig_flag(fs: i32, key: &CStr) -> Result<()> {
    call!(SYS_fsconfig, fs, 0u32, key, null::<u8>(), 0u32).map(drop)
}

pub fn fsconfig_create(fs: i32) -> Result<()> {
    call!(SYS_fsconfig, fs, 6u32, null::<u8>(), null::<u8>(), 0u32).map(drop)
}

/// fsmount(2); `attributes` are `MOUNT_ATTR_*`.
pub fn fsmount(fs: i32, attributes: u64) -> Result<i32> {
    call!(SYS_fsmount, fs, 1u32, attributes).map(|fd| fd as i32)
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns: u64,
}

/// mount_setattr(2) on what `fd` refers to, Linux 5.12.
pub fn mount_setattr(fd: i32, recursive: bool, attr: &MountAttr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { AT_RECURSIVE } else { 0 };
    call!(SYS_mount_setattr, fd, c"", flags, attr as *const MountAttr, size_of::<MountAttr>()).map(drop)
}

/// Which of the calls that have a fallback this kernel, or the sandbox around us, lets through.
/// Each is asked with arguments that it refuses before it does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// open_tree, move_mount, fsopen and their kin (5.2).
    pub mount_api: bool,
    /// All that, and mount_setattr (5.12).
    pub mount_setattr: bool,
}

pub fn probe() -> Calls {
    let known = |answer: Result<usize>| answer == Err(Errno(libc::EINVAL));
    let mount_api = known(call!(SYS_open_tree, -1, null::<u8>(), u32::MAX));
    let setattr = || known(call!(SYS_mount_setattr, -1, null::<u8>(), u32::MAX, null::<u8>(), 0usize));
    Calls { mount_api, mount_setattr: mount_api && setattr() }
}

/// libc's constants of these overflow to 0 where `c_int` is 32 bits wide.
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub const CLONE_NEWTIME: u64 = 0x80;

/// The two sides of a process that was cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Child,
    /// `pidfd` is close-on-exec; -1 without `CLONE_PIDFD`.
    Parent {
        pid: i32,
        pidfd: i32,
    },
}

/// `struct clone_args` of clone3(2); `rest`: stack, its size, tls, set_tid and its size.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    tids: [u64; 2],
    exit_signal: u64,
    rest: [u64; 5],
    cgroup: u64,
}

/// clone3(2) without a new stack: like fork(2), with namespaces and, where given, a cgroup2 directory.
/// The caller must be single-threaded: the child has only the calling thread. Linux 5.3, the cgroup 5.7.
pub fn clone3(flags: u64, cgroup: Option<i32>) -> Result<Side> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags,
        pidfd: &raw mut pidfd as u64,
        // With CLONE_PARENT the kernel takes the exit signal from the caller and refuses another.
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup as u64;
    }
    let pid = call!(SYS_clone3, &raw mut args, size_of::<CloneArgs>())?;
    Ok(if pid == 0 { Side::Child } else { Side::Parent { pid: pid as i32, pidfd } })
}

pub fn exit(code: i32) -> ! {
    // SAFETY: _exit runs no code of ours and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces the program. `argv` and `envp` end with a null pointer. Returns only on failure.
pub fn execve(path: &CStr, argv: &[*const c_char], envp: &[*const c_char]) -> Errno {
    assert!(argv.last().is_some_and(|p| p.is_null()) && envp.last().is_some_and(|p| p.is_null()));
    match call!(SYS_execve, path, argv.as_ptr(), envp.as_ptr()) {
        Err(errno) => errno,
        Ok(_) => Errno(libc::ENOEXEC),
    }
}

pub fn getpid() -> i32 {
    call!(SYS_getpid).map_or(0, |pid| pid as i32)
}

/// waitpid(2) for `pid`: the raw status, or `None` with `WNOHANG` while it lives.
pub fn wait(pid: i32, options: i32) -> Result<Option<i32>> {
    let mut status: c_int = 0;
    loop {
        match call!(SYS_wait4, pid, &raw mut status, options, null_mut::<c_void>()) {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer.map(|pid| (pid != 0).then_some(status)),
        }
    }
}

/// Resets one signal to its default action: a `struct sigaction` of zeroes.
pub fn default_signal(signal: i32) -> Result<()> {
    let action = [0u64; 4];
    call!(SYS_rt_sigaction, signal, action.as_ptr(), null_mut::<u8>(), size_of::<u64>()).map(drop)
}

/// Unblocks every signal.
pub fn unblock_signals() -> Result<()> {
    let none = 0u64;
    call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, null_mut::<u8>(), size_of::<u64>())
        .map(drop)
}

/// Waits until one of `fds` has one of its events, at most `milliseconds` (-1: for ever).
pub fn poll(fds: &mut [libc::pollfd], milliseconds: i32) -> Result<usize> {
    // SAFETY: the kernel writes only `revents` of as many entries as it is told.
    checked(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) } as isize)
}

/// Words shared with every later child, zeroed, mapped until the process ends.
pub fn shared_words(count: usize) -> Result<&'static [AtomicU64]> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
    let words = unsafe { libc::mmap(null_mut(), count * size_of::<AtomicU64>(), protection, flags, -1, 0) };
    if words == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: the mapping is zeroed, writable, aligned, as long as `count` words, and never unmapped.
    Ok(unsafe { core::slice::from_raw_parts(words.cast::<AtomicU64>(), count) })
}

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    let mut time = [0u64; 2];
    let _ = call!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, time.as_mut_ptr());
    time[0] * 1_000_000_000 + time[1]
}

pub fn accept(listener: i32) -> Result<i32> {
    loop {
        match call!(SYS_accept4, listener, null_mut::<u8>(), null_mut::<u8>(), libc::SOCK_CLOEXEC) {
            Err(Errno(libc::EINTR | libc::ECONNABORTED)) => {}
            answer => return answer.map(|fd| fd as i32),
        }
    }
}

/// How many descriptors one message may carry.
pub const MOST_FDS: usize = 4;

/// `struct msghdr` of sendmsg(2) on a 64-bit kernel.
#[repr(C)]
struct Message {
    name: (u64, u64),
    iov: *const [u64; 2],
    iov_count: u64,
    control: *mut Control,
    control_size: u64,
    flags: u64,
}

/// One control message of cmsg(3) that carries descriptors.
#[repr(C)]
struct Control {
    size: u64,
    level: i32,
    kind: i32,
    fds: [i32; MOST_FDS],
}

impl Control {
    const HEADER: u64 = 16;
}

/// Sends one message with descriptors. Never raises SIGPIPE.
pub fn send(socket: i32, bytes: &[u8], fds: &[i32]) -> Result<usize> {
    let size = Control::HEADER + size_of_val(fds) as u64;
    let mut control = Control { size, level: libc::SOL_SOCKET, kind: libc::SCM_RIGHTS, fds: [-1; MOST_FDS] };
    control.fds.get_mut(..fds.len()).ok_or(Errno(libc::E2BIG))?.copy_from_slice(fds);
    let iov = [bytes.as_ptr() as u64, bytes.len() as u64];
    let control_size = if fds.is_empty() { 0 } else { size.next_multiple_of(8) };
    let message =
        Message { name: (0, 0), iov: &iov, iov_count: 1, control: &mut control, control_size, flags: 0 };
    loop {
        match call!(SYS_sendmsg, socket, &raw const message, libc::MSG_NOSIGNAL) {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer,
        }
    }
}

/// prctl(2) with plain numbers.
pub fn prctl(option: i32, argument: u64) -> Result<usize> {
    call!(SYS_prctl, option, argument, 0u64, 0u64, 0u64)
}

/// `PR_CAP_AMBIENT` of prctl(2): `operation` is `PR_CAP_AMBIENT_*`.
pub fn ambient(operation: i32, capability: u64) -> Result<()> {
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, operation, capability, 0u64, 0u64).map(drop)
}

/// capset(2) on ourselves; bit n of each set is capability n.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let half = |shift: u32| [effective, permitted, inheritable].map(|set| (set >> shift) as u32);
    let sets = [half(0), half(32)];
    call!(SYS_capset, header.as_ptr(), sets.as_ptr()).map(drop)
}

/// The effective, permitted and inheritable capabilities we have.
pub fn capget() -> Result<[u64; 3]> {
    let header = [0x2008_0522u32, 0];
    let mut sets = [[0u32; 3]; 2];
    call!(SYS_capget, header.as_ptr(), sets.as_mut_ptr())?;
    Ok([0, 1, 2].map(|set| u64::from(sets[0][set]) | u64::from(sets[1][set]) << 32))
}

pub fn setgroups(groups: &[u32]) -> Result<()> {
    call!(SYS_setgroups, groups.len(), groups.as_ptr()).map(drop)
}

pub fn sethostname(name: &CStr) -> Result<()> {
    call!(SYS_sethostname, name, name.to_bytes().len()).map(drop)
}

pub fn setdomainname(name: &CStr) -> Result<()> {
    call!(SYS_setdomainname, name, name.to_bytes().len()).map(drop)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING`: the new keyring's serial number.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    call!(SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name).map(|serial| serial as i32)
}

/// keyctl(2) `KEYCTL_DESCRIBE`: "type;uid;gid;perm;description".
pub fn describe_key(serial: i32, buffer: &mut [u8]) -> Result<usize> {
    call!(SYS_keyctl, libc::KEYCTL_DESCRIBE, serial, buffer.as_mut_ptr(), buffer.len())
}

/// `struct sched_attr` of sched_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

pub fn sched_setattr(attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    call!(SYS_sched_setattr, 0, &raw const attr, 0u32).map(drop)
}

/// sched_setaffinity(2) of `pid` (0: ourselves): bit n of the mask, little-endian bytes, is CPU n.
pub fn sched_setaffinity(pid: i32, mask: &[u8]) -> Result<()> {
    call!(SYS_sched_setaffinity, pid, mask.len(), mask.as_ptr()).map(drop)
}

/// set_mempolicy(2); `nodes` as the mask of [`sched_setaffinity`].
pub fn set_mempolicy(mode: i32, nodes: &[u8]) -> Result<()> {
    let mask = if nodes.is_empty() { null() } else { nodes.as_ptr() };
    call!(SYS_set_mempolicy, mode, mask, if nodes.is_empty() { 0 } else { nodes.len() * 8 + 1 }).map(drop)
}

/// Sets a resource limit (`RLIMIT_*`) of `pid`; 0 is ourselves.
pub fn prlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limits = [soft, hard];
    call!(SYS_prlimit64, pid, resource, limits.as_ptr(), null_mut::<u64>()).map(drop)
}

/// `TIOCSPTLCK`: makes the other side of a pseudoterminal usable.
pub fn unlock_terminal(master: i32) -> Result<()> {
    let unlocked: c_int = 0;
    call!(SYS_ioctl, master, libc::TIOCSPTLCK as u64, &raw const unlocked).map(drop)
}

pub fn set_window_size(terminal: i32, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    call!(SYS_ioctl, terminal, libc::TIOCSWINSZ as u64, &raw const size).map(drop)
}

/// Brings the loopback interface of our network namespace up (netdevice(7)).
pub fn loopback_up() -> Result<()> {
    let socket = call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)? as i32;
    let mut request = [0u8; size_of::<libc::ifreq>()];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&((libc::IFF_UP | libc::IFF_RUNNING) as u16).to_ne_bytes());
    let answer = call!(SYS_ioctl, socket, libc::SIOCSIFFLAGS as u64, request.as_ptr());
    close(socket);
    answer.map(drop)
}
pub mod bpf;
pub mod seccomp;
