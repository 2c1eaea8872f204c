//! Words for what went wrong in the init process, which itself knows only a step, a call and an errno.

use corten_init::program::{Op, Point};
use corten_init::wire::Report;
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::launch::Init;
use super::{executable, filtered};
use crate::error::{Error, Kind, describe};
use crate::plan::{self, Plan};
use crate::spec;

/// A step failed.
pub fn error(plan: &Plan, report: &Report) -> Error {
    let step = report.step as usize;
    let call = String::from_utf8_lossy(report.call);
    let errno = Errno::from_raw(report.errno);
    let what = format!("cannot {}", plan::describe(plan, step));
    let origin = plan.steps.get(step).map(|step| step.origin.to_string()).unwrap_or_default();
    let error = Error::new(Kind::Kernel, what).at(origin);
    let name = || plan.argv.first().map_or("", |name| plan.str(*name));
    match plan.steps.get(step).map(|step| step.op) {
        Some(Op::Find { candidates }) => {
            error.errno_only(errno).because(not_found(name(), candidates.count == 1 && name().contains('/'), errno))
        }
        // The words of runc; 0 is what a process writes to move itself.
        Some(Op::JoinCgroup(_)) => error
            .errno_only(errno)
            .because(format!("adding pid 0 to cgroups: {call}: {}", describe(errno))),
        Some(Op::Exec) => error.errno_only(errno).because(executable::explain(name(), errno, report.head)),
        Some(Op::Attach { point: Point::Ordinary, .. } | Op::LegacyMount { point: Point::Ordinary, .. })
            if matches!(errno, Errno::ELOOP | Errno::ENOTDIR) =>
        {
            error.errno_only(errno).because("it must be mounted on ordinary directory, without symbolic links on the way")
        }
        Some(Op::Attach { .. } | Op::LegacyMount { .. }) if errno == Errno::EXDEV && call == "open" => {
            error.errno_only(errno).because("the target cannot be mounted because it is inside /proc")
        }
        Some(Op::Directory { path, .. }) if errno == Errno::EXDEV => error.errno_only(errno).because(format!(
            "current working directory {:?} is outside of container mount namespace root -- possible container breakout detected",
            plan.str(path)
        )),
        Some(Op::Directory { path, .. }) => error.call(&call, errno).because(format!(
            "chdir to cwd ({:?}) set in config.json failed: {}",
            plan.str(path),
            describe(errno)
        )),
        Some(Op::Mask { .. }) if errno == Errno::ENODEV => {
            error.errno_only(errno).because("the host's /dev/null is not the null device")
        }
        Some(Op::BindNode { .. }) if errno == Errno::ENODEV => {
            error.errno_only(errno).because("the host's node is another device")
        }
        Some(Op::MakeNode { .. }) if errno == Errno::EEXIST => {
            error.call(&call, errno).because("something else than this device is there")
        }
        Some(Op::Scheduler { .. }) if errno == Errno::EPERM => error.call(&call, errno).because(
            "the capability CAP_SYS_NICE is missing, or the cgroup has no realtime runtime (linux.resources.cpu)",
        ),
        Some(Op::Join { .. }) if errno == Errno::EINVAL => {
            error.call(&call, errno).because("it is a namespace of another kind, or the user namespace we are in")
        }
        Some(Op::OpenProc) if errno == Errno::EXDEV => {
            error.errno_only(errno).because("/proc is not a procfs, or something covers it")
        }
        Some(Op::NewMount { .. }) if !report.head.is_empty() => {
            // The level ("e" for an error), then what the kernel says.
            let said = String::from_utf8_lossy(report.head);
            error.call(&call, errno).because(said.split_once(' ').map_or(&*said, |(_, text)| text).trim())
        }
        _ => error.call(&call, errno),
    }
}

/// A fault as `start` hears of it, which comes with the words.
pub fn late_error(report: &Report, name: &str) -> Error {
    let errno = Errno::from_raw(report.errno);
    let error = Error::new(Kind::Kernel, String::from_utf8_lossy(report.words));
    if report.call == b"execve" && !report.words.starts_with(b"cannot run") {
        return error.errno_only(errno).because(executable::explain(name, errno, report.head));
    }
    error.call(&String::from_utf8_lossy(report.call), errno)
}

/// The words of engines and of scripts for a program that is not there: `executable file not found in
/// $PATH` and the kernel's own.
fn not_found(name: &str, is_path: bool, errno: Errno) -> String {
    match errno {
        Errno::ENOENT if is_path => format!("exec: {name:?}: stat {name}: no such file or directory"),
        Errno::ENOENT => format!("exec: {name:?}: executable file not found in $PATH"),
        // What the kernel itself answers; Docker up to 20.10 knows only that.
        Errno::EISDIR => format!("exec: {name:?}: is a directory: permission denied"),
        other => format!("exec: {name:?}: {}", describe(other)),
    }
}

/// A startContainer hook failed, in the container.
pub fn hook(plan: &Plan, step: usize, status: i32, timed_out: bool, output: &[u8]) -> Error {
    let index = match plan.steps.get(step).map(|step| step.op) {
        Some(Op::Hook { index }) => index,
        _ => 0,
    };
    let origin = plan.steps.get(step).map(|step| step.origin.to_string()).unwrap_or_default();
    hook_error(format!("cannot {}", plan::describe(plan, step)), index, status, timed_out, output).at(origin)
}

/// The same as `start` hears of it.
pub fn late_hook(words: &[u8], status: i32, timed_out: bool, output: &[u8]) -> Error {
    let words = String::from_utf8_lossy(words);
    let index =
        words.rsplit_once("startContainer/").and_then(|(_, rest)| rest.trim_end_matches(')').parse().ok());
    hook_error(words.clone().into_owned(), index.unwrap_or(0), status, timed_out, output)
}

fn hook_error(what: String, index: u16, status: i32, timed_out: bool, output: &[u8]) -> Error {
    let how = if timed_out { "timed out and was killed".to_owned() } else { ended(status) };
    let output = String::from_utf8_lossy(output).trim().replace('\n', "; ");
    let output = if output.is_empty() { String::new() } else { format!(", output: {output}") };
    // Scripts look for the number counted from 0, as runc counts.
    Error::new(Kind::Internal, what)
        .because(format!("error running startContainer hook #{index}: {how}{output}"))
}

/// A wait status in words.
fn ended(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        let name = match signal {
            libc::SIGSYS => "bad system call".to_owned(),
            other => Signal::try_from(other)
                .map_or_else(|_| other.to_string(), |signal| signal.as_str().to_owned()),
        };
        return format!("signal: {name}");
    }
    format!("exit status {}", libc::WEXITSTATUS(status))
}

/// The init process died while we served it.
pub fn died(plan: &Plan, init: &mut Init, profile: Option<&spec::Seccomp>) -> Error {
    let step = init.step();
    let doing = plan::describe(plan, step);
    let origin = plan.steps.get(step).map(|step| step.origin.to_string()).unwrap_or_default();
    // Before it is reaped: a scope goes with its last process.
    let out_of_memory = (plan.cgroup.oom_kills() > init.oom_kills).then(|| plan.cgroup.oom_cause()).flatten();
    let how = match init.reap() {
        Ok(status) if libc::WIFSIGNALED(status) => {
            let signal = libc::WTERMSIG(status);
            let name = Signal::try_from(signal).map_or("", Signal::as_str);
            let how = format!("the init process was killed by signal {signal} {name} while trying to do so")
                .replace("  ", " ");
            match (filtered::in_force(plan, step, profile), out_of_memory) {
                // The words of runc.
                (_, Some(cause)) if signal == libc::SIGKILL => {
                    format!("container init was OOM-killed (memory limit too low?): {cause}")
                }
                // A filter kills by SIGSYS, or denies even what a process needs to end.
                (Some(profile), _) if signal != libc::SIGKILL => {
                    format!("{how}; {}", filtered::death(init.pid, profile))
                }
                _ => how,
            }
        }
        Ok(status) => {
            format!("the init process ended with status {} while trying to do so", libc::WEXITSTATUS(status))
        }
        Err(error) => error.to_string(),
    };
    Error::new(Kind::Kernel, format!("cannot {doing}")).at(origin).because(how)
}

/// Something was skipped.
pub fn warn(plan: &Plan, step: usize, call: &[u8], errno: i32, number: u32) {
    let errno = describe(Errno::from_raw(errno));
    match plan.steps.get(step).map(|step| step.op) {
        Some(Op::Ambient { .. }) => {
            let name = caps::all().into_iter().find(|capability| u32::from(capability.index()) == number);
            let name = name.map_or_else(|| number.to_string(), |name| name.to_string());
            tracing::warn!("can't raise ambient capability {name}: {errno}");
        }
        _ => tracing::warn!(
            "cannot {}: {}: {errno}",
            plan::describe(plan, step),
            String::from_utf8_lossy(call)
        ),
    }
}
