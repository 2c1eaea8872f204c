//! Against a real systemd, where there is one: the system's as root, otherwise the user's.

use std::fs;
use std::process::Command;

use nix::libc::SIGKILL;

use super::*;
use crate::cgroup::tests::{run_in, wait_for};
use crate::cgroup::{devices, settings};
use crate::spec::{DeviceRule, Resources};

fn user() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// A scope that is stopped and removed at the end.
struct Scope(Cgroup);

impl Scope {
    /// None without systemd.
    fn new(name: &str) -> Option<Scope> {
        if !fs::exists("/run/systemd/private").unwrap_or(false) {
            eprintln!("skipped: needs systemd");
            return None;
        }
        let layout = Layout::read().expect("layout");
        let id = format!("{}-{name}", std::process::id());
        let path = format!("{}:corten-test:{id}", if user() { "user.slice" } else { "corten-test.slice" });
        Some(Scope(place(&layout, Some(&path), &id, user()).expect("placed")))
    }

    fn name(&self) -> &str {
        &self.0.unit().expect("unit").name
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.0.dirs()[0].full_path().join(name)).expect(name).trim().to_owned()
    }

    fn show(&self, property: &str) -> String {
        let arguments = ["show", "--value", "-p", property, self.name()];
        let output = systemctl().args(arguments).output().expect("systemctl");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        self.0.kill_all(SIGKILL).expect("killed");
        self.0.remove().expect("removed");
        self.0.remove().expect("removed again");
        assert!(!self.0.dirs()[0].full_path().exists());
        assert_eq!(self.show("LoadState"), "not-found", "{} is left", self.name());
    }
}

fn systemctl() -> Command {
    let mut command = Command::new("systemctl");
    if user() {
        command.arg("--user");
    }
    command
}

fn lower(json: serde_json::Value) -> Vec<Setting> {
    let wanted: Resources = serde_json::from_value(json).expect("resources");
    settings(&wanted, &Layout::read().expect("layout"), "").expect("no problem")
}

const MIB: u64 = 1 << 20;

#[test]
fn limits_survive_a_reload() {
    let Some(scope) = Scope::new("limits") else { return };
    let wanted = lower(serde_json::json!({
        "memory": {"limit": 64 * MIB}, "pids": {"limit": 12}, "cpu": {"shares": 512, "quota": 20000, "period": 50000}
    }));
    let extra = BTreeMap::from([("org.systemd.property.TimeoutStopSec".to_owned(), "7".to_owned())]);
    let hold = scope.0.start_unit(&wanted, &annotations(&extra).expect("allowed")).expect("started");
    scope.0.apply(&wanted, "config.json").expect("applied");
    let mut child = run_in(&scope.0, "exec sleep 1000");
    drop(hold);
    assert_eq!(scope.0.pids().expect("pids"), [child.id() as i32]);
    assert_eq!(scope.show("ActiveState"), "active");
    assert_eq!(scope.show("Delegate"), "yes");
    assert_eq!(scope.show("TimeoutStopUSec"), "7s");
    let found = || ["memory.max", "pids.max", "cpu.weight", "cpu.max"].map(|file| scope.file(file));
    assert_eq!(found(), ["67108864", "12", "59", "20000 50000"]);

    let changed = lower(serde_json::json!({"memory": {"limit": 32 * MIB}, "pids": {"limit": -1}}));
    scope.0.update_unit(&changed).expect("updated");
    scope.0.update(&changed, "resources").expect("updated");
    assert!(systemctl().arg("daemon-reload").status().expect("systemctl").success());
    assert_eq!(found(), ["33554432", "max", "59", "20000 50000"]);

    let taken = scope.0.start_unit(&wanted, &[]).expect_err("it runs");
    assert_eq!(taken.kind(), Kind::AlreadyExists, "{taken}");
    scope.0.kill_all(SIGKILL).expect("killed");
    child.wait().expect("wait");
}

#[test]
fn devices_survive_a_reload() {
    let Some(scope) = Scope::new("devices") else { return };
    if user() {
        return;
    }
    let hold = scope.0.start_unit(&[], &[]).expect("started");
    let kmsg: Vec<DeviceRule> = serde_json::from_value(
        serde_json::json!([{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]),
    )
    .expect("rules");
    let layout = Layout::read().expect("layout");
    let open = || {
        ["/dev/kmsg", "/dev/zero", "/dev/vda", "/dev/loop-control"].map(|device| {
            run_in(&scope.0, &format!("test -e {device} && : < {device}")).wait().expect("sh").success()
        })
    };
    let restrict = |rules: &[DeviceRule]| {
        let devices = devices(Some(rules), &layout, "").expect("no problem");
        scope.0.restrict(&devices, "config.json", "").expect("restricted");
    };
    restrict(&kmsg);
    assert_eq!(open(), [true, true, false, false]);
    assert!(systemctl().arg("daemon-reload").status().expect("systemctl").success());
    assert_eq!(open(), [true, true, false, false]);
    restrict(&[]);
    assert_eq!(open(), [false, true, false, false]);
    assert!(systemctl().arg("daemon-reload").status().expect("systemctl").success());
    assert_eq!(open(), [false, true, false, false]);
    drop(hold);
}

#[test]
fn a_failed_scope_is_forgotten() {
    let Some(scope) = Scope::new("failed") else { return };
    let wanted = lower(serde_json::json!({"memory": {"limit": 8 * MIB, "swap": 8 * MIB}}));
    let hold = scope.0.start_unit(&wanted, &[]).expect("started");
    scope.0.apply(&wanted, "config.json").expect("applied");
    let mut greedy = run_in(&scope.0, "x=0123456789abcdef; while :; do x=$x$x; done");
    drop(hold);
    assert!(!greedy.wait().expect("wait").success());
    wait_for("systemd notices", || scope.show("ActiveState") != "active");
    // The name can be had again, whatever systemd remembers of it.
    drop(scope.0.start_unit(&wanted, &[]).expect("started again"));
}

#[test]
fn wrong_properties_are_named() {
    let Some(scope) = Scope::new("wrong") else { return };
    let wrong = Property { name: "NoSuchProperty".into(), value: Value::Bool(true) };
    let error = scope.0.start_unit(&[], &[wrong]).expect_err("no such property").to_string();
    assert!(error.starts_with(&format!("cannot start systemd unit {}: ", scope.name())), "{error}");
    assert!(error.contains("NoSuchProperty"), "{error}");
}
