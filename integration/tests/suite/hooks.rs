//! All six kinds of hooks: order, place, standard input, environment, failure, timeout.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use corten_integration::{Bundle, Container, check, limit};
use serde_json::{Value, json};

const RUNTIME_KINDS: [&str; 4] = ["prestart", "createRuntime", "poststart", "poststop"];

/// A bundle whose hooks of the runtime's namespaces write to this log.
fn with_log() -> (Bundle, PathBuf) {
    let bundle = Bundle::new();
    let log = bundle.dir().join("log");
    (bundle, log)
}

fn lines(log: &PathBuf) -> Vec<String> {
    fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn finish(container: &Container) {
    container.start().ok();
    container.wait();
    container.delete().ok();
}

#[test]
fn hooks_run_in_the_order_of_the_specification() {
    check(|| {
        let (bundle, log) = with_log();
        let mut bundle = bundle;
        for kind in ["poststop", "poststart", "createContainer", "createRuntime", "prestart"] {
            bundle = bundle
                .hook(kind, &format!("echo {kind} 1 >>{}", log.display()))
                .hook(kind, &format!("echo {kind} 2 >>{}", log.display()));
        }
        let container = bundle.script("sleep 1000").create();
        let created = ["prestart", "createRuntime", "createContainer"];
        let expected: Vec<String> =
            created.iter().flat_map(|k| [format!("{k} 1"), format!("{k} 2")]).collect();
        assert_eq!(lines(&log), expected, "after create");
        container.start().ok();
        assert_eq!(lines(&log)[6..], ["poststart 1", "poststart 2"], "after start");
        container.kill("KILL").ok();
        container.wait();
        assert_eq!(lines(&log).len(), 8, "poststop runs at delete");
        container.delete().ok();
        assert_eq!(lines(&log)[8..], ["poststop 1", "poststop 2"], "after delete");
    });
}

#[test]
fn start_container_hooks_run_in_the_container_before_the_process() {
    check(|| {
        let bundle =
            Bundle::new().hook("startContainer", "echo hook >>/log").script("echo process >>/log; cat /log");
        let container = bundle.create();
        assert!(!container.bundle.rootfs("/log").exists(), "startContainer runs at create");
        assert_eq!(container.finish(), "hook\nprocess\n");
    });
}

#[test]
fn create_container_hooks_run_in_the_containers_namespaces_with_the_hosts_root() {
    check(|| {
        let (bundle, log) = with_log();
        let script = format!(
            "readlink /proc/self/ns/mnt /proc/self/ns/uts >{}; test -e /etc/debian_version",
            log.display()
        );
        let container = bundle.hook("createContainer", &script).sleeper().create();
        assert_eq!(lines(&log), [container.proc_link("ns/mnt"), container.proc_link("ns/uts")]);
    });
}

#[test]
fn hooks_of_the_runtime_run_in_its_namespaces() {
    check(|| {
        for kind in RUNTIME_KINDS {
            let (bundle, log) = with_log();
            let script =
                format!("readlink /proc/self/ns/mnt /proc/self/ns/pid /proc/self/ns/net >{}", log.display());
            let container = bundle.namespace("network").hook(kind, &script).args(["/bin/true"]).create();
            finish(&container);
            let own: Vec<String> = ["mnt", "pid", "net"]
                .iter()
                .map(|ns| {
                    fs::read_link(format!("/proc/self/ns/{ns}")).expect("ns").to_string_lossy().into_owned()
                })
                .collect();
            assert_eq!(lines(&log), own, "{kind}");
        }
    });
}

#[test]
fn hooks_get_the_state_on_standard_input() {
    check(|| {
        let expected = [
            ("prestart", &["creating", "created"][..]),
            ("createRuntime", &["creating"]),
            ("createContainer", &["creating"]),
            ("poststart", &["running"]),
            ("poststop", &["stopped"]),
        ];
        for (kind, statuses) in expected {
            let (bundle, log) = with_log();
            let bundle = bundle.set("/annotations", json!({ "org.example": "value" }));
            let bundle = bundle.hook(kind, &format!("cat >{}", log.display())).script("sleep 1000");
            let container = bundle.create();
            let pid = container.pid();
            container.start().ok();
            container.kill("KILL").ok();
            container.wait();
            container.delete().ok();
            let text = fs::read_to_string(&log).unwrap_or_else(|e| panic!("{kind}: {e}"));
            let state: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{kind}: {e}: {text}"));
            assert_eq!(state["id"], container.id(), "{kind}");
            assert!(
                statuses.contains(&state["status"].as_str().unwrap_or("")),
                "{kind}: {}",
                state["status"]
            );
            assert_eq!(state["bundle"], container.bundle.dir().to_str().expect("UTF-8"), "{kind}");
            assert_eq!(state["annotations"]["org.example"], "value", "{kind}");
            assert!(state["ociVersion"].is_string(), "{kind}");
            if !["poststop", "createContainer"].contains(&kind) {
                assert_eq!(state["pid"], pid, "{kind}");
            }
        }
    });
}

#[test]
fn start_container_hooks_get_the_state_too() {
    check(|| {
        let container = Bundle::new().hook("startContainer", "cat >/state").script("cat /state").create();
        let state: Value = serde_json::from_str(&container.finish()).expect("JSON");
        assert_eq!(state["id"], container.id());
        assert_eq!(state["status"], "created");
    });
}

#[test]
fn hooks_have_their_own_environment_and_arguments() {
    check(|| {
        for kind in RUNTIME_KINDS.into_iter().chain(["createContainer"]) {
            let (bundle, log) = with_log();
            let script = format!("(env; echo \"arguments $0 $1\") >{}", log.display());
            let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"],
                               "env": ["PATH=/usr/bin:/bin", "GIVEN=yes"] });
            let bundle = bundle.env("SECRET=of the process").push(&format!("/hooks/{kind}"), hook);
            let container = bundle.runtime_env("ENGINE", "x").args(["/bin/true"]).create();
            finish(&container);
            let log = lines(&log);
            assert!(log.contains(&"GIVEN=yes".to_owned()), "{kind}: {log:?}");
            assert!(log.contains(&"arguments zero one".to_owned()), "{kind}: {log:?}");
            assert!(
                !log.iter().any(|l| l.starts_with("SECRET") || l.starts_with("ENGINE")),
                "{kind}: {log:?}"
            );
        }
    });
}

#[test]
fn a_hook_that_fails_before_start_stops_the_creation() {
    check(|| {
        for kind in ["prestart", "createRuntime", "createContainer"] {
            let (bundle, log) = with_log();
            let marker = log.display().to_string();
            let bundle = bundle
                .hook(kind, "echo what went wrong >&2; exit 3")
                .hook(kind, &format!("echo second >>{marker}"));
            bundle.hook("poststop", &format!("echo poststop >>{marker}")).create_fails().says(kind);
        }
    });
}

#[test]
fn the_hooks_after_a_failed_one_do_not_run() {
    check(|| {
        let bundle = Bundle::new();
        let log = bundle.dir().join("log");
        let bundle = bundle
            .hook("createRuntime", "exit 1")
            .hook("createRuntime", &format!("echo second >>{}", log.display()))
            .hook("createContainer", &format!("echo third >>{}", log.display()));
        bundle.call("create").run(bundle.dir()).failed();
        assert_eq!(lines(&log), Vec::<String>::new());
    });
}

#[test]
fn a_start_container_hook_that_fails_fails_start() {
    check(|| {
        let bundle = Bundle::new().hook("startContainer", "exit 4").script("echo ran >/ran");
        let container = bundle.create();
        container.start().failed().says("startContainer");
        container.wait();
        assert!(!container.bundle.rootfs("/ran").exists(), "the process ran all the same");
        container.vanish();
    });
}

#[test]
fn a_poststart_hook_that_fails_fails_start_and_stops_the_container() {
    check(|| {
        let container = Bundle::new().hook("poststart", "exit 4").sleeper().create();
        container.start().failed().says("poststart");
        container.wait();
        container.vanish();
    });
}

#[test]
fn a_poststop_hook_that_fails_does_not_stop_the_deletion() {
    check(|| {
        let bundle = Bundle::new();
        let log = bundle.dir().join("log");
        let bundle =
            bundle.hook("poststop", "exit 4").hook("poststop", &format!("echo second >>{}", log.display()));
        let container = bundle.args(["/bin/true"]).create();
        container.finish();
        container.delete();
        assert_eq!(lines(&log), ["second"]);
        corten_integration::assert_nothing_left(&container.bundle);
    });
}

#[test]
fn a_missing_hook_is_an_error_that_names_it() {
    check(|| {
        let hook = json!({ "path": "/no/such/hook" });
        Bundle::new().push("/hooks/createRuntime", hook).create_fails().says("/no/such/hook");
    });
}

#[test]
fn a_relative_hook_path_is_an_error() {
    check(|| {
        Bundle::new().push("/hooks/createRuntime", json!({ "path": "true" })).create_fails();
    });
}

#[test]
fn a_hook_that_hangs_is_ended_by_its_timeout() {
    check(|| {
        for kind in ["createRuntime", "createContainer"] {
            let hook = json!({ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 });
            let since = Instant::now();
            Bundle::new().push(&format!("/hooks/{kind}"), hook).create_fails();
            assert!(since.elapsed() < limit() / 3, "{kind}");
        }
    });
}

#[test]
fn a_quick_hook_is_not_disturbed_by_its_timeout() {
    check(|| {
        let (bundle, log) = with_log();
        let script = format!("sleep 0.1; echo done >>{}", log.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 30 });
        let since = Instant::now();
        let _container = bundle.push("/hooks/createRuntime", hook).sleeper().create();
        assert_eq!(lines(&log), ["done"]);
        assert!(since.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_timeout_of_zero_or_less_is_an_error() {
    check(|| {
        for timeout in [0, -1] {
            let hook = json!({ "path": "/bin/true", "timeout": timeout });
            Bundle::new().push("/hooks/createRuntime", hook).create_fails().says("timeout");
        }
    });
}

#[test]
fn start_container_hooks_are_programs_of_the_container() {
    check(|| {
        let hook = json!({ "path": "/only-inside", "args": ["only-inside"] });
        let bundle = Bundle::new().push("/hooks/startContainer", hook).script("cat /made-by-hook");
        let program = bundle.rootfs("/only-inside");
        fs::write(&program, "#!/bin/sh\necho inside >/made-by-hook\n").expect("write");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(bundle.create().finish(), "inside\n");
    });
}

#[test]
fn a_poststart_hook_may_outlive_a_short_process() {
    check(|| {
        let (bundle, log) = with_log();
        let script = format!("cat >/dev/null; sleep 0.2; echo done >{}", log.display());
        let container = bundle.hook("poststart", &script).args(["/bin/true"]).create();
        finish(&container);
        assert_eq!(lines(&log), ["done"]);
    });
}

#[test]
fn a_create_runtime_hook_can_set_up_the_network() {
    check(|| {
        let name = format!("hk{}", std::process::id());
        let script = format!(
            "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -d '\\n'); \
             ip link add {name} type veth peer name inner0 netns $pid"
        );
        let bundle = Bundle::new().namespace("network").hook("createRuntime", &script);
        let output = bundle.run();
        let _ = std::process::Command::new("ip").args(["link", "delete", &name]).output();
        let view = corten_integration::View::parse(&output.ok().stdout);
        assert!(view.at("/interfaces").to_string().contains("inner0"), "{}", view.at("/interfaces"));
    });
}

#[test]
fn no_descriptors_leak_into_hooks() {
    check(|| {
        for kind in RUNTIME_KINDS.into_iter().chain(["createContainer"]) {
            let (bundle, log) = with_log();
            let script = format!("ls -l /proc/self/fd >{}", log.display());
            let container = bundle.hook(kind, &script).args(["/bin/true"]).create();
            finish(&container);
            let listing = lines(&log);
            assert!(listing.iter().any(|l| l.contains(" 0 -> ")), "{kind}: {listing:?}");
            // ls itself has the directory open.
            let descriptors =
                listing.iter().filter_map(|l| l.split_once(" -> ")).filter(|(_, to)| !to.ends_with("/fd"));
            let number = |left: &str| left.rsplit(' ').next().and_then(|n| n.parse::<u32>().ok());
            let others: Vec<_> = descriptors.filter(|(left, _)| number(left).is_none_or(|n| n > 2)).collect();
            assert!(others.is_empty(), "{kind}: {others:?}");
        }
    });
}
