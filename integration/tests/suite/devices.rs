//! Default and requested devices, the links of /dev, and what may be done to devices.

use std::fs;

use corten_integration::{Bundle, check};
use serde_json::json;

#[test]
fn the_default_devices_are_there() {
    check(|| {
        let view = Bundle::new().look();
        let devices = [
            ("null", 1, 3),
            ("zero", 1, 5),
            ("full", 1, 7),
            ("random", 1, 8),
            ("urandom", 1, 9),
            ("tty", 5, 0),
        ];
        for (name, major, minor) in devices {
            let device = view.at(&format!("/dev/{name}"));
            assert_eq!(device["kind"], "c", "/dev/{name}: {device}");
            assert_eq!((&device["major"], &device["minor"]), (&json!(major), &json!(minor)), "/dev/{name}");
            assert_eq!(device["mode"], "666", "/dev/{name}");
            assert_eq!((&device["uid"], &device["gid"]), (&json!(0), &json!(0)), "/dev/{name}");
        }
    });
}

#[test]
fn the_default_devices_work() {
    check(|| {
        let output = Bundle::new().script(
            "echo gone >/dev/null && head -c 4 /dev/zero | wc -c && head -c 4 /dev/urandom | wc -c; \
             echo x >/dev/full || echo full",
        );
        assert_eq!(output.run().stdout, "4\n4\nfull\n");
    });
}

#[test]
fn the_links_of_dev_are_there() {
    check(|| {
        let view = Bundle::new().look();
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            assert_eq!(view.at(&format!("/dev/{name}/target")), target, "/dev/{name}");
        }
        let ptmx = view.at("/dev/ptmx").clone();
        assert!(ptmx["target"] == "pts/ptmx" || (ptmx["kind"] == "c" && ptmx["major"] == 5), "{ptmx}");
    });
}

#[test]
fn ptmx_makes_terminals_of_the_containers_own() {
    check(|| {
        let view = Bundle::new().probe(["write:/dev/ptmx", "list:/dev/pts"]);
        assert!(view.could("write:/dev/ptmx"), "{}", view.attempt("write:/dev/ptmx"));
        assert_eq!(view.attempt("list:/dev/pts")["ok"], json!(["ptmx"]), "terminals of the host are seen");
    });
}

#[test]
fn requested_devices_are_made() {
    check(|| {
        let devices = json!([
            { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 5, "gid": 6 },
            { "path": "/dev/sub/dir/block", "type": "b", "major": 7, "minor": 99, "fileMode": 0o600, "uid": 0, "gid": 0 },
            { "path": "/dev/pipe", "type": "p", "fileMode": 0o622, "uid": 0, "gid": 0 },
            { "path": "/outside", "type": "u", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0 },
        ]);
        let view =
            Bundle::new().set("/linux/devices", devices).probe(["stat:/dev/sub/dir/block", "stat:/outside"]);
        let fuse = view.at("/dev/fuse");
        assert_eq!((&fuse["kind"], &fuse["major"], &fuse["minor"]), (&json!("c"), &json!(10), &json!(229)));
        assert_eq!((&fuse["mode"], &fuse["uid"], &fuse["gid"]), (&json!("640"), &json!(5), &json!(6)));
        let block = &view.attempt("stat:/dev/sub/dir/block")["ok"];
        assert_eq!((&block["kind"], &block["major"], &block["minor"]), (&json!("b"), &json!(7), &json!(99)));
        assert_eq!(view.at("/dev/pipe/kind"), "p");
        assert_eq!(view.attempt("stat:/outside")["ok"]["kind"], "c");
    });
}

#[test]
fn a_requested_device_replaces_a_default_one() {
    check(|| {
        let devices = json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 0, "gid": 0 }]);
        let view = Bundle::new().set("/linux/devices", devices).look();
        let null = view.at("/dev/null");
        assert_eq!((&null["minor"], &null["mode"]), (&json!(5), &json!("600")));
    });
}

#[test]
fn an_unknown_device_type_is_an_error() {
    check(|| {
        let devices = json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 5 }]);
        Bundle::new().set("/linux/devices", devices).create_fails();
    });
}

#[test]
fn a_file_in_the_place_of_a_device_is_an_error_or_replaced() {
    check(|| {
        // Without a mount on /dev the rootfs's own files are in the way.
        let bundle = Bundle::new().remove("/mounts/2").remove("/mounts/1");
        fs::write(bundle.rootfs("/dev/null"), "not a device").expect("write");
        let bundle = bundle.script("echo text >/dev/null; cat /dev/null");
        let output = bundle.run();
        assert!(output.status != 0 || output.stdout.is_empty(), "a file serves as /dev/null: {output}");
    });
}

#[test]
fn in_a_user_namespace_requested_devices_are_the_hosts() {
    check(|| {
        let devices = json!([{ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 }]);
        if !std::path::Path::new("/dev/fuse").exists() {
            corten_integration::skip("this machine has no /dev/fuse");
        }
        let bundle = Bundle::new().userns(100_000, 65536).namespace("network").set("/linux/devices", devices);
        let view = bundle.look();
        let fuse = view.at("/dev/fuse");
        assert_eq!((&fuse["kind"], &fuse["major"], &fuse["minor"]), (&json!("c"), &json!(10), &json!(229)));
    });
}

#[test]
fn other_devices_cannot_be_opened() {
    check(|| {
        let rules = json!([{ "allow": false, "access": "rwm" }]);
        let view = Bundle::new().set("/linux/resources/devices", rules).script(
            "mknod /tmp/kmsg c 1 11; mknod /tmp/null c 1 3; \
             (cat </dev/null && echo null; : </tmp/null && echo own; : </tmp/kmsg && echo kmsg) 2>/dev/null",
        );
        let output = view.run();
        assert!(output.stdout.starts_with("null\nown\n"), "{output}");
        assert!(!output.stdout.contains("kmsg"), "{output}");
    });
}

#[test]
fn an_allowed_device_can_be_opened() {
    check(|| {
        let rules = json!([
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" },
        ]);
        let devices = json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]);
        let bundle = Bundle::new().set("/linux/resources/devices", rules).set("/linux/devices", devices);
        let output = bundle.script(": >/dev/kmsg && echo opened").run();
        assert_eq!(output.stdout, "opened\n", "{output}");
    });
}
