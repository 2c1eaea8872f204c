//! One row for each rule about the document and `linux`: a valid document, one change, and every
//! problem that is reported for it.

use serde_json::{Value, json};

use super::{found, patch, table, valid, with};

#[test]
fn the_document_that_is_patched_is_valid() {
    assert_eq!(found(&valid()), Vec::<String>::new());
}

#[test]
fn everything_wrong_is_found_at_once() {
    let problems = with(&[
        ("/process/cwd", json!("app")),
        ("/linux/namespaces/1", json!({ "type": "pid" })),
        ("/mounts/1/options", json!(["rbind", "idmap"])),
    ]);
    assert_eq!(
        problems,
        [
            "/process/cwd: must be an absolute path, got \"app\"",
            "/mounts/1/options/1: \"idmap\" needs uidMappings and gidMappings, or a user namespace",
            "/linux/namespaces/1: \"pid\" is listed twice",
        ]
    );
    assert_eq!(
        found(&json!({})),
        ["/ociVersion: is required", "/process: is required", "/root: is required"]
    );
}

#[test]
fn version() {
    let semantic = "must be a semantic version such as \"1.3.0\", got";
    for good in ["1.0.0", "1.0.2-dev", "1.3.0+dev", "1.0.0-rc.1+build.5", "1.20.300"] {
        assert_eq!(with(&[("/ociVersion", json!(good))]), Vec::<String>::new(), "{good}");
    }
    for bad in
        ["1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0+", "1.0.0-a..b", "1.0.x", "1.0.0 "]
    {
        assert_eq!(with(&[("/ociVersion", json!(bad))]), [format!("/ociVersion: {semantic} {bad:?}")]);
    }
    table(&[
        ("/ociVersion", json!(""), &["/ociVersion: is required"]),
        ("/ociVersion", json!("2.0.0"), &["/ociVersion: must have the major version 1, got \"2.0.0\""]),
        (
            "/ociVersion",
            json!("0.5.0-dev"),
            &["/ociVersion: must have the major version 1, got \"0.5.0-dev\""],
        ),
    ]);
}

#[test]
fn root_and_names() {
    table(&[
        ("/root", Value::Null, &["/root: is required"]),
        ("/root/path", json!(""), &["/root/path: must not be empty"]),
        ("/root/path", json!("a\0b"), &["/root/path: must not contain a NUL byte"]),
        ("/hostname", json!("name"), &[]),
        ("/hostname", json!("x".repeat(64)), &[]),
        ("/hostname", json!("x".repeat(65)), &["/hostname: must be at most 64 bytes long, got 65"]),
        ("/hostname", json!("a\0"), &["/hostname: must not contain a NUL byte"]),
        ("/domainname", json!("é".repeat(33)), &["/domainname: must be at most 64 bytes long, got 66"]),
        ("/annotations", json!({ "a": "", "b": "c" }), &[]),
        ("/annotations", json!({ "": "x" }), &["/annotations/: must not have an empty key"]),
    ]);
    let no_uts = ("/linux/namespaces/4", json!({ "type": "user", "path": "/proc/1/ns/user" }));
    let names = [no_uts.clone(), ("/hostname", json!("h")), ("/domainname", json!("d"))];
    assert_eq!(with(&names), ["/hostname: needs a uts namespace", "/domainname: needs a uts namespace"]);
    assert_eq!(with(&[no_uts, ("/hostname", json!(""))]), Vec::<String>::new());
}

#[test]
fn hooks() {
    let one = |hook: Value| json!({ "createRuntime": [{ "path": "/bin/ok" }, hook] });
    table(&[
        ("/hooks", json!({}), &[]),
        ("/hooks", one(json!({ "path": "/bin/x", "args": [""], "env": ["A=b"], "timeout": 1 })), &[]),
        (
            "/hooks",
            one(json!({ "path": "x", "args": ["a", "\0"], "env": ["A", "=b"], "timeout": 0 })),
            &[
                "/hooks/createRuntime/1/path: must be an absolute path, got \"x\"",
                "/hooks/createRuntime/1/args/1: must not contain a NUL byte",
                "/hooks/createRuntime/1/env/0: must be NAME=VALUE, got \"A\"",
                "/hooks/createRuntime/1/env/1: must be NAME=VALUE, got \"=b\"",
                "/hooks/createRuntime/1/timeout: must be greater than 0 seconds, got 0",
            ],
        ),
    ]);
    for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        assert_eq!(
            with(&[("/hooks", json!({ name: [{ "path": "" }] }))]),
            [format!("/hooks/{name}/0/path: must be an absolute path, got \"\"")]
        );
    }
}

#[test]
fn namespaces() {
    let types = "must be one of pid, network, mount, ipc, uts, user, cgroup, time";
    table(&[
        ("/linux/namespaces/0", json!({ "type": "pid", "path": "/proc/1/ns/pid" }), &[]),
        ("/linux/namespaces/0", json!({ "type": "pid", "path": "" }), &[]),
        (
            "/linux/namespaces/0",
            json!({ "type": "net" }),
            &[&format!("/linux/namespaces/0/type: {types}, got \"net\"")],
        ),
        ("/linux/namespaces/0", json!({}), &[&format!("/linux/namespaces/0/type: {types}, got \"\"")]),
        ("/linux/namespaces/0", json!({ "type": "ipc" }), &["/linux/namespaces/3: \"ipc\" is listed twice"]),
        (
            "/linux/namespaces/0/path",
            json!("ns/pid"),
            &["/linux/namespaces/0/path: must be an absolute path, got \"ns/pid\""],
        ),
        (
            "/linux/namespaces/0/path",
            json!("/a\0"),
            &["/linux/namespaces/0/path: must not contain a NUL byte"],
        ),
    ]);
}

#[test]
fn without_a_mount_namespace_no_mount_is_touched() {
    let no_mount = ("/linux/namespaces/2", json!({ "type": "user", "path": "/proc/1/ns/user" }));
    assert_eq!(with(&[no_mount.clone(), ("/mounts", json!([]))]), Vec::<String>::new());
    assert_eq!(
        with(&[
            no_mount,
            ("/root/readonly", json!(true)),
            ("/linux/devices", json!([{ "path": "/dev/p", "type": "p" }])),
            ("/linux/rootfsPropagation", json!("slave")),
            ("/linux/maskedPaths", json!(["/a"])),
            ("/linux/readonlyPaths", json!(["/a"])),
        ]),
        [
            "/mounts: needs a mount namespace",
            "/root/readonly: needs a mount namespace",
            "/linux/devices: needs a mount namespace",
            "/linux/rootfsPropagation: needs a mount namespace",
            "/linux/maskedPaths: needs a mount namespace",
            "/linux/readonlyPaths: needs a mount namespace",
        ]
    );
}

#[test]
fn id_mappings() {
    let map = |entries: &[(u32, u32, u32)]| -> Value {
        entries.iter().map(|(c, h, n)| json!({ "containerID": c, "hostID": h, "size": n })).collect()
    };
    let user = |path: &str| ("/linux/namespaces/6", json!({ "type": "user", "path": path }));
    let one = map(&[(0, 1000, 1)]);
    let both = |uids: Value, path: &str| {
        with(&[user(path), ("/linux/uidMappings", uids), ("/linux/gidMappings", one.clone())])
    };
    assert_eq!(both(one.clone(), ""), Vec::<String>::new());
    assert_eq!(both(one.clone(), "/proc/1/ns/user"), Vec::<String>::new());
    assert_eq!(both(map(&[(0, 0, u32::MAX)]), ""), Vec::<String>::new());
    assert_eq!(both(map(&[(0, 1000, 10), (10, 1010, 5)]), ""), Vec::<String>::new());
    assert_eq!(with(&[user("/proc/1/ns/user")]), Vec::<String>::new());
    assert_eq!(
        with(&[user("")]),
        [
            "/linux/uidMappings: is required for a new user namespace",
            "/linux/gidMappings: is required for a new user namespace",
        ]
    );
    assert_eq!(
        with(&[("/linux/uidMappings", one.clone()), ("/linux/gidMappings", one.clone())]),
        ["/linux/uidMappings: needs a user namespace", "/linux/gidMappings: needs a user namespace"]
    );
    assert_eq!(both(map(&[(0, 1000, 0)]), ""), ["/linux/uidMappings/0/size: must be greater than 0"]);
    assert_eq!(
        both(map(&[(1, 0, u32::MAX)]), ""),
        [
            "/linux/uidMappings/0/size: must end at the id 4294967294, but containerID 1 and 4294967295 ids go beyond"
        ]
    );
    assert_eq!(
        both(map(&[(0, 1000, 10), (9, 1020, 5), (100, 1000, 1)]), ""),
        [
            "/linux/uidMappings/1/containerID: overlaps entry 0",
            "/linux/uidMappings/2/hostID: overlaps entry 0"
        ]
    );
    let many: Vec<_> = (0..341).map(|i| (i, i, 1)).collect();
    assert_eq!(both(map(&many[..340]), ""), Vec::<String>::new());
    assert_eq!(both(map(&many), ""), ["/linux/uidMappings: must have at most 340 entries, got 341"]);
}

#[test]
fn devices() {
    let device = |change: &[(&str, Value)]| {
        let mut device = json!({ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229 });
        change.iter().for_each(|(key, value)| patch(&mut device, key, value.clone()));
        with(&[("/linux/devices", json!([device]))])
    };
    for kind in ["b", "c", "u"] {
        assert_eq!(device(&[("/type", json!(kind))]), Vec::<String>::new());
        assert_eq!(
            device(&[("/type", json!(kind)), ("/major", Value::Null), ("/minor", json!(1 << 20))]),
            [
                "/linux/devices/0/major: is required unless the type is \"p\"",
                "/linux/devices/0/minor: must be between 0 and 1048575, got 1048576",
            ]
        );
    }
    assert_eq!(device(&[("/type", json!("p")), ("/major", Value::Null), ("/minor", Value::Null)]), [""; 0]);
    assert_eq!(
        device(&[("/type", json!("a"))]),
        ["/linux/devices/0/type: must be \"b\", \"c\", \"u\" or \"p\", got \"a\""]
    );
    assert_eq!(
        device(&[("/major", json!(-1))]),
        ["/linux/devices/0/major: must be between 0 and 4095, got -1"]
    );
    assert_eq!(
        device(&[("/path", json!(""))]),
        ["/linux/devices/0/path: must be an absolute path, got \"\""]
    );
    let escape = "must name a file without \"..\", got";
    assert_eq!(
        device(&[("/path", json!("/dev/../x"))]),
        [format!("/linux/devices/0/path: {escape} \"/dev/../x\"")]
    );
    assert_eq!(
        device(&[("/path", json!("/dev/x/"))]),
        [format!("/linux/devices/0/path: {escape} \"/dev/x/\"")]
    );
    assert_eq!(
        device(&[("/path", json!("/dev/x\0"))]),
        ["/linux/devices/0/path: must not contain a NUL byte"]
    );
    assert_eq!(device(&[("/fileMode", json!(0o2_0666))]), [""; 0]);
    assert_eq!(
        device(&[("/fileMode", json!(0o200_0000))]),
        ["/linux/devices/0/fileMode: must be at most 4095 (octal 7777), got 524288"]
    );
}

#[test]
fn net_devices() {
    let name = "must be an interface name of 1 to 15 bytes without '/', ':' and spaces, got";
    table(&[
        (
            "/linux/netDevices",
            json!({ "eth0": {}, "eth1": { "name": "eth0x" }, "a": { "name": "b%d" } }),
            &[],
        ),
        ("/linux/netDevices", json!({ "e0": { "name": "same%d" }, "e1": { "name": "same%d" } }), &[]),
        ("/linux/netDevices", json!({ "e0": { "name": "" } }), &[]),
        ("/linux/netDevices", json!({ "a/b": {} }), &[&format!("/linux/netDevices/a~1b: {name} \"a/b\"")]),
        (
            "/linux/netDevices",
            json!({ "e": { "name": ".." } }),
            &[&format!("/linux/netDevices/e/name: {name} \"..\"")],
        ),
        (
            "/linux/netDevices",
            json!({ "e": { "name": "sixteen-bytes-xx" } }),
            &[&format!("/linux/netDevices/e/name: {name} \"sixteen-bytes-xx\"")],
        ),
        ("/linux/netDevices", json!({ "a:b": {} }), &[&format!("/linux/netDevices/a:b: {name} \"a:b\"")]),
        ("/linux/netDevices", json!({ "": {} }), &[&format!("/linux/netDevices/: {name} \"\"")]),
        (
            "/linux/netDevices",
            json!({ "eth0": { "name": "x" }, "eth1": { "name": "x" }, "x": {} }),
            &[
                "/linux/netDevices/eth1/name: \"x\" is also the name that \"eth0\" gets",
                "/linux/netDevices/x: \"x\" is also the name that \"eth1\" gets",
            ],
        ),
    ]);
    let no_network = ("/linux/namespaces/1", json!({ "type": "user", "path": "/proc/1/ns/user" }));
    assert_eq!(
        with(&[no_network, ("/linux/netDevices", json!({ "eth0": {} }))]),
        ["/linux/netDevices: needs a network namespace"]
    );
}

#[test]
fn time_offsets() {
    table(&[
        ("/linux/timeOffsets", json!({ "boottime": { "secs": -5, "nanosecs": 999_999_999 } }), &[]),
        (
            "/linux/timeOffsets",
            json!({ "monotonic": { "nanosecs": 1_000_000_000 }, "realtime": {} }),
            &[
                "/linux/timeOffsets/monotonic/nanosecs: must be at most 999999999, got 1000000000",
                "/linux/timeOffsets/realtime: must be the offset of \"boottime\" or \"monotonic\"",
            ],
        ),
    ]);
    let offsets = ("/linux/timeOffsets", json!({ "boottime": { "secs": 1 } }));
    let joined = ("/linux/namespaces/6/path", json!("/proc/1/ns/time"));
    assert_eq!(
        with(&[joined, offsets.clone()]),
        ["/linux/timeOffsets: needs a new time namespace, the one that is joined has its own"]
    );
    let none = ("/linux/namespaces/6", json!({ "type": "user", "path": "/proc/1/ns/user" }));
    assert_eq!(with(&[none, offsets]), ["/linux/timeOffsets: needs a time namespace"]);
}

#[test]
fn paths_and_labels() {
    table(&[
        ("/linux/cgroupsPath", json!("/a/b"), &[]),
        ("/linux/cgroupsPath", json!("system.slice:corten:id"), &[]),
        (
            "/linux/cgroupsPath",
            json!("/a/../b"),
            &["/linux/cgroupsPath: must not contain \"..\", got \"/a/../b\""],
        ),
        (
            "/linux/cgroupsPath",
            json!("a:b:.."),
            &["/linux/cgroupsPath: must not contain \"..\", got \"a:b:..\""],
        ),
        ("/linux/cgroupsPath", json!("/a\n"), &["/linux/cgroupsPath: must not contain a line break"]),
        ("/linux/rootfsPropagation", json!("rshared"), &[]),
        (
            "/linux/rootfsPropagation",
            json!("ro"),
            &[
                "/linux/rootfsPropagation: must be one of private, rprivate, rshared, rslave, runbindable, shared, \
               slave, unbindable, got \"ro\"",
            ],
        ),
        (
            "/linux/maskedPaths",
            json!(["/a", "b"]),
            &["/linux/maskedPaths/1: must be an absolute path, got \"b\""],
        ),
        ("/linux/readonlyPaths", json!(["/\0"]), &["/linux/readonlyPaths/0: must not contain a NUL byte"]),
        ("/linux/mountLabel", json!("a:b:c:s0:c1,c2"), &[]),
        ("/linux/mountLabel", json!("a\",x"), &["/linux/mountLabel: must not contain a quotation mark"]),
        ("/linux/seccomp", json!({ "listenerMetadata": "x", "listenerPath": "/s" }), &[]),
        (
            "/linux/seccomp",
            json!({ "listenerMetadata": "x" }),
            &["/linux/seccomp/listenerMetadata: needs listenerPath"],
        ),
        ("/linux/personality", json!({ "domain": "LINUX", "flags": [] }), &[]),
        (
            "/linux/personality",
            json!({ "domain": "linux", "flags": ["ADDR_NO_RANDOMIZE"] }),
            &[
                "/linux/personality/domain: must be \"LINUX\" or \"LINUX32\", got \"linux\"",
                "/linux/personality/flags: must be empty: the specification defines none",
            ],
        ),
    ]);
}

#[test]
fn intel_rdt() {
    let one_file = "must be the name of one file, got";
    for good in ["", "/", "guaranteed", "a.b"] {
        assert_eq!(with(&[("/linux/intelRdt", json!({ "closID": good }))]), Vec::<String>::new());
    }
    for bad in [".", "..", "a/b", "/a", "//"] {
        assert_eq!(
            with(&[("/linux/intelRdt", json!({ "closID": bad }))]),
            [format!("/linux/intelRdt/closID: {one_file} {bad:?}")]
        );
    }
    table(&[
        (
            "/linux/intelRdt",
            json!({ "l3CacheSchema": "L3CODE:0=f\nL3DATA:0=f", "memBwSchema": "MB:0=20" }),
            &[],
        ),
        (
            "/linux/intelRdt",
            json!({ "schemata": ["L3:0=f", "L3:0=f\nMB:0=1"], "memBwSchema": "MB:0=2\n" }),
            &[
                "/linux/intelRdt/schemata/1: must not contain a line break",
                "/linux/intelRdt/memBwSchema: must not contain a line break",
            ],
        ),
    ]);
}
