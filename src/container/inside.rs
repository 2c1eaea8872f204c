//! Work that must happen within a container's namespaces but is no step of its init process:
//! createContainer hooks, filling a tmpfs from the directory it covers.
//!
//! A forked process joins the namespaces, does the work and ends; the caller itself never moves, so it
//! has nothing to find its way back from. What the work changes in memory is lost with that process.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use corten_init::sys::{self, Side};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{getpid, getppid};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, pidfd_open, pidfd_send_signal, waitpid,
};

use crate::error::{Error, Kind, Result};

/// Longer than any error's text, shorter than what a pipe takes without a reader.
const TEXT_MAX: usize = 16 << 10;

/// How long work whose container has died may take to end what it started.
const GRACE: Duration = Duration::from_secs(1);

/// What a panic makes std's programs exit with.
const PANICKED: i32 = 101;

const WHAT: &str = "cannot work inside the container";

const KINDS: [Kind; 8] = [
    Kind::InvalidSpec,
    Kind::InvalidArgument,
    Kind::NotFound,
    Kind::AlreadyExists,
    Kind::WrongStatus,
    Kind::Unsupported,
    Kind::Kernel,
    Kind::Internal,
];

/// Does `work` in a process that is in those namespaces (`kinds`: `CLONE_NEW*`, see setns(2)) of the
/// process `pidfd`, and is root there if a user namespace is among them. A pid namespace becomes that
/// of the work's children, not its own.
///
/// The caller must be single-threaded. When the process `pidfd` dies, the work is ended.
///
/// # Errors
/// That of the work, with its text and kind; a namespace cannot be joined (by pidfd: Linux 5.8); the
/// work was killed.
pub fn inside(pidfd: BorrowedFd, kinds: u64, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let (reader, writer) = std::io::pipe().map_err(|cause| Error::io(WHAT, "pipe2", cause))?;
    let parent = getpid();
    match sys::clone3(0, None).map_err(|errno| Error::kernel(WHAT, "clone3", errno_of(errno)))? {
        Side::Child => {
            // A panic must not unwind into the caller's destructors: they are the parent's.
            let _end = Exit(PANICKED);
            let done = join(pidfd, kinds).and_then(|()| {
                // Not before: a change of user resets it.
                let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
                if getppid() == parent { work() } else { Ok(()) }
            });
            let code = i32::from(done.is_err());
            tell(writer, done);
            sys::exit(code)
        }
        Side::Parent { pid, .. } => {
            drop(writer);
            let worker = Worker::of(pid)?;
            let outlived = worker.watch(pidfd);
            let status = worker.end()?;
            // A worker that noticed by itself says more.
            if outlived? && status.terminating_signal() == Some(libc::SIGKILL) {
                return Err(Error::new(Kind::Internal, WHAT).because("killed because the container died"));
            }
            hear(reader, status)
        }
    }
}

/// Ends the process at the end of the scope.
struct Exit(i32);

impl Drop for Exit {
    fn drop(&mut self) {
        sys::exit(self.0)
    }
}

fn errno_of(errno: sys::Errno) -> Errno {
    Errno::from_raw(errno.0)
}

fn join(process: BorrowedFd, kinds: u64) -> Result<()> {
    let refused =
        |call, errno| Err(Error::kernel("cannot enter the container's namespaces", call, errno_of(errno)));
    if kinds == 0 {
        return Ok(());
    }
    if let Err(errno) = sys::setns(process.as_raw_fd(), kinds) {
        return refused("setns", errno);
    }
    if kinds & libc::CLONE_NEWUSER as u64 == 0 {
        return Ok(());
    }
    for (call, answer) in [("setresgid", sys::setresgid(0, 0, 0)), ("setresuid", sys::setresuid(0, 0, 0))] {
        match answer {
            // EINVAL: nobody is root there. We have every capability in it all the same.
            Ok(()) | Err(sys::Errno(libc::EINVAL)) => {}
            Err(errno) => return refused(call, errno),
        }
    }
    Ok(())
}

/// Writes the error's kind and text, if there is one.
fn tell(mut writer: PipeWriter, done: Result<()>) {
    if let Err(error) = done {
        let mut message = vec![error.kind() as u8];
        message.extend(error.to_string().into_bytes());
        message.truncate(TEXT_MAX);
        // The parent may be gone; the exit status tells as much as is left to tell.
        let _ = writer.write_all(&message);
    }
}

/// What a process that ended had to tell.
fn hear(reader: PipeReader, status: WaitStatus) -> Result<()> {
    if let Some(signal) = status.terminating_signal() {
        let name = nix::sys::signal::Signal::try_from(signal)
            .map_or_else(|_| format!("signal {signal}"), |known| format!("signal {signal} ({known})"));
        return Err(Error::new(Kind::Internal, WHAT).because(format!("killed by {name}")));
    }
    let mut message = Vec::new();
    File::from(OwnedFd::from(reader))
        .take(TEXT_MAX as u64)
        .read_to_end(&mut message)
        .map_err(|cause| Error::io(WHAT, "read", cause))?;
    match (status.exit_status(), message.split_first()) {
        (Some(0), _) => Ok(()),
        (_, Some((&kind, text))) => {
            let kind = KINDS.get(usize::from(kind)).copied().unwrap_or(Kind::Internal);
            Err(Error::new(kind, String::from_utf8_lossy(text)))
        }
        (code, None) => Err(Error::new(Kind::Internal, WHAT)
            .because(format!("it ended with exit status {} and no reason", code.unwrap_or(-1)))),
    }
}

/// The process that does the work.
struct Worker {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Worker {
    fn of(pid: i32) -> Result<Worker> {
        let failed = |errno| Error::kernel(WHAT, "pidfd_open", errno);
        let pid = Pid::from_raw(pid).ok_or_else(|| failed(Errno::ESRCH))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            failed(Errno::from_raw(errno.raw_os_error()))
        })?;
        Ok(Worker { pid, pidfd })
    }

    /// Waits for the worker's end; true if the container died before. Then the worker has a moment to
    /// notice, as a hook's watch does.
    fn watch(&self, container: BorrowedFd) -> Result<bool> {
        let mut deadline = None;
        loop {
            let mut fds = vec![PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            if deadline.is_none() {
                fds.push(PollFd::new(container, PollFlags::POLLIN));
            }
            match poll(&mut fds, patience(deadline)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::kernel(WHAT, "poll", errno)),
            }
            let ready = |index: usize| {
                fds.get(index).and_then(PollFd::revents).is_some_and(|events| !events.is_empty())
            };
            if ready(0) {
                return Ok(deadline.is_some());
            }
            if ready(1) {
                deadline = Some(Instant::now() + GRACE);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(true);
            }
        }
    }

    /// Kills it if it still lives, and reaps it.
    fn end(&self) -> Result<WaitStatus> {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    return Err(Error::kernel(WHAT, "waitpid", Errno::from_raw(errno.raw_os_error())));
                }
            }
        }
    }
}

fn patience(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    // A millisecond more, or the last round would spin.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Starts the test of that name again, alone in a process, and is true there: forking is for the
    /// single-threaded.
    pub fn alone(test: &str, path: Option<&Path>) -> bool {
        const MARK: &str = "CORTEN_TEST_ALONE";
        if std::env::var_os(MARK).is_some() {
            // This thread and libtest's, which sleeps and so holds no lock.
            assert!(std::fs::read_dir("/proc/self/task").unwrap().count() <= 2);
            return true;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = format!("container::{test}");
        command.args(["--exact", &name, "--test-threads=1", "--nocapture"]).env(MARK, "1");
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        false
    }

    /// A process in new namespaces; with a map, in a user namespace, too.
    pub struct Container(Child, pub OwnedFd);

    impl Container {
        pub fn new(unshare: &[&str], map: Option<&str>) -> Container {
            let mut child = Command::new("/usr/bin/unshare")
                .args(unshare)
                .args(map.map(|_| "--user"))
                .args(["/bin/sh", "-c", "echo; exec /bin/sleep 60"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = [0];
            child.stdout.take().unwrap().read_exact(&mut line).unwrap();
            for file in ["uid_map", "gid_map"] {
                let path = format!("/proc/{}/{file}", child.id());
                map.into_iter().for_each(|map| std::fs::write(&path, map).unwrap());
            }
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
            Container(child, pidfd)
        }

        pub fn pid(&self) -> i32 {
            self.0.id() as i32
        }
    }

    impl Drop for Container {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn namespace(name: &str) -> std::path::PathBuf {
        std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap()
    }

    #[test]
    fn works_in_the_namespaces_and_leaves_the_caller_where_it_is() {
        if !alone("inside::tests::works_in_the_namespaces_and_leaves_the_caller_where_it_is", None) {
            return;
        }
        let container = Container::new(&["-m", "-n"], Some("0 100000 10"));
        let theirs =
            |name: &str| std::fs::read_link(format!("/proc/{}/ns/{name}", container.0.id())).unwrap();
        let kinds = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWNET;
        let before = ["user", "mnt", "net"].map(namespace);
        let expected = ["user", "mnt", "net"].map(theirs);
        assert_ne!(before, expected);
        inside(container.1.as_fd(), kinds as u64, || {
            assert_eq!(["user", "mnt", "net"].map(namespace), expected);
            assert_eq!((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()), (0, 0));
            // Root of the namespace, not ours.
            let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
            assert!(map.split_whitespace().eq(["0", "100000", "10"]), "{map}");
            Ok(())
        })
        .unwrap();
        assert_eq!(["user", "mnt", "net"].map(namespace), before);
        assert_eq!(nix::unistd::geteuid().as_raw(), 0);
    }

    #[test]
    fn a_namespace_without_root_is_entered_too() {
        if !alone("inside::tests::a_namespace_without_root_is_entered_too", None) {
            return;
        }
        let container = Container::new(&["-n"], Some("5 100000 10"));
        inside(container.1.as_fd(), libc::CLONE_NEWUSER as u64, || {
            assert_eq!(nix::unistd::geteuid().as_raw(), 65534);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn errors_come_back_with_text_and_kind() {
        if !alone("inside::tests::errors_come_back_with_text_and_kind", None) {
            return;
        }
        let container = Container::new(&["-n"], None);
        let error = inside(container.1.as_fd(), 0, || {
            Err(Error::kernel("cannot do it", "mkdirat", Errno::EPERM).at("/mounts/3"))
        })
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Kernel);
        assert_eq!(
            error.to_string(),
            "cannot do it (config.json#/mounts/3): mkdirat: operation not permitted"
        );
        for kind in KINDS {
            let error = inside(container.1.as_fd(), 0, || Err(Error::new(kind, "no"))).unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (kind, "no".to_owned()));
        }
        let long = "x".repeat(1 << 20);
        let error = inside(container.1.as_fd(), 0, || Err(Error::new(Kind::Internal, &*long))).unwrap_err();
        assert_eq!(error.to_string(), &long[..TEXT_MAX - 1]);
        // No process can join the user namespace it is in.
        let error = inside(container.1.as_fd(), libc::CLONE_NEWUSER as u64, || Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "cannot enter the container's namespaces: setns: invalid argument");
    }

    #[test]
    fn a_death_is_named() {
        if !alone("inside::tests::a_death_is_named", None) {
            return;
        }
        let container = Container::new(&["-n"], None);
        let error = inside(container.1.as_fd(), 0, || {
            sys::kill(sys::getpid(), libc::SIGKILL).unwrap();
            Ok(())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "cannot work inside the container: killed by signal 9 (SIGKILL)");
        let error = inside(container.1.as_fd(), 0, || panic!("the work panics")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot work inside the container: it ended with exit status 101 and no reason"
        );
    }

    #[test]
    fn the_containers_death_ends_the_work() {
        if !alone("inside::tests::the_containers_death_ends_the_work", None) {
            return;
        }
        let mut container = Container::new(&["-n"], None);
        let killer =
            Command::new("sh").args(["-c", &format!("sleep 0.2; kill -9 {}", container.0.id())]).spawn();
        let started = Instant::now();
        let error = inside(container.1.as_fd(), 0, || {
            std::thread::sleep(Duration::from_secs(30));
            Ok(())
        })
        .unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(error.to_string(), "cannot work inside the container: killed because the container died");
        killer.unwrap().wait().unwrap();
        container.0.wait().unwrap();
    }
}
