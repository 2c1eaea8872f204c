//! A container that exists, until it is dropped: then it is deleted by force.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use crate::bundle::Bundle;
use crate::exec::Exec;
use crate::host::{cgroup_dirs, limit, mounts_below, read};
use crate::invocation::{Invocation, Output, readable_within};
use crate::view::View;

/// A created container and its bundle.
#[derive(Debug)]
pub struct Container {
    /// What it was created from.
    pub bundle: Bundle,
    /// What `create` said.
    pub created: Output,
    out: PathBuf,
    err: PathBuf,
}

impl Container {
    pub(crate) fn new(bundle: Bundle, out: PathBuf, err: PathBuf, created: Output) -> Container {
        Container { bundle, created, out, err }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// A command on it: `COMMAND ARGS... ID`.
    pub fn command(&self, command: &str, args: &[&str]) -> Invocation {
        self.bundle.runtime().arg(command).args(args).arg(self.id())
    }

    /// `start`.
    #[track_caller]
    pub fn start(&self) -> Output {
        self.command("start", &[]).run(self.bundle.dir())
    }

    /// `kill ID SIGNAL`.
    #[track_caller]
    pub fn kill(&self, signal: &str) -> Output {
        self.command("kill", &[]).arg(signal).run(self.bundle.dir())
    }

    /// `delete`.
    #[track_caller]
    pub fn delete(&self) -> Output {
        self.command("delete", &[]).run(self.bundle.dir())
    }

    /// `delete --force`.
    #[track_caller]
    pub fn delete_force(&self) -> Output {
        self.command("delete", &["--force"]).run(self.bundle.dir())
    }

    /// `state`, which must succeed.
    #[track_caller]
    pub fn state(&self) -> Value {
        let output = self.command("state", &[]).run(self.bundle.dir()).ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("state is no JSON ({e}): {output}"))
    }

    /// The status that `state` tells.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }

    /// The pid of init, as the host sees it.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().expect("a pid");
        pid.try_into().expect("a pid fits")
    }

    /// The contents of /proc/PID/FILE of init.
    #[track_caller]
    pub fn proc(&self, file: &str) -> String {
        read(format!("/proc/{}/{file}", self.pid()))
    }

    /// What /proc/PID/FILE of init points to.
    #[track_caller]
    pub fn proc_link(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid());
        let target = std::fs::read_link(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        target.to_string_lossy().into_owned()
    }

    /// Waits until `state` tells this status. Panics when it does not come.
    #[track_caller]
    pub fn wait_status(&self, status: &str) {
        let end = Instant::now() + limit();
        loop {
            let now = self.status();
            if now == status {
                return;
            }
            assert!(Instant::now() < end, "status should become {status}, stays {now}; {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until init has ended.
    #[track_caller]
    pub fn wait(&self) {
        let pid = self.state()["pid"].as_i64().unwrap_or(0) as i32;
        let Some(pid) = Pid::from_raw(pid) else { return };
        if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
            assert!(readable_within(&pidfd, limit()), "the container does not end: {}", self.output());
        }
        self.wait_status("stopped");
    }

    /// What the container's process wrote to its standard output and error so far.
    pub fn output(&self) -> String {
        read(&self.out) + &read(&self.err)
    }

    /// Starts it, waits for its end, and returns what it wrote to standard output.
    #[track_caller]
    pub fn finish(&self) -> String {
        self.start().ok();
        self.wait();
        read(&self.out)
    }

    /// Starts the probe that this container was created with and returns what it saw.
    #[track_caller]
    pub fn look(&self) -> View {
        View::parse(&self.finish())
    }

    /// An `exec` into it.
    pub fn exec<'a>(&'a self, args: &[&str]) -> Exec<'a> {
        Exec::new(self, args)
    }

    /// Deletes it, by force, and makes sure that nothing is left.
    #[track_caller]
    pub fn vanish(self) {
        self.delete_force().ok();
        assert_nothing_left(&self.bundle);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Not `delete_force`: a panic in a drop would abort the whole suite.
        let call = self.command("delete", &["--force"]);
        let dir = self.bundle.dir().to_owned();
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.run(&dir)));
    }
}

/// Panics when anything of a container is left on the host: its state, cgroups, or mounts.
#[track_caller]
pub fn assert_nothing_left(bundle: &Bundle) {
    let state: Vec<PathBuf> =
        entries(&bundle.state_root()).into_iter().filter(|p| p.ends_with(bundle.id())).collect();
    assert!(state.is_empty(), "left below the state root: {state:?}");
    let cgroups = cgroup_dirs(bundle.id());
    assert!(cgroups.is_empty(), "cgroups left: {cgroups:?}");
    let mounts = mounts_below(bundle.dir());
    assert!(mounts.is_empty(), "mounts left: {mounts:?}");
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect()
}
