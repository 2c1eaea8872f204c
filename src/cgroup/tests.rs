//! Against the real kernel, as root, in cgroups of their own which they remove. Without root they
//! say so and do nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::*;
use crate::error::Kind;

/// A cgroup that is removed at the end, with everything in it.
pub(super) struct Scratch(pub(super) Cgroup);

impl Scratch {
    /// None where the tests may not create cgroups.
    pub(super) fn new(name: &str) -> Option<Scratch> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let name = format!("corten-test-{}-{name}", std::process::id());
        let layout = Layout::read().expect("layout");
        let scratch = Scratch(path::place(&layout, None, &name).expect("placed"));
        scratch.0.create().expect("created");
        Some(scratch)
    }

    pub(super) fn run(&self, script: &str) -> Child {
        run_in(&self.0, script)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.kill_all(Signal::SIGKILL).expect("killed");
        self.0.remove().expect("removed");
        for dir in self.0.dirs() {
            assert!(!dir.full_path().exists(), "{} is left", dir.full_path().display());
        }
    }
}

/// A shell that begins its script in the cgroup.
fn run_in(cgroup: &Cgroup, script: &str) -> Child {
    let script = format!("read go; {script}");
    let mut child = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().expect("sh");
    cgroup.attach(child.id() as i32).expect("attached");
    // The script begins when stdin ends.
    drop(child.stdin.take());
    child
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn life_of_a_cgroup() {
    let Some(scratch) = Scratch::new("life") else { return };
    let cgroup = &scratch.0;
    assert!(cgroup.is_empty().expect("empty"));
    if let Some(cpuset) = cgroup.dir("cpuset").filter(|dir| dir.version == Version::V1) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            assert_ne!(fs::read_to_string(cpuset.full_path().join(file)).expect(file).trim(), "");
        }
    }
    // What nobody is in can be created again.
    cgroup.create().expect("created again");

    let mut child = scratch.run("exec sleep 1000");
    assert_eq!(cgroup.pids().expect("pids"), [child.id() as i32]);
    assert!(!cgroup.is_empty().expect("populated"));
    let layout = Layout::read().expect("layout");
    assert_eq!(&layout.cgroup_of(child.id() as i32).expect("cgroup of the child"), cgroup);
    let taken = cgroup.create().expect_err("somebody is in it");
    assert_eq!(taken.kind(), Kind::AlreadyExists);
    assert!(taken.to_string().contains("container's cgroup is not empty: 1 process(es) found"), "{taken}");

    assert!(!cgroup.is_frozen().expect("running"));
    cgroup.freeze().expect("frozen");
    assert!(cgroup.is_frozen().expect("frozen"));
    cgroup.kill_all(Signal::SIGTERM).expect("signalled");
    assert!(cgroup.is_frozen().expect("still paused"));
    // A fatal signal ends even a frozen process of v2.
    assert!(cgroup.is_pure_v2() || child.try_wait().expect("wait").is_none());
    cgroup.thaw().expect("thawed");
    assert!(!cgroup.is_frozen().expect("running"));
    assert_eq!(child.wait().expect("wait").signal(), Some(Signal::SIGTERM as i32));
    wait_for("the cgroup is empty", || cgroup.is_empty().expect("empty"));
}

#[test]
fn frozen_processes_are_killed() {
    let Some(scratch) = Scratch::new("frozen") else { return };
    let mut child = scratch.run("exec sleep 1000");
    scratch.0.freeze().expect("frozen");
    scratch.0.kill_all(Signal::SIGKILL).expect("killed");
    assert!(!child.wait().expect("wait").success());
    assert!(!scratch.0.is_frozen().expect("never left frozen") || scratch.0.is_pure_v2());
}

#[test]
fn forking_processes_do_not_escape() {
    let Some(scratch) = Scratch::new("forking") else { return };
    let mut child = scratch.run("while :; do sleep 1000 & done");
    wait_for("some children", || scratch.0.pids().expect("pids").len() > 20);
    scratch.0.kill_all(Signal::SIGKILL).expect("killed");
    child.wait().expect("wait");
    wait_for("the cgroup is empty", || scratch.0.is_empty().expect("empty"));
}

/// The way without cgroup.kill, which this kernel has.
#[test]
fn freezing_and_killing_reaches_everybody() {
    let Some(scratch) = Scratch::new("freeze-kill") else { return };
    // A hybrid machine's cgroup without its cgroup2 part.
    let v1 = Cgroup::new(scratch.0.dirs().iter().filter(|dir| dir.version == Version::V1).cloned());
    if v1.is_none() {
        return;
    }
    let mut child = scratch.run("while :; do sleep 1000 & done");
    wait_for("some children", || v1.pids().expect("pids").len() > 20);
    v1.kill_all(Signal::SIGKILL).expect("killed");
    child.wait().expect("wait");
    wait_for("the cgroup is empty", || v1.is_empty().expect("empty"));
    assert!(!v1.is_frozen().expect("thawed"));
}

#[test]
fn sub_cgroups_are_listed_and_removed() {
    let Some(scratch) = Scratch::new("nested") else { return };
    let mut pids = Vec::new();
    let mut children = Vec::new();
    for depth in ["a", "a/b", "a/b/c", "d", "d/e"] {
        let sub = scratch.0.sub(&[depth]).expect("sub");
        sub.create().expect("created");
        children.push(run_in(&sub, "exec sleep 1000"));
        pids.push(children.last().expect("child").id() as i32);
    }
    let mut found = scratch.0.pids().expect("pids");
    found.sort();
    pids.sort();
    assert_eq!(found, pids);
    scratch.0.kill_all(Signal::SIGKILL).expect("killed");
    for child in &mut children {
        child.wait().expect("wait");
    }
}

#[test]
fn removal_waits_for_dying_processes_and_is_idempotent() {
    let Some(scratch) = Scratch::new("busy") else { return };
    let mut child = scratch.run("exec sleep 0.3");
    let begin = Instant::now();
    scratch.0.remove().expect("removed");
    assert!(begin.elapsed() > Duration::from_millis(100));
    child.wait().expect("wait");
    scratch.0.remove().expect("removed again");
}

#[test]
fn entering_by_descriptors() {
    let Some(scratch) = Scratch::new("entry") else { return };
    let entry = scratch.0.entry().expect("entry");
    assert_eq!(entry.into_cgroup.is_some(), scratch.0.unified().is_some());
    let v1 = scratch.0.dirs().iter().filter(|dir| dir.version == Version::V1).count();
    assert_eq!(entry.tasks.len(), v1);
    let missing = scratch.0.sub(&["nowhere"]).expect("sub").entry().expect_err("nowhere").to_string();
    assert!(missing.contains(" adding pid ") && missing.ends_with("no such file or directory"), "{missing}");
}

#[test]
fn delegation_changes_hands_of_what_the_kernel_lists() {
    let Some(scratch) = Scratch::new("delegate") else { return };
    let Some(dir) = scratch.0.unified() else { return };
    scratch.0.chown(100_000).expect("delegated");
    let owner = |path: &str| fs::metadata(dir.full_path().join(path)).expect(path).uid();
    for path in [".", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        assert_eq!(owner(path), 100_000, "{path}");
    }
    assert_eq!(owner("cgroup.events"), 0);
    assert_eq!(owner("cgroup.controllers"), 0);
}
