//! The end of the init process: finding the program, waiting for `start`, running the
//! startContainer hooks, and becoming the program.

use core::ffi::CStr;
use core::sync::atomic::Ordering;

use crate::program::{Called, Fault, Hook, Program, Slot, Words};
use crate::sys::{self, AT_FDCWD, Errno, Side};
use crate::wire::{HEAD, START};

/// The first of `candidates` that is a file we may execute. With a single candidate its own fault is
/// told; a search tells only that nothing was found.
pub fn find<'p>(program: &Program<'p>, candidates: Words) -> Result<&'p CStr, Fault> {
    let candidates = program.words(candidates);
    let mut fault = Fault::new("stat", libc::ENOENT);
    for candidate in candidates {
        let path = program.text(*candidate);
        match executable(path) {
            Ok(()) => return Ok(path),
            Err(other) if candidates.len() == 1 => fault = other,
            Err(_) => {}
        }
    }
    Err(fault)
}

fn executable(path: &CStr) -> Result<(), Fault> {
    let file = sys::open(path, libc::O_PATH).called("stat")?;
    let stat = sys::statat(file, c"").called("stat");
    sys::close(file);
    if stat?.st_mode & libc::S_IFMT == libc::S_IFDIR {
        return Err(Fault::new("stat", libc::EISDIR));
    }
    sys::accessat(AT_FDCWD, path, libc::X_OK).called("access")
}

/// How long a connection may be silent, in milliseconds.
const PATIENCE: i32 = 1000;

/// Waits until `start` comes and says so; the connection is then where faults go.
pub fn wait(program: &Program) -> Result<(), Fault> {
    // Nothing of the host, nor of how we came here, is in our hands while we wait.
    for number in (0..program.slots.len() as u16).map(Slot) {
        let of_hook = |hook: &Hook| number == hook.state || number == hook.output;
        if number != Slot::START && !program.hooks.iter().any(of_hook) {
            program.close(number);
        }
    }
    let listener = program.slot(Slot::START);
    loop {
        let caller = sys::accept(listener).called("accept")?;
        let mut word = [0; START.len()];
        // Somebody who was stopped between connecting and going away must not keep `start` out.
        let mut said = [libc::pollfd { fd: caller, events: libc::POLLIN, revents: 0 }];
        let speaks = matches!(poll_fully(&mut said, PATIENCE), Ok(1..));
        if speaks && sys::read(caller, &mut word) == Ok(START.len()) && word == *START {
            // `start` must see that nobody listens any more as soon as the program runs.
            sys::close(listener);
            program.set(Slot::START, -1);
            program.set(Slot::SYNC, caller);
            return Ok(());
        }
        // Somebody only looked whether we still wait.
        sys::close(caller);
    }
}

/// How a hook ended.
pub enum Ended {
    Well,
    /// With this wait status, or killed by us at its timeout.
    Badly {
        status: i32,
        timed_out: bool,
    },
}

/// Runs a hook to its end. A hook that cannot be executed is a fault with the call and errno.
pub fn hook(program: &Program, hook: &Hook) -> Result<Ended, Fault> {
    let step = program.progress.load(Ordering::Relaxed);
    // Every hook reads the state from its start, and is blamed for its own output alone.
    let (state, output) = (program.slot(hook.state), program.slot(hook.output));
    sys::seek(state, libc::SEEK_SET).called("lseek")?;
    sys::ftruncate(output, 0).and_then(|()| sys::seek(output, libc::SEEK_SET)).called("ftruncate")?;
    let side = sys::clone3(libc::CLONE_PIDFD as u64, None).called("clone3")?;
    let Side::Parent { pid, pidfd } = side else { become_hook(program, hook, step) };
    let mut timed_out = false;
    let mut ready = [libc::pollfd { fd: pidfd, events: libc::POLLIN, revents: 0 }];
    // Not ready, or a poll that fails: the hook's time is over.
    if hook.timeout >= 0 && !matches!(poll_fully(&mut ready, hook.timeout), Ok(1..)) {
        timed_out = true;
        // It may have children that hold its stdio: its whole group goes.
        let _ = sys::kill(-pid, libc::SIGKILL);
        let _ = sys::kill(pid, libc::SIGKILL);
    }
    let status = sys::wait(pid, libc::__WALL).called("wait")?.unwrap_or(-1);
    sys::close(pidfd);
    let after = program.progress.swap(step, Ordering::Relaxed);
    if after != step {
        // The child left the errno of its failed execve in the upper half.
        return Err(Fault::new("execve", (after >> 16) as i32));
    }
    Ok(if status == 0 { Ended::Well } else { Ended::Badly { status, timed_out } })
}

fn poll_fully(fds: &mut [libc::pollfd], milliseconds: i32) -> sys::Result<usize> {
    loop {
        match sys::poll(fds, milliseconds) {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer,
        }
    }
}

fn become_hook(program: &Program, hook: &Hook, step: u64) -> ! {
    let _ = sys::setpgid(0, 0);
    let stdio = [(hook.state, 0), (hook.output, 1), (hook.output, 2)];
    let plumbed = stdio.into_iter().try_for_each(|(slot, fd)| sys::dup3(program.slot(slot), fd));
    let errno = match plumbed {
        Ok(()) => sys::execve(program.text(hook.path), hook.argv, hook.envp),
        Err(errno) => errno,
    };
    program.progress.store(step | (errno.0 as u64) << 16, Ordering::Relaxed);
    sys::exit(127)
}

/// The end of what a hook printed.
pub fn output(program: &Program, hook: &Hook, buffer: &mut [u8; HEAD]) -> usize {
    let file = program.slot(hook.output);
    let Ok(size) = sys::seek(file, libc::SEEK_END) else { return 0 };
    sys::pread(file, buffer, size.saturating_sub(HEAD as u64)).unwrap_or(0)
}

/// Becomes the container's program. Returns only if that fails, with what there is to know of the file.
pub fn become_program(program: &Program, path: &CStr, head: &mut [u8; HEAD]) -> (Fault, usize) {
    match sys::close_range(3 + program.preserve, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) {
        // Without the call (Linux before 5.11) every descriptor of ours is close-on-exec all the same.
        Ok(()) | Err(Errno(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {}
        Err(errno) => return (Fault { call: "close_range", errno }, 0),
    }
    let errno = sys::execve(path, program.argv, program.envp);
    let mut length = 0;
    if let (libc::ENOEXEC | libc::ENOENT | libc::EACCES, Ok(file)) =
        (errno.0, sys::open(path, libc::O_RDONLY | libc::O_NONBLOCK))
    {
        length = sys::read(file, head).unwrap_or(0);
        sys::close(file);
    }
    (Fault { call: "execve", errno }, length)
}
