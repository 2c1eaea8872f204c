//! What became of a process that its own seccomp filter killed. A profile that denies what a program
//! needs to begin at all kills it before anybody could see it run: engines then report an exit code, and
//! nobody tells the syscall. The kernel does, in its log.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use corten_init::program::Op;
use corten_init::wire::Report;

use crate::error::Error;
use crate::plan::Plan;
use crate::seccomp::policy::Action;
use crate::seccomp::record::Record;
use crate::seccomp::{Abi, abi, explain, policy};
use crate::spec;

/// The kernel's audit thread writes the record a moment after the kill.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether process `pid` is about to end, or has ended, without ever having executed a program since its
/// clone. It must be a child of ours, or be held by a pidfd.
pub fn ended_unexecuted(pid: i32) -> bool {
    /// linux/sched.h.
    const EXITING: u64 = 0x4;
    const NEVER_EXECUTED: u64 = 0x40;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name, which may contain anything, ends with the last parenthesis; the flags are the ninth field.
    let flags =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6)?.parse().ok());
    let flags: u64 = flags.unwrap_or(0);
    flags & EXITING != 0 && flags & NEVER_EXECUTED != 0
}

/// The exit code of a process that a filter killed: 128 and SIGSYS.
pub const EXIT_CODE: i32 = 128 + libc::SIGSYS;

/// Logs which syscall killed process `pid`, which was the container's program and had [`EXIT_CODE`].
pub fn warn(pid: i32, profile: Option<&spec::Seccomp>) {
    if let Some(syscall) = profile.and_then(|profile| syscall(pid, profile)) {
        tracing::warn!("the container's process was killed by its seccomp filter, which answers {syscall}");
    }
}

/// `profile`, if its filter is in force at this step of the plan.
pub fn in_force<'a>(
    plan: &Plan,
    step: usize,
    profile: Option<&'a spec::Seccomp>,
) -> Option<&'a spec::Seccomp> {
    let mut before = plan.steps.iter().take(step);
    profile.filter(|_| before.any(|step| matches!(step.op, Op::Seccomp { .. })))
}

/// What to add to the news that process `pid` died under the filter of `profile`.
pub fn death(pid: i32, profile: &spec::Seccomp) -> String {
    match syscall(pid, profile) {
        Some(syscall) => format!("its seccomp filter answers {syscall}"),
        None => "its seccomp filter was in force (corten seccomp explain tells what it denies)".to_owned(),
    }
}

/// The syscall that killed process `pid` (in the initial pid namespace), and the rule of `profile` that it
/// ran into. `None` where the kernel does not let us know.
fn syscall(pid: i32, profile: &spec::Seccomp) -> Option<String> {
    let policy = policy::resolve(profile, Abi::NATIVE).ok()?;
    record(pid).map(|record| record.describe(&policy))
}

/// Adds to the error of a step what `profile`, if it was in force, says about the step's system call: that
/// it answers with the very errno.
pub fn suspect(error: Error, report: &Report, profile: Option<&spec::Seccomp>) -> Error {
    let denied = || {
        let policy = policy::resolve(profile?, Abi::NATIVE).ok()?;
        let call = std::str::from_utf8(report.call).ok()?;
        let nr = Abi::NATIVE.number(abi::find(call)?)?;
        let denial = Action::Errno(u16::try_from(report.errno).ok()?);
        let verdicts = explain::explain(&policy, Abi::NATIVE, nr, &[None; 6]);
        let verdict = verdicts.into_iter().find(|verdict| verdict.action == denial)?;
        Some(format!("the seccomp filter answers {call} ({nr}): {verdict}"))
    };
    match denied() {
        Some(denial) => error.and(denial),
        None => error,
    }
}

/// The latest record about `pid` in the kernel's log (/dev/kmsg, which only root reads).
fn record(pid: i32) -> Option<Record> {
    let mut log =
        File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/kmsg").ok()?;
    let deadline = Instant::now() + PATIENCE;
    let mut found = None;
    // A read gives one record of the log, which no line of the kernel's outgrows.
    let mut buffer = [0; 8192];
    loop {
        match log.read(&mut buffer) {
            Ok(length) => {
                let line = String::from_utf8_lossy(&buffer[..length]);
                found = Record::parse(&line).filter(|record| record.pid == pid).or(found);
            }
            // Records were overwritten before we read them: the next read goes on behind them.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if found.is_some() || Instant::now() > deadline {
                    return found;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_program_has_not_ended() {
        assert!(!ended_unexecuted(std::process::id() as i32));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = child.id() as i32;
        let is_zombie =
            || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
        while !is_zombie() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!ended_unexecuted(pid), "it executed true(1)");
        child.wait().expect("its end");
        assert!(!ended_unexecuted(pid));
    }
}
