//! One row for each rule about cgroup resources and kernel parameters.

use serde_json::{Value, json};

use super::with;
use crate::spec::{Resources, parse, resources_problems, sysctl_path};

#[track_caller]
fn table(rows: &[(Value, &[&str])]) {
    for (resources, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|line| format!("/linux/resources/{line}")).collect();
        assert_eq!(with(&[("/linux/resources", resources.clone())]), expected, "{resources}");
    }
}

#[test]
fn device_rules() {
    table(&[
        (json!({ "devices": [{ "allow": false }, { "allow": true, "type": "", "access": "" }] }), &[]),
        (
            json!({ "devices": [{ "allow": true, "type": "a", "major": -1, "minor": -1, "access": "mrw" }] }),
            &[],
        ),
        (
            json!({ "devices": [{ "type": "u", "major": -2, "minor": -3, "access": "rx" }] }),
            &[
                "devices/0/type: must be \"a\", \"b\" or \"c\", got \"u\"",
                "devices/0/major: must be a device number, or -1 for all, got -2",
                "devices/0/minor: must be a device number, or -1 for all, got -3",
                "devices/0/access: must consist of the letters r, w and m, got \"rx\"",
            ],
        ),
    ]);
}

#[test]
fn numbers() {
    table(&[
        (json!({ "memory": { "limit": -1, "swappiness": u64::MAX }, "pids": { "limit": 0 } }), &[]),
        (
            json!({ "memory": { "swappiness": 101 } }),
            &["memory/swappiness: must be between 0 and 100, got 101"],
        ),
        (json!({ "cpu": { "idle": 1, "cpus": "0-31:2/8", "mems": "" } }), &[]),
        (
            json!({ "cpu": { "idle": 2, "cpus": "0\n1", "mems": "\0" } }),
            &[
                "cpu/idle: must be 0 or 1, got 2",
                "cpu/cpus: must not contain a line break",
                "cpu/mems: must not contain a NUL byte",
            ],
        ),
        (json!({ "blockIO": { "weight": 1000 } }), &[]),
        (
            json!({ "blockIO": { "weight": 1001, "leafWeight": 1002, "weightDevice": [{ "weight": 1003 }] } }),
            &[
                "blockIO/weight: must be between 10 and 1000, got 1001",
                "blockIO/leafWeight: must be between 10 and 1000, got 1002",
                "blockIO/weightDevice/0/weight: must be between 10 and 1000, got 1003",
            ],
        ),
    ]);
}

#[test]
fn what_becomes_a_file_name() {
    for good in ["2MB", "64KB", "1GB"] {
        table(&[(json!({ "hugepageLimits": [{ "pageSize": good }] }), &[])]);
    }
    for bad in ["", "MB", "2M", "02MB", "2mb", "../../x", "2MB/../x", "2MB\n", "2 MB"] {
        let line = format!("hugepageLimits/0/pageSize: must be a page size such as \"2MB\", got {bad:?}");
        table(&[(json!({ "hugepageLimits": [{ "pageSize": bad }] }), &[&line])]);
    }
    table(&[
        (json!({ "unified": { "memory.high": "1", "hugetlb.1GB.max": "1\n2" } }), &[]),
        (
            json!({ "unified": { "": "1", "..": "1", "../memory.max": "1", "a": "\0", "b\n": "" } }),
            &[
                "unified/: must be the name of one file, got \"\"",
                "unified/..: must be the name of one file, got \"..\"",
                "unified/..~1memory.max: must be the name of one file, got \"../memory.max\"",
                "unified/a: must not contain a NUL byte",
                "unified/b\\u000a: must not contain a line break",
            ],
        ),
        (json!({ "rdma": { "mlx5_1": { "hcaHandles": 1 } } }), &[]),
        (
            json!({ "rdma": { "a b": {}, "a/b": {} } }),
            &[
                "rdma/a b: must not contain a space or an equals sign",
                "rdma/a~1b: must be the name of one file, got \"a/b\"",
            ],
        ),
        (json!({ "network": { "classID": 1, "priorities": [{ "name": "eth0", "priority": 1 }] } }), &[]),
        (
            json!({ "network": { "priorities": [{ "name": "eth0 1\neth1" }] } }),
            &[
                "network/priorities/0/name: must be an interface name of 1 to 15 bytes without '/', ':' and spaces, \
               got \"eth0 1\\neth1\"",
            ],
        ),
    ]);
}

#[test]
fn a_resources_document_has_pointers_of_its_own() {
    let resources: Resources = parse(br#"{"cpu": {"idle": 3}}"#, "resources").expect("it is read");
    assert_eq!(resources_problems(&resources)[0].to_string(), "/cpu/idle: must be 0 or 1, got 3");
}

#[test]
fn sysctl_belongs_to_a_namespace() {
    let sysctl = |key: &str| with(&[("/linux/sysctl", json!({ key: "1" }))]);
    for good in [
        "net.ipv4.ip_forward",
        "net/ipv4/ip_forward",
        "net.ipv4.conf.eno2/100.rp_filter",
        "net/ipv4/conf/eno2.100/rp_filter",
        "kernel.msgmax",
        "kernel/shm_rmid_forced",
        "kernel.sem",
        "fs.mqueue.msg_max",
        "kernel.domainname",
    ] {
        assert_eq!(sysctl(good), Vec::<String>::new(), "{good}");
    }
    let host = "must be a kernel parameter that belongs to a namespace";
    for bad in ["kernel.core_pattern", "kernel.shm", "vm.swappiness", "fs.mqueue", "net", "kernel"] {
        assert_eq!(sysctl(bad), [format!("/linux/sysctl/{bad}: {host}")]);
    }
    let shape = "must be the name of a kernel parameter such as \"net.ipv4.ip_forward\"";
    for bad in ["", "net..x", ".net.x", "net.x.", "net.\0", "net.a\n", "net.//.//.kernel.core_pattern"] {
        let token = bad.replace('/', "~1").replace('\0', "\\u0000").replace('\n', "\\u000a");
        assert_eq!(sysctl(bad), [format!("/linux/sysctl/{token}: {shape}")]);
    }
    assert_eq!(sysctl("net/../kernel/x"), [format!("/linux/sysctl/net~1..~1kernel~1x: {shape}")]);
    assert_eq!(
        sysctl("kernel.hostname"),
        ["/linux/sysctl/kernel.hostname: must be given as the property hostname"]
    );
    assert_eq!(
        with(&[("/linux/sysctl", json!({ "net.a": "1\n2", "net.b": "1 \t2" }))]),
        ["/linux/sysctl/net.a: must not contain a line break"]
    );
    let only_mount = ("/linux/namespaces", json!([{ "type": "mount" }]));
    let keys = json!({
        "fs.mqueue.msg_max": "1", "kernel.domainname": "d", "kernel.sem": "1", "net.a": "1",
        "user.max_user_namespaces": "1"
    });
    assert_eq!(
        with(&[only_mount, ("/linux/sysctl", keys)]),
        [
            "/linux/sysctl/fs.mqueue.msg_max: needs an ipc namespace",
            "/linux/sysctl/kernel.domainname: needs a uts namespace",
            "/linux/sysctl/kernel.sem: needs an ipc namespace",
            "/linux/sysctl/net.a: needs a network namespace",
            "/linux/sysctl/user.max_user_namespaces: needs a user namespace",
        ]
    );
}

#[test]
fn sysctl_paths() {
    for (key, path) in [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("single", "single"),
    ] {
        assert_eq!(sysctl_path(key).as_deref(), Some(path));
    }
    for key in ["", ".", "/", "..", "a.", "/a", "a/../b", "a.//.b", "a.b/", "a./.b"] {
        let path = sysctl_path(key);
        let escapes =
            path.as_deref().is_some_and(|path| path.split('/').any(|name| matches!(name, "" | "." | "..")));
        assert!(!escapes, "{key:?} is {path:?}");
    }
}
