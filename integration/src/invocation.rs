//! One command under a watchdog.
//!
//! Standard output and error go to files, never to pipes of ours: a container inherits them, and reading
//! a pipe to its end would wait for the container. A command that outlives its bound is killed, and that
//! is a failure of the test: a runtime never hangs.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::host::limit;

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code, or 128 plus the signal that ended it.
    pub status: i32,
    /// What stands in its standard output.
    pub stdout: String,
    /// What stands in its standard error.
    pub stderr: String,
    /// From spawning to reaping.
    pub took: Duration,
    line: String,
}

impl Output {
    /// Panics with everything there is to know unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Output {
        assert!(self.status == 0, "should succeed: {self}");
        self
    }

    /// Panics unless it failed with a non-zero exit code and said why on standard error.
    #[track_caller]
    pub fn failed(self) -> Output {
        assert!(self.status != 0, "should fail: {self}");
        assert!(!self.stderr.trim().is_empty(), "should say why: {self}");
        assert!(!self.stderr.contains("panicked at"), "should not panic: {self}");
        self
    }

    /// Panics unless the exit code is this one.
    #[track_caller]
    pub fn code(self, code: i32) -> Output {
        assert_eq!(self.status, code, "exit code of {self}");
        self
    }

    /// Panics unless standard error holds this text, in any case.
    #[track_caller]
    pub fn says(self, text: &str) -> Output {
        let found = self.stderr.to_lowercase().contains(&text.to_lowercase());
        assert!(found, "standard error should hold {text:?}: {self}");
        self
    }

    /// Panics unless standard error holds one of these texts, in any case.
    #[track_caller]
    pub fn says_one_of(self, texts: &[&str]) -> Output {
        let stderr = self.stderr.to_lowercase();
        let found = texts.iter().any(|text| stderr.contains(&text.to_lowercase()));
        assert!(found, "standard error should hold one of {texts:?}: {self}");
        self
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Output { status, stdout, stderr, line, took } = self;
        write!(f, "{line}\n  exit code {status} after {took:?}\n  stdout: {stdout}\n  stderr: {stderr}")
    }
}

/// A command to run.
#[derive(Debug)]
pub struct Invocation {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    stdin: Option<OwnedFd>,
    files: Vec<(u32, PathBuf)>,
    terminal: Option<OwnedFd>,
    bound: Duration,
}

impl Invocation {
    /// The program and nothing else. Standard input is /dev/null.
    pub fn new(program: impl AsRef<OsStr>) -> Invocation {
        Invocation {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            stdin: None,
            files: Vec::new(),
            terminal: None,
            bound: limit(),
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Another working directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Another standard input.
    #[must_use]
    pub fn stdin(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(fd.into());
        self
    }

    /// Has this file or directory open under this descriptor (3 to 9), inheritable. A shell opens it in
    /// the child, because a descriptor that is inheritable here would reach other tests' children too.
    #[must_use]
    pub fn file(mut self, fd: u32, path: impl AsRef<Path>) -> Self {
        self.files.push((fd, path.as_ref().to_owned()));
        self
    }

    /// Runs it as the leader of a session whose controlling terminal, and stdio, is this pty.
    #[must_use]
    pub fn terminal(mut self, slave: OwnedFd) -> Self {
        self.terminal = Some(slave);
        self
    }

    /// Runs it under another command, which executes it: `setpriv --groups 27 RUNTIME ...`.
    #[must_use]
    pub fn under(mut self, program: &str, args: &[&str]) -> Self {
        let before = args.iter().map(OsString::from).chain([self.program]);
        self.args = before.chain(self.args).collect();
        self.program = program.into();
        self
    }

    /// Another bound than the usual one.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// Runs it to its end, with its output in files of `dir`.
    #[track_caller]
    pub fn run(self, dir: &Path) -> Output {
        self.spawn(dir).wait()
    }

    /// Starts it, with its output in files of `dir`.
    #[track_caller]
    pub fn spawn(self, dir: &Path) -> Running {
        let stem = dir.join(crate::rootfs::unique("cmd"));
        let (out, err) = (stem.with_extension("out"), stem.with_extension("err"));
        let mut words: Vec<OsString> = Vec::new();
        if self.terminal.is_some() {
            words.extend(["setsid", "--ctty"].map(OsString::from));
        }
        if !self.files.is_empty() {
            let mut script = String::from("exec");
            for (fd, path) in &self.files {
                script.push_str(&format!(" {fd}<'{}'", path.display()));
            }
            script.push_str("; exec \"$0\" \"$@\"");
            words.extend(["sh", "-c", &script].map(OsString::from));
        }
        words.push(self.program);
        words.extend(self.args);
        let line = words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");

        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.env);
        if let Some(cwd) = self.cwd {
            command.current_dir(cwd);
        }
        match self.terminal {
            Some(slave) => {
                command.stdin(slave.try_clone().expect("dup"));
                command.stdout(slave.try_clone().expect("dup")).stderr(slave);
            }
            None => {
                command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
                command.stdout(append(&out)).stderr(append(&err));
            }
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot spawn {line}: {e}"));
        Running { child, since: Instant::now(), bound: self.bound, out, err, line }
    }
}

fn append(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    since: Instant,
    bound: Duration,
    out: PathBuf,
    err: PathBuf,
    line: String,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What stands in its standard output so far; a container may still be writing there.
    pub fn stdout_path(&self) -> PathBuf {
        self.out.clone()
    }

    /// What stands in its standard error.
    pub fn stderr_path(&self) -> PathBuf {
        self.err.clone()
    }

    /// Waits for its end. Panics, after killing it, when the bound is over.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let left = self.bound.saturating_sub(self.since.elapsed());
        if !ends_within(&self.child, left) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            panic!(
                "hangs: {}\n  stdout: {}\n  stderr: {}",
                self.line,
                crate::host::read(&self.out),
                crate::host::read(&self.err)
            );
        }
        let status = code(self.child.wait().expect("wait"));
        Output {
            status,
            stdout: crate::host::read(&self.out),
            stderr: crate::host::read(&self.err),
            took: self.since.elapsed(),
            line: self.line.clone(),
        }
    }
}

/// Whether the process ends before the time is over.
fn ends_within(child: &Child, time: Duration) -> bool {
    let pid = Pid::from_child(child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => readable_within(&pidfd, time),
        Err(_) => true,
    }
}

/// Whether the descriptor becomes readable (a pidfd: its process ended) before the time is over.
pub(crate) fn readable_within(fd: impl AsFd, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = left.try_into().expect("a bound fits a timespec");
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
