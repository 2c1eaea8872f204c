//! Against the real kernel, as root, in cgroups of their own which they remove. Without root they
//! say so and do nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc::{SIGKILL, SIGTERM};

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
        self.0.kill_all(SIGKILL).expect("killed");
        self.0.remove().expect("removed");
        for dir in self.0.dirs() {
            assert!(!dir.full_path().exists(), "{} is left", dir.full_path().display());
        }
    }
}

/// A shell that begins its script in the cgroup.
pub(super) fn run_in(cgroup: &Cgroup, script: &str) -> Child {
    let script = format!("read go; {script}");
    let mut child = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().expect("sh");
    cgroup.attach(child.id() as i32).expect("attached");
    // The script begins when stdin ends.
    drop(child.stdin.take());
    child
}

pub(super) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
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
    cgroup.kill_all(SIGTERM).expect("signalled");
    wait_for("it is still paused", || cgroup.is_frozen().expect("frozen"));
    // A fatal signal ends even a frozen process of v2.
    assert!(cgroup.is_pure_v2() || child.try_wait().expect("wait").is_none());
    cgroup.thaw().expect("thawed");
    assert!(!cgroup.is_frozen().expect("running"));
    assert_eq!(child.wait().expect("wait").signal(), Some(SIGTERM));
    wait_for("the cgroup is empty", || cgroup.is_empty().expect("empty"));
}

#[test]
fn frozen_processes_are_killed() {
    let Some(scratch) = Scratch::new("frozen") else { return };
    let mut child = scratch.run("exec sleep 1000");
    scratch.0.freeze().expect("frozen");
    scratch.0.kill_all(SIGKILL).expect("killed");
    assert!(!child.wait().expect("wait").success());
    assert!(!scratch.0.is_frozen().expect("never left frozen") || scratch.0.is_pure_v2());
}

#[test]
fn forking_processes_do_not_escape() {
    let Some(scratch) = Scratch::new("forking") else { return };
    let mut child = scratch.run("while :; do sleep 1000 & done");
    wait_for("some children", || scratch.0.pids().expect("pids").len() > 20);
    scratch.0.kill_all(SIGKILL).expect("killed");
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
    v1.kill_all(SIGKILL).expect("killed");
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
    scratch.0.kill_all(SIGKILL).expect("killed");
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

fn resources(json: serde_json::Value) -> crate::spec::Resources {
    serde_json::from_value(json).expect("resources")
}

fn lower(json: serde_json::Value) -> Vec<Setting> {
    let layout = Layout::read().expect("layout");
    settings(&resources(json), &layout, "/linux/resources").expect("no problem")
}

impl Scratch {
    fn file(&self, controller: &str, v1: &str, v2: &str) -> String {
        let dir = self.0.dir(controller).expect(controller);
        let file = if dir.version == Version::V1 { v1 } else { v2 };
        fs::read_to_string(dir.full_path().join(file)).expect(file).trim().to_owned()
    }

    fn memory(&self) -> String {
        self.file("memory", "memory.limit_in_bytes", "memory.max")
    }

    /// Memory and swap together, as the specification has it.
    fn swap(&self) -> String {
        if self.0.is_pure_v2() {
            let [memory, swap] = [self.memory(), self.file("memory", "", "memory.swap.max")]
                .map(|text| text.parse::<u64>().expect("number"));
            return (memory + swap).to_string();
        }
        self.file("memory", "memory.memsw.limit_in_bytes", "")
    }
}

const MIB: i64 = 1 << 20;

#[test]
fn limits_are_written() {
    let Some(scratch) = Scratch::new("limits") else { return };
    let asked = serde_json::json!({
        "memory": {"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 12}
    });
    scratch.0.apply(&lower(asked), "config.json").expect("applied");
    assert_eq!(scratch.memory(), (64 * MIB).to_string());
    assert_eq!(scratch.swap(), (96 * MIB).to_string());
    assert_eq!(scratch.file("memory", "memory.soft_limit_in_bytes", "memory.low"), (32 * MIB).to_string());
    let v1 = !scratch.0.is_pure_v2();
    assert_eq!(scratch.file("cpu", "cpu.shares", "cpu.weight"), if v1 { "512" } else { "59" });
    assert_eq!(scratch.file("cpu", "cpu.cfs_quota_us", "cpu.max"), if v1 { "20000" } else { "20000 50000" });
    assert_eq!(scratch.file("cpu", "cpu.cfs_period_us", "cpu.max.burst"), if v1 { "50000" } else { "1000" });
    assert_eq!(scratch.file("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(scratch.file("pids", "pids.max", "pids.max"), "12");

    for (limit, swap) in [(128, 160), (16, 32), (256, 256)] {
        let asked = serde_json::json!({"memory": {"limit": limit * MIB, "swap": swap * MIB}});
        scratch.0.update(&lower(asked), "resources").expect("memory and swap in whatever order works");
        assert_eq!((scratch.memory(), scratch.swap()), ((limit * MIB).to_string(), (swap * MIB).to_string()));
    }
    let idle = serde_json::json!({"cpu": {"idle": 1, "shares": 100}, "pids": {"limit": -1}});
    scratch.0.update(&lower(idle), "resources").expect("idle");
    assert_eq!(scratch.file("cpu", "cpu.idle", "cpu.idle"), "1");
    assert_eq!(scratch.file("pids", "pids.max", "pids.max"), "max");
    let busy = serde_json::json!({"cpu": {"idle": 0, "shares": 2048}});
    scratch.0.update(&lower(busy), "resources").expect("not idle");
    assert_eq!(scratch.file("cpu", "cpu.shares", "cpu.weight"), if v1 { "2048" } else { "174" });
}

#[test]
fn a_failed_update_changes_nothing() {
    let Some(scratch) = Scratch::new("undo") else { return };
    let before = serde_json::json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 12}});
    scratch.0.apply(&lower(before), "config.json").expect("applied");
    let wrong =
        serde_json::json!({"memory": {"limit": 32 * MIB}, "pids": {"limit": 13}, "cpu": {"quota": 1}});
    let error = scratch.0.update(&lower(wrong), "resources").expect_err("a quota below 1 ms");
    let text = error.to_string();
    assert!(
        text.starts_with("cannot set cpu limit (resources#/linux/resources/cpu/quota): write \"1"),
        "{text}"
    );
    assert!(text.ends_with(": invalid argument"), "{text}");
    assert_eq!(scratch.memory(), (64 * MIB).to_string());
    assert_eq!(scratch.file("pids", "pids.max", "pids.max"), "12");
}

#[test]
fn use_above_the_new_limit_is_rejected() {
    let Some(scratch) = Scratch::new("usage") else { return };
    let mut child = scratch.run("exec sleep 1000");
    wait_for("some memory", || scratch.file("memory", "memory.usage_in_bytes", "memory.current") != "0");
    let check = |limit: i64, check: bool| {
        let memory = serde_json::json!({"limit": limit, "checkBeforeUpdate": check});
        scratch.0.check_usage(&resources(serde_json::json!({ "memory": memory })), "resources", "")
    };
    let error = check(1, true).expect_err("too little").to_string();
    assert!(error.starts_with("rejecting memory limit 1 < usage "), "{error}");
    check(1, false).expect("not asked to check");
    check(64 * MIB, true).expect("enough");
    scratch.0.kill_all(SIGKILL).expect("killed");
    child.wait().expect("wait");
}

#[test]
fn what_is_missing_is_named() {
    let limit = lower(serde_json::json!({"pids": {"limit": 5}}));
    let error = Cgroup::none().apply(&limit, "config.json").expect_err("no cgroup");
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(
        error.to_string().starts_with("cannot set pids limit: container could not join or create cgroup"),
        "{error}"
    );
    let lifted = lower(serde_json::json!({"pids": {"limit": -1}}));
    Cgroup::none().apply(&lifted, "config.json").expect("no limit is what it has");

    let Some(scratch) = Scratch::new("missing") else { return };
    if scratch.0.dir("rdma").is_some_and(|dir| dir.full_path().join("rdma.max").exists()) {
        return;
    }
    let rdma = lower(serde_json::json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}));
    let error = scratch.0.apply(&rdma, "config.json").expect_err("no such controller").to_string();
    assert!(error.contains("rdma controller") && error.contains("/linux/resources/rdma/mlx5_1"), "{error}");
}

/// Version 2's "no internal processes": the error of a limit that cannot be had says why.
#[test]
fn internal_processes_are_named() {
    let Some(scratch) = Scratch::new("internal") else { return };
    if !scratch.0.is_pure_v2() {
        return;
    }
    let mut child = scratch.run("exec sleep 1000");
    let below = scratch.0.sub(&["below"]).expect("sub");
    below.create().expect("created without controllers");
    let limit = lower(serde_json::json!({"memory": {"limit": MIB}}));
    let error = below.apply(&limit, "config.json").expect_err("no memory controller").to_string();
    assert!(error.ends_with(", which has processes of its own"), "{error}");
    below.attach(child.id() as i32).expect("it is no invalid domain");
    scratch.0.kill_all(SIGKILL).expect("killed");
    child.wait().expect("wait");
}

/// Whether a process in the cgroup can open `device` for reading; dash says 2 when it cannot.
fn can_open(scratch: &Scratch, device: &str) -> bool {
    scratch.run(&format!(": < {device}")).wait().expect("sh").success()
}

#[test]
fn devices_are_denied() {
    let Some(scratch) = Scratch::new("devices") else { return };
    let layout = Layout::read().expect("layout");
    let restrict = |rules: serde_json::Value| {
        let rules: Vec<crate::spec::DeviceRule> = serde_json::from_value(rules).expect("rules");
        let devices = devices(Some(&rules), &layout, "/linux/resources").expect("no problem");
        scratch.0.restrict(&devices, "config.json", "/linux/resources/devices").expect("restricted");
        ["/dev/zero", "/dev/kmsg"].map(|device| can_open(&scratch, device))
    };
    assert!(can_open(&scratch, "/dev/kmsg"));
    assert_eq!(restrict(serde_json::json!([])), [true, false]);
    let kmsg = serde_json::json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]);
    assert_eq!(restrict(kmsg), [true, true]);
    assert_eq!(restrict(serde_json::json!([{"allow": false}])), [true, false]);
    assert_eq!(restrict(serde_json::json!([{"allow": true}])), [true, true]);
}

#[test]
fn statistics_are_read() {
    let Some(scratch) = Scratch::new("stats") else { return };
    let asked = serde_json::json!({"memory": {"limit": 64 * MIB}, "pids": {"limit": 12}});
    scratch.0.apply(&lower(asked), "config.json").expect("applied");
    let mut child = scratch.run("i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; exec sleep 1000");
    wait_for("some work", || scratch.0.stats().expect("stats").cpu.usage.total > 10_000_000);
    let stats = scratch.0.stats().expect("stats");
    assert_eq!((stats.pids.current, stats.pids.limit), (1, 12));
    assert_eq!(stats.memory.usage.limit, 64 << 20);
    assert!(stats.memory.usage.usage > 0 && stats.memory.usage.max >= stats.memory.usage.usage);
    assert!(stats.memory.raw.len() > 20);
    if stats.cpu.psi.is_none() {
        assert!(!fs::exists("/proc/pressure/cpu").expect("proc") || scratch.0.unified().is_none());
    }
    scratch.0.kill_all(SIGKILL).expect("killed");
    child.wait().expect("wait");
}

#[test]
fn the_oom_killer_is_noticed() {
    let Some(scratch) = Scratch::new("oom") else { return };
    let asked = serde_json::json!({"memory": {"limit": 8 * MIB, "swap": 8 * MIB}});
    scratch.0.apply(&lower(asked), "config.json").expect("applied");
    let mut quiet = scratch.run("exec sleep 1000");
    let mut watch = scratch.0.watch_oom().expect("watch");
    assert_eq!(watch.wait(Duration::from_millis(20)).expect("wait"), OomEvent::Timeout);
    assert_eq!(scratch.0.oom_cause(), None);
    let mut greedy = scratch.run("x=0123456789abcdef; while :; do x=$x$x; done");
    assert_eq!(watch.wait(Duration::from_secs(20)).expect("wait"), OomEvent::Oom);
    greedy.wait().expect("wait");
    assert!(scratch.0.oom_kills() > 0);
    let cause = scratch.0.oom_cause().expect("a cause");
    let cgroup = scratch.0.dir("memory").expect("memory").full_path();
    assert_eq!(cause, format!("memory limit {} of cgroup {}", 8 * MIB, cgroup.display()));
    scratch.0.kill_all(SIGKILL).expect("killed");
    quiet.wait().expect("wait");
    while watch.wait(Duration::from_secs(20)).expect("wait") == OomEvent::Oom {}
    assert_eq!(watch.wait(Duration::from_secs(20)).expect("wait"), OomEvent::Gone);
}
