//! `--systemd-cgroup`: the unit of a container. Only where systemd is the init process.

use corten_integration::{
    Bundle, Cgroups, Invocation, assert_nothing_left, cgroup_dirs, cgroups, check, has_systemd, skip,
};
use serde_json::json;

const MIB: u64 = 1 << 20;

/// A bundle whose cgroup systemd makes, and the name of its unit.
fn bundle() -> (Bundle, String) {
    if !has_systemd() {
        skip("systemd is not running");
    }
    let bundle = Bundle::new().global_flag("--systemd-cgroup");
    let path = format!("system.slice:it:{}", bundle.id());
    let unit = format!("it-{}.scope", bundle.id());
    (bundle.set("/linux/cgroupsPath", path), unit)
}

fn systemctl(args: &[&str]) -> String {
    let output = std::process::Command::new("systemctl").args(args).output().expect("run systemctl");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", unit, "--value", "--property", name])
}

#[test]
fn the_unit_is_where_the_path_says_and_goes_with_the_container() {
    check(|| {
        let (bundle, unit) = bundle();
        let container = bundle.sleeper().start();
        assert_eq!(property(&unit, "ActiveState"), "active");
        assert_eq!(property(&unit, "Delegate"), "yes");
        let path = property(&unit, "ControlGroup");
        assert_eq!(path, format!("/system.slice/{unit}"));
        assert!(container.cgroup("pids").ends_with(path.trim_start_matches('/')));
        container.vanish();
        assert_eq!(property(&unit, "LoadState"), "not-found");
    });
}

#[test]
fn systemd_knows_the_limits() {
    check(|| {
        let (bundle, unit) = bundle();
        let resources = json!({
            "memory": { "limit": 64 * MIB },
            "cpu": { "shares": 512, "quota": 50_000, "period": 100_000 },
            "pids": { "limit": 33 },
        });
        let container = bundle.set("/linux/resources", resources).sleeper().start();
        if cgroups() == Cgroups::V2 {
            assert_eq!(property(&unit, "MemoryMax"), (64 * MIB).to_string());
            assert_eq!(property(&unit, "CPUWeight"), "59");
        }
        assert_eq!(property(&unit, "TasksMax"), "33");
        assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "500ms");
        let dir = container.bundle.dir().to_owned();
        container.command("update", &["--pids-limit", "44", "--cpu-quota", "20000"]).run(&dir).ok();
        assert_eq!(property(&unit, "TasksMax"), "44");
        assert_eq!(property(&unit, "CPUQuotaPerSecUSec"), "200ms");
        // What systemd would write over ours if it did not know better.
        systemctl(&["daemon-reload"]);
        assert_eq!(container.setting("pids", "pids.max", "pids.max").as_deref(), Some("44"));
        container.vanish();
    });
}

#[test]
fn devices_survive_a_reload() {
    check(|| {
        let (bundle, _) = bundle();
        let node = |path: &str, minor: u32| json!({ "path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o666 });
        let rules = json!({ "devices": [
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" },
        ] });
        let bundle = bundle.set("/linux/resources", rules).push("/linux/devices", node("/dev/log", 11));
        let container = bundle.push("/linux/devices", node("/dev/port", 4)).sleeper().start();
        for _ in 0..2 {
            let view =
                container.exec(&["/probe", "write:/dev/log", "write:/dev/null", "write:/dev/port"]).look();
            assert!(view.could("write:/dev/log") && view.could("write:/dev/null"));
            assert_eq!(view.errno("write:/dev/port"), 1);
            systemctl(&["daemon-reload"]);
            let dir = container.bundle.dir().to_owned();
            container.command("update", &["--pids-limit", "50"]).run(&dir).ok();
        }
        container.vanish();
    });
}

#[test]
fn annotations_set_properties_from_a_list_of_harmless_ones() {
    check(|| {
        let (bundle, unit) = bundle();
        let annotations = json!({ "org.systemd.property.TimeoutStopUSec": "uint64 123000000" });
        let container = bundle.set("/annotations", annotations).sleeper().start();
        assert_eq!(property(&unit, "TimeoutStopUSec"), "2min 3s");
        container.vanish();
    });
}

#[test]
fn an_annotation_that_would_run_something_is_refused() {
    check(|| {
        let (bundle, unit) = bundle();
        let annotations =
            json!({ "org.systemd.property.ExecStartPre": "[('/bin/touch', ['touch', '/x'], false)]" });
        bundle.set("/annotations", annotations).sleeper().create_fails().says("ExecStartPre");
        assert_eq!(property(&unit, "LoadState"), "not-found");
    });
}

#[test]
fn a_failed_creation_leaves_no_unit() {
    check(|| {
        let (bundle, unit) = bundle();
        bundle.hook("createRuntime", "exit 1").create_fails();
        assert_eq!(property(&unit, "LoadState"), "not-found");
        let (bundle, unit) = self::bundle();
        bundle.set("/linux/resources", json!({ "cpu": { "cpus": "0-9999" } })).create_fails();
        assert_eq!(property(&unit, "LoadState"), "not-found");
    });
}

#[test]
fn a_container_that_died_can_come_again_under_its_name() {
    check(|| {
        let (bundle, unit) = bundle();
        let (id, path) = (bundle.id().to_owned(), bundle.config["linux"]["cgroupsPath"].clone());
        let container = bundle.sleeper().start();
        container.kill("KILL").ok();
        container.wait();
        container.delete().ok();
        assert_eq!(property(&unit, "LoadState"), "not-found");
        let (bundle, _) = self::bundle();
        let again = bundle.with_id(&id).set("/linux/cgroupsPath", path).sleeper().start();
        assert_eq!(property(&unit, "ActiveState"), "active");
        again.vanish();
    });
}

#[test]
fn a_runtime_that_is_killed_leaves_what_delete_force_removes() {
    check(|| {
        for after in [20, 60, 120, 240, 480] {
            let (bundle, unit) = bundle();
            let bundle = bundle.hook("createRuntime", "sleep 0.2").sleeper();
            let running = bundle.call("create").spawn(bundle.dir());
            std::thread::sleep(std::time::Duration::from_millis(after));
            Invocation::new("kill").args(["-KILL", &running.pid().to_string()]).run(bundle.dir());
            running.wait();
            bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
            assert_nothing_left(&bundle);
            assert!(cgroup_dirs(bundle.id()).is_empty());
            assert_eq!(property(&unit, "LoadState"), "not-found", "killed after {after} ms");
        }
    });
}

#[test]
fn a_path_of_another_form_is_refused() {
    check(|| {
        let (bundle, _) = bundle();
        let output = bundle.set("/linux/cgroupsPath", "/it/plain").sleeper().create_fails();
        output
            .says("expected cgroupsPath to be of format")
            .says("slice:prefix:name")
            .says("for systemd cgroups");
    });
}

#[test]
fn a_nested_slice_is_made() {
    check(|| {
        let (bundle, unit) = bundle();
        let id = bundle.id().replace('-', "_");
        let path = format!("it{id}-inner.slice:it:{}", bundle.id());
        let container = bundle.set("/linux/cgroupsPath", path).sleeper().start();
        let expected = format!("it{id}.slice/it{id}-inner.slice/{unit}");
        assert!(container.cgroup("pids").ends_with(expected), "{}", container.cgroup("pids").display());
        container.vanish();
        systemctl(&["stop", &format!("it{id}-inner.slice"), &format!("it{id}.slice")]);
    });
}
