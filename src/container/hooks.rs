//! Runs one OCI hook: <https://github.com/opencontainers/runtime-spec/blob/main/config.md#posix-platform-hooks>.
//!
//! A hook is a program of the administrator's. It gets the container's state on standard input, the
//! environment that `config.json` gives it and nothing of the runtime's: no variable (a variable of an
//! image in a hook of the host was CVE-2025-23266), no descriptor. It cannot hold the runtime up: not
//! by leaving its input unread, not by flooding its output, not by leaving a child behind that keeps
//! its output open, and not for longer than its timeout or the container's life.
//!
//! It runs in the namespaces of the calling process; for createContainer hooks that is a process that
//! joined the container's.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use corten_init::sys;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus, pidfd_open, waitpid};

use crate::error::{Error, Kind, Result};
use crate::spec::Hook;

/// How much of what a hook prints is kept for the error's text.
const OUTPUT_MAX: usize = 1024;

/// What all hooks of one kind have in common.
#[derive(Debug, Clone, Copy)]
pub struct Occasion<'a> {
    /// The name in `config.json`: `createRuntime`.
    pub kind: &'static str,
    /// The state as JSON, see [`State::hook_document`](super::state::State::hook_document).
    pub state: &'a [u8],
    /// The working directory: the bundle.
    pub directory: &'a Path,
    /// A pidfd of the container's init, if the container must live for the hook to make sense.
    pub container: Option<BorrowedFd<'a>>,
}

impl Occasion<'_> {
    /// Runs hooks in their order; the first failure is the end.
    pub fn run_all(&self, hooks: &[Hook]) -> Result<()> {
        hooks.iter().enumerate().try_for_each(|(index, hook)| self.run(index, hook))
    }

    /// Runs hooks in their order; failures are logged as warnings, as the specification demands of
    /// poststop hooks.
    pub fn run_each(&self, hooks: &[Hook]) {
        for (index, hook) in hooks.iter().enumerate() {
            if let Err(error) = self.run(index, hook) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Runs the hook that stands at `index` of its list.
    ///
    /// # Errors
    /// It cannot be executed, ends otherwise than with 0, exceeds its timeout, or the container dies
    /// meanwhile. The text holds runc's "error running KIND hook #INDEX: ".
    pub fn run(&self, index: usize, hook: &Hook) -> Result<()> {
        let started = Instant::now();
        let mut running = Running::start(self, hook).map_err(|(call, cause)| {
            let what = format!(
                "error running {} hook #{index}: cannot execute {}",
                self.kind,
                hook.path().display()
            );
            self.place(index, Error::io(what, call, cause).of_kind(Kind::Internal))
        })?;
        // The specification counts seconds above 0; validation has refused others.
        let timeout = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let end = running.end(timeout.map(|timeout| started + timeout), self.container);
        let output = running.output();
        let reason = match end {
            Ok(End::Exited(status)) if status.exit_status() == Some(0) => {
                tracing::debug!(
                    output,
                    "{} hook #{index} done in {} us",
                    self.kind,
                    started.elapsed().as_micros()
                );
                return Ok(());
            }
            Ok(End::Exited(status)) => words(status),
            Ok(End::TimedOut) => {
                format!("killed after its timeout of {} s", timeout.unwrap_or_default().as_secs())
            }
            Ok(End::ContainerDied) => "killed because the container died".to_owned(),
            Err(errno) => format!("cannot wait for it: {}", crate::error::describe(errno)),
        };
        let what = format!("error running {} hook #{index}: {} failed", self.kind, hook.path().display());
        let reason = if output.is_empty() { reason } else { format!("{reason}: it printed {output:?}") };
        Err(self.place(index, Error::new(Kind::Internal, what).because(reason)))
    }

    fn place(&self, index: usize, error: Error) -> Error {
        error.at(format!("/hooks/{}/{index}", self.kind))
    }
}

fn words(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => format!("wait status {:#x}", status.as_raw()),
    }
}

enum End {
    Exited(WaitStatus),
    TimedOut,
    ContainerDied,
}

/// The call that failed, and why.
type Refusal = (&'static str, std::io::Error);

/// A hook that has been started. Dropping it kills what is left of it.
struct Running {
    pid: Pid,
    pidfd: OwnedFd,
    output: File,
    text: Vec<u8>,
    is_over: bool,
}

impl Running {
    fn start(occasion: &Occasion, hook: &Hook) -> std::result::Result<Running, Refusal> {
        keep_descriptors().map_err(|e| ("close_range", e))?;
        // A file, not a pipe: nobody has to read it, whatever its length.
        let state = memfd_create(c"state", MFdFlags::MFD_CLOEXEC).map_err(|e| ("memfd_create", e.into()))?;
        let mut state = File::from(state);
        state.write_all(occasion.state).and_then(|()| state.rewind()).map_err(|e| ("write", e))?;
        let (output, writer) = std::io::pipe().map_err(|e| ("pipe2", e))?;
        let stdio = [state.as_raw_fd(), writer.as_raw_fd(), writer.as_raw_fd()];
        let pid = spawn(hook, occasion.directory, stdio)?;
        // End of file must mean that the hook closed it.
        drop(writer);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(errno) => {
                kill(pid);
                return Err(("pidfd_open", errno.into()));
            }
        };
        let output = OwnedFd::from(output).into();
        Ok(Running { pid, pidfd, output, text: Vec::new(), is_over: false })
    }

    /// Waits for the hook's end, for `deadline`, or for `container` to die, and reads its output meanwhile.
    fn end(&mut self, deadline: Option<Instant>, container: Option<BorrowedFd>) -> nix::Result<End> {
        let mut open = true;
        loop {
            let mut fds = vec![PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            fds.extend(container.map(|pidfd| PollFd::new(pidfd, PollFlags::POLLIN)));
            if open {
                fds.push(PollFd::new(self.output.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, patience(deadline)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let ready = |fd: &PollFd| fd.revents().is_some_and(|events| !events.is_empty());
            let (ended, died) = (ready(&fds[0]), container.is_some() && ready(&fds[1]));
            let printed = open && fds.last().is_some_and(ready);
            if printed {
                open = self.read();
            }
            if ended {
                while open && self.is_readable() {
                    open = self.read();
                }
                self.is_over = true;
                return wait(self.pid).map(End::Exited);
            }
            if died {
                return Ok(End::ContainerDied);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(End::TimedOut);
            }
        }
    }

    /// Reads what there is; false at the end of the output.
    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        match self.output.read(&mut piece) {
            Ok(0) => false,
            Ok(length) => {
                let room = OUTPUT_MAX - self.text.len();
                self.text.extend_from_slice(&piece[..length.min(room)]);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    fn is_readable(&self) -> bool {
        let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        // A child that the hook left behind may print for ever; only what is there now counts.
        self.text.len() < OUTPUT_MAX && poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.text).trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_over {
            kill(self.pid);
        }
    }
}

fn patience(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    // A millisecond more, or the last round would spin.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

/// Starts the hook's program in a process group of its own, with no signal blocked or ignored: we may
/// have blocked them all (std's Command would pass that on).
fn spawn(hook: &Hook, directory: &Path, stdio: [RawFd; 3]) -> std::result::Result<Pid, Refusal> {
    let text = |text: &[u8]| CString::new(text).map_err(|e| ("execve", e.into()));
    let path = text(hook.path().as_os_str().as_bytes())?;
    let mut argv = hook
        .args()
        .iter()
        .flatten()
        .map(|arg| text(arg.as_bytes()))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    if argv.is_empty() {
        argv.push(path.clone());
    }
    let envp = hook
        .env()
        .iter()
        .flatten()
        .map(|entry| text(entry.as_bytes()))
        .collect::<std::result::Result<Vec<_>, _>>()?;

    let refused = |errno: Errno| ("posix_spawn", errno.into());
    let mut attributes = PosixSpawnAttr::init().map_err(refused)?;
    attributes
        .set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETPGROUP
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
        )
        .and_then(|()| attributes.set_pgroup(nix::unistd::Pid::from_raw(0)))
        .and_then(|()| attributes.set_sigmask(&SigSet::empty()))
        .and_then(|()| attributes.set_sigdefault(&SigSet::all()))
        .map_err(refused)?;
    let mut actions = PosixSpawnFileActions::init().map_err(refused)?;
    for (target, fd) in stdio.into_iter().enumerate() {
        actions.add_dup2(fd, target as RawFd).map_err(refused)?;
    }

    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let ours = open(".", flags, Mode::empty()).map_err(|e| ("open", e.into()))?;
    chdir(directory).map_err(|e| ("chdir", e.into()))?;
    let spawned = posix_spawn(path.as_c_str(), &actions, &attributes, &argv, &envp);
    fchdir(&ours).map_err(|e| ("fchdir", e.into()))?;
    let pid = spawned.map_err(|e| ("execve", e.into()))?;
    Pid::from_raw(pid.as_raw()).ok_or_else(|| ("posix_spawn", Errno::ESRCH.into()))
}

/// Ends the hook and its whole process group: a shell's child would go on otherwise.
fn kill(pid: Pid) {
    sys::kill(-pid.as_raw_pid(), libc::SIGKILL).ok();
    wait(pid).ok();
}

fn wait(pid: Pid) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) => {}
            Err(errno) if errno == rustix::io::Errno::INTR => {}
            Err(errno) => return Err(Errno::from_raw(errno.raw_os_error())),
        }
    }
}

/// Marks every descriptor beyond stdio close-on-exec: also those that we were started with.
fn keep_descriptors() -> std::io::Result<()> {
    if sys::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).is_ok() {
        return Ok(());
    }
    // Before Linux 5.11.
    for entry in std::fs::read_dir("/proc/self/fd")? {
        if let Ok(fd) = entry?.file_name().to_string_lossy().parse::<i32>()
            && fd > 2
        {
            sys::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).ok();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn hook(script: &str, timeout: Option<i64>) -> Hook {
        let mut hook = Hook::default();
        hook.set_path("/bin/sh".into());
        hook.set_args(Some(["hook-name", "-c", script].map(String::from).to_vec()));
        hook.set_timeout(timeout);
        hook
    }

    fn occasion() -> Occasion<'static> {
        Occasion { kind: "prestart", state: b"{\"id\":\"a\"}", directory: Path::new("/tmp"), container: None }
    }

    fn failure(hook: &Hook) -> String {
        occasion().run(1, hook).unwrap_err().to_string()
    }

    #[test]
    fn a_hook_gets_state_environment_and_directory() {
        // Cargo sets it for tests; it must not go further.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let mut hook = hook(
            r#"read -r state; test "$state" = '{"id":"a"}' && test "$A" = "1=2" && test -z "$CARGO_MANIFEST_DIR" &&
               test "$0" = hook-name && test "$(pwd -P)" = /tmp && test -z "$HOME""#,
            Some(20),
        );
        hook.set_args(hook.args().clone().map(|mut args| {
            args.push("hook-name".into());
            args
        }));
        hook.set_env(Some(vec!["A=1=2".into()]));
        occasion().run_all(&[hook.clone(), hook]).unwrap();
    }

    #[test]
    fn a_hook_has_no_descriptor_of_ours() {
        let leak = File::open("/dev/null").unwrap();
        let leak = sys::fcntl(leak.as_raw_fd(), libc::F_DUPFD, 77).unwrap();
        let script = format!("test ! -e /proc/$$/fd/{leak} && test -e /proc/$$/fd/2");
        occasion().run(0, &hook(&script, Some(20))).unwrap();
        sys::close(leak);
    }

    #[test]
    fn a_hook_has_its_signals() {
        let mut mask = SigSet::empty();
        mask.add(nix::sys::signal::Signal::SIGUSR1);
        let before = mask.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).unwrap();
        let status = r#"while read -r name value; do case $name in SigBlk:|SigIgn:) test $((0x$value & 0x7fffffff)) = 0 || { echo $name $value; exit 1; }; esac
                        done </proc/self/status"#;
        occasion().run(0, &hook(status, Some(20))).unwrap();
        before.thread_set_mask().unwrap();
    }

    #[test]
    fn failures_say_which_hook_and_why() {
        assert_eq!(
            failure(&hook("echo out; echo err >&2; exit 7", None)),
            "error running prestart hook #1: /bin/sh failed (config.json#/hooks/prestart/1): exit status 7: \
             it printed \"out\\nerr\""
        );
        assert!(failure(&hook("kill -9 $$", None)).ends_with(": killed by signal 9"));
        let mut missing = Hook::default();
        missing.set_path("/nonexistent".into());
        assert_eq!(
            failure(&missing),
            "error running prestart hook #1: cannot execute /nonexistent (config.json#/hooks/prestart/1): \
             execve: no such file or directory"
        );
        assert!(occasion().run_all(&[hook("exit 0", None), hook("exit 1", None)]).is_err());
        occasion().run_each(&[hook("exit 1", None)]);
    }

    #[test]
    fn a_timeout_ends_the_whole_group() {
        let mark = std::env::temp_dir().join(format!("corten-hook-{}", std::process::id()));
        let started = Instant::now();
        let script = format!("(sleep 3; touch {}) & wait", mark.display());
        assert!(failure(&hook(&script, Some(1))).ends_with("killed after its timeout of 1 s"));
        assert!(started.elapsed() < Duration::from_millis(2500));
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!mark.exists());
    }

    #[test]
    fn a_child_that_keeps_the_output_does_not_delay() {
        let started = Instant::now();
        occasion().run(0, &hook("sleep 30 & exit 0", None)).unwrap();
        occasion().run(0, &hook("yes | head -c 1000000; exit 0", None)).unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_dead_container_ends_the_hook() {
        let mut container = Command::new("sleep").arg("0.2").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&container), PidfdFlags::empty()).unwrap();
        let alive = Occasion { container: Some(pidfd.as_fd()), ..occasion() };
        let error = alive.run(0, &hook("sleep 30", None)).unwrap_err();
        assert!(error.to_string().ends_with("killed because the container died"), "{error}");
        container.wait().unwrap();
    }

    #[test]
    fn an_unread_state_is_no_failure() {
        let state = vec![b' '; 10 << 20];
        Occasion { state: &state, ..occasion() }.run(0, &hook("exit 0", None)).unwrap();
    }
}
