//! Bad input: one clear line, a non-zero exit code, and nothing left behind.

use std::fs;

use corten_integration::{Bundle, Output, assert_nothing_left, check, skip};
use serde_json::json;

/// Runs `create` on this text as config.json, which must be refused in one line.
fn refuse(text: &str) -> Output {
    let bundle = Bundle::new();
    bundle.write();
    fs::write(bundle.dir().join("config.json"), text).expect("write");
    let output = bundle.runtime().args(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    let output = output.run(bundle.dir()).failed();
    assert_nothing_left(&bundle);
    output
}

#[test]
fn a_config_that_is_no_json_is_refused() {
    check(|| {
        refuse("").says("config.json");
        for text in ["{", "[]", "null", "\"x\"", "{\"ociVersion\": }", "not json", "\u{feff}{}"] {
            refuse(text);
        }
    });
}

#[test]
fn a_truncated_config_is_refused() {
    check(|| {
        let whole = Bundle::new().config.to_string();
        for length in [whole.len() / 4, whole.len() / 2, whole.len() - 1] {
            refuse(&whole[..length]);
        }
    });
}

#[test]
fn a_missing_config_is_an_error_that_names_it() {
    check(|| {
        let bundle = Bundle::new();
        let call = bundle.runtime().args(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        call.run(bundle.dir()).failed().says("config.json");
        assert_nothing_left(&bundle);
    });
}

#[test]
fn a_missing_bundle_is_an_error_that_names_it() {
    check(|| {
        let bundle = Bundle::new();
        let call = bundle.runtime().args(["create", "--bundle", "/no/such/bundle", bundle.id()]);
        call.run(bundle.dir()).failed().says("/no/such/bundle");
    });
}

#[test]
fn a_file_is_no_bundle() {
    check(|| {
        let bundle = Bundle::new();
        let file = bundle.dir().join("file");
        fs::write(&file, "").expect("write");
        bundle.runtime().args(["create", "--bundle"]).arg(&file).arg(bundle.id()).run(bundle.dir()).failed();
    });
}

#[test]
fn wrong_types_are_refused() {
    check(|| {
        for (pointer, value) in [
            ("/process/args", json!("not a list")),
            ("/process/args/0", json!(5)),
            ("/process/user/uid", json!("zero")),
            ("/process/user/uid", json!(-1)),
            ("/process/user/uid", json!(4294967296u64)),
            ("/process/env", json!({ "PATH": "/bin" })),
            ("/process/cwd", json!(7)),
            ("/process/terminal", json!("yes")),
            ("/root", json!("rootfs")),
            ("/root/readonly", json!(1)),
            ("/mounts", json!({})),
            ("/mounts/0/options", json!("ro")),
            ("/linux/namespaces", json!({})),
            ("/hooks", json!([])),
            ("/hostname", json!(["a"])),
        ] {
            eprintln!("{pointer}: {value}");
            Bundle::new().set(pointer, value.clone()).create_fails();
        }
    });
}

#[test]
fn missing_parts_are_refused() {
    check(|| {
        for pointer in ["/process/args", "/process/cwd", "/root", "/root/path"] {
            Bundle::new().remove(pointer).create_fails();
        }
        Bundle::new().args::<&str>([]).create_fails().says("args");
    });
}

#[test]
fn a_process_is_needed_by_start_at_the_latest() {
    check(|| {
        Bundle::new().remove("/process").start_fails();
    });
}

#[test]
fn an_unknown_version_is_refused() {
    check(|| {
        for version in ["", "not a version", "2.0.0", "0.0.1"] {
            Bundle::new().set("/ociVersion", version).create_fails();
        }
    });
}

#[test]
fn versions_of_the_major_version_are_taken() {
    check(|| {
        for version in ["1.0.0", "1.0.2-dev", "1.2.1", "1.3.0"] {
            Bundle::new().set("/ociVersion", version).args(["/bin/true"]).run().ok();
        }
    });
}

#[test]
fn the_error_is_one_line() {
    check(|| {
        for bundle in [
            Bundle::new().set("/root/path", "no-such-rootfs"),
            Bundle::new().mount("/m", "bind", "/no/such/source", &["bind"]),
            Bundle::new().args(["/no/such/program"]),
            Bundle::new().hook("createRuntime", "exit 1"),
        ] {
            let output = bundle.start_fails();
            assert_eq!(output.stderr.trim_end().lines().count(), 1, "{output}");
        }
    });
}

#[test]
fn nothing_is_printed_to_standard_output_on_failure() {
    check(|| {
        let output = Bundle::new().set("/root/path", "no-such-rootfs").create_fails();
        assert_eq!(output.stdout, "");
    });
}

#[test]
fn the_error_goes_to_the_log_file_too() {
    check(|| {
        let bundle = Bundle::new().set("/root/path", "no-such-rootfs");
        let log = bundle.dir().join("log.json");
        let bundle = bundle.global_flag("--log").global_flag(log.to_string_lossy());
        let bundle = bundle.global_flag("--log-format").global_flag("json");
        bundle.call("create").run(bundle.dir()).failed().says("no-such-rootfs");
        let text = fs::read_to_string(&log).expect("the log");
        let records: Vec<serde_json::Value> =
            text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
        let last =
            records.iter().rfind(|r| r["level"] == "error").unwrap_or_else(|| panic!("no error in {text}"));
        assert!(last["msg"].as_str().is_some_and(|m| m.contains("no-such-rootfs")), "{last}");
        assert!(last["time"].as_str().is_some_and(|t| t.len() >= 20), "{last}");
    });
}

#[test]
fn the_log_file_is_appended_to() {
    check(|| {
        let bundle = Bundle::new();
        let log = bundle.dir().join("log.json");
        fs::write(&log, "first\n").expect("write");
        let flags = ["--log", &log.to_string_lossy(), "--log-format", "json"].map(str::to_owned);
        let call = bundle.runtime().args(&flags).args(["state", "no-such-container"]);
        call.run(bundle.dir()).failed();
        let text = fs::read_to_string(&log).expect("the log");
        assert!(text.starts_with("first\n") && text.lines().count() >= 2, "{text}");
    });
}

#[test]
fn a_full_disk_under_the_state_root_leaves_nothing() {
    check(|| {
        use rustix::mount::{MountFlags, mount};
        let bundle = Bundle::new().sleeper();
        let root = bundle.dir().join("full");
        fs::create_dir(&root).expect("mkdir");
        mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=4k,nr_inodes=100")).expect("mount");
        fs::write(root.join("filler"), [0; 4096]).expect("fill");
        let bundle = bundle.in_root(&root);
        bundle.call("create").run(bundle.dir()).failed().says("no space left on device");
        let left: Vec<_> = fs::read_dir(&root).expect("read").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["filler"], "left below the state root");
        assert!(corten_integration::cgroup_dirs(bundle.id()).is_empty(), "a cgroup is left");
    });
}

#[test]
fn a_state_root_that_is_a_file_is_an_error() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        let root = bundle.dir().join("file");
        fs::write(&root, "").expect("write");
        let bundle = bundle.in_root(&root);
        bundle.call("create").run(bundle.dir()).failed();
    });
}

#[test]
fn a_pid_file_that_cannot_be_written_leaves_nothing() {
    check(|| {
        let bundle = Bundle::new().sleeper().flag("--pid-file").flag("/no/such/dir/pid");
        bundle.create_fails().says("/no/such/dir");
    });
}

#[test]
fn a_nul_or_newline_in_a_path_is_refused() {
    check(|| {
        Bundle::new().mount("/m\0x", "tmpfs", "tmpfs", &[]).create_fails();
        Bundle::new().args(["/bin/echo", "a\0b"]).create_fails();
        Bundle::new().set("/process/cwd", "/a\0b").create_fails();
    });
}

#[test]
fn unknown_values_are_errors() {
    check(|| {
        for (pointer, value) in [
            ("/linux/seccomp", json!({ "defaultAction": "SCMP_ACT_NOSUCH" })),
            ("/linux/rootfsPropagation", json!("sideways")),
            ("/linux/personality", json!({ "domain": "PLAN9" })),
        ] {
            Bundle::new().set(pointer, value.clone()).create_fails();
        }
    });
}

#[test]
fn huge_inputs_end_cleanly() {
    check(|| {
        let map: Vec<_> =
            (0..3000).map(|i| json!({ "containerID": i, "hostID": 100_000 + i, "size": 1 })).collect();
        let bundle = Bundle::new().userns(100_000, 10).namespace("network");
        let bundle = bundle.set("/linux/uidMappings", json!(map)).set("/linux/gidMappings", json!(map));
        // The kernel takes 340 lines.
        bundle.start_fails();
        let long = "x".repeat(200_000);
        Bundle::new().args(["/bin/echo", &long]).start_fails();
        Bundle::new().set("/process/cwd", format!("/{long}")).start_fails();
    });
}

#[test]
fn big_environments_work() {
    check(|| {
        let env: Vec<String> = (0..5000).map(|i| format!("VARIABLE_{i}=value of this variable")).collect();
        let output = Bundle::new().set("/process/env", json!(env)).args(["/bin/env"]).run().ok();
        let count = output.stdout.lines().filter(|l| l.starts_with("VARIABLE_")).count();
        assert_eq!(count, 5000);
    });
}

#[test]
fn a_class_of_service_without_resctrl_is_refused() {
    check(|| {
        if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
            skip("this machine has resctrl");
        }
        Bundle::new()
            .set("/linux/intelRdt", json!({ "closID": "it", "schemata": ["L3:0=f"] }))
            .create_fails()
            .says_one_of(&["resctrl", "Intel RDT"]);
    });
}
