//! One row for each rule about `mounts`.

use serde_json::{Value, json};

use super::with;

#[track_caller]
fn table(rows: &[(Value, &[&str])]) {
    for (mount, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|line| format!("/mounts/1{line}")).collect();
        assert_eq!(with(&[("/mounts/1", mount.clone())]), expected, "{mount}");
    }
}

#[test]
fn what_and_where() {
    table(&[
        (json!({ "destination": "/tmp", "type": "tmpfs", "options": ["size=1m", "nonsense", ""] }), &[]),
        (json!({ "destination": "relative/is/legal", "type": "tmpfs" }), &[]),
        (json!({ "destination": "", "type": "tmpfs" }), &["/destination: must not be empty"]),
        (
            json!({ "destination": "/\0", "type": "\0", "source": "\0", "options": ["\0"] }),
            &[
                "/destination: must not contain a NUL byte",
                "/type: must not contain a NUL byte",
                "/source: must not contain a NUL byte",
                "/options/0: must not contain a NUL byte",
            ],
        ),
        (
            json!({ "destination": "/a", "source": "/b", "options": ["ro"] }),
            &["/type: is required unless \"bind\" or \"rbind\" is among the options"],
        ),
        (
            json!({ "destination": "/a", "type": "none", "source": "/b" }),
            &["/type: \"none\" needs \"bind\" or \"rbind\" among the options"],
        ),
        (json!({ "destination": "/a", "options": ["remount", "ro"] }), &[]),
        (json!({ "destination": "/a", "type": "tmpfs", "options": ["tmpcopyup"] }), &[]),
        (
            json!({ "destination": "/a", "type": "proc", "options": ["tmpcopyup"] }),
            &["/options/0: \"tmpcopyup\" needs the type \"tmpfs\", got \"proc\""],
        ),
    ]);
}

#[test]
fn bind_mounts() {
    table(&[
        (json!({ "destination": "/a", "source": "b", "options": ["bind"] }), &[]),
        (json!({ "destination": "/a", "type": "none", "source": "b", "options": ["rbind"] }), &[]),
        (json!({ "destination": "/a", "type": "bind", "source": "b" }), &[]),
        (json!({ "destination": "/a", "options": ["bind"] }), &["/source: is required for a bind mount"]),
        (
            json!({ "destination": "/a", "type": "bind", "source": "" }),
            &["/source: is required for a bind mount"],
        ),
        (
            json!({ "destination": "/a", "source": "b", "options": ["bind", "", "size=1m", "rro", "rslave"] }),
            &["/options/2: \"size=1m\" is for file systems, a bind mount has none of its own"],
        ),
    ]);
}

#[test]
fn every_option_of_the_specification_is_known() {
    let options = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
                   nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private \
                   ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime \
                   rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime \
                   rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync unbindable";
    for option in options.split_whitespace() {
        table(&[(json!({ "destination": "/a", "source": "b", "options": ["bind", option] }), &[])]);
    }
}

#[test]
fn inside_proc() {
    let inside = |path: &str| format!("/destination: {path:?} cannot be mounted because it is inside /proc");
    let bind =
        |path: &str| json!({ "destination": path, "type": "bind", "source": "/b", "options": ["bind"] });
    for good in [
        "/proc",
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/slabinfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
        "/process",
        "/a/proc/b",
        "/proc/../b",
    ] {
        table(&[(bind(good), &[])]);
    }
    for (bad, shown) in [
        ("/proc/sys", "/proc/sys"),
        ("/proc/self/attr/exec", "/proc/self/attr/exec"),
        ("proc/kcore", "/proc/kcore"),
        ("/a/..//proc/./sysrq-trigger/", "/proc/sysrq-trigger"),
        ("/../proc/1", "/proc/1"),
    ] {
        table(&[(bind(bad), &[&inside(shown)])]);
    }
    table(&[
        (json!({ "destination": "/proc/", "type": "proc" }), &[]),
        (
            json!({ "destination": "/proc", "type": "tmpfs" }),
            &["/destination: \"tmpfs\" cannot be mounted on /proc because it is not of type proc"],
        ),
    ]);
}

#[test]
fn id_mapped_mounts() {
    let map = json!([{ "containerID": 0, "hostID": 1, "size": 10 }]);
    let needs = "needs uidMappings and gidMappings, or a user namespace";
    table(&[
        (
            json!({ "destination": "/a", "type": "bind", "source": "b", "uidMappings": map, "gidMappings": map }),
            &[],
        ),
        (json!({ "destination": "/a", "type": "tmpfs", "uidMappings": map, "gidMappings": map }), &[]),
        (
            json!({ "destination": "/a", "type": "bind", "source": "b", "uidMappings": map }),
            &["/gidMappings: is required beside uidMappings"],
        ),
        (
            json!({ "destination": "/a", "type": "bind", "source": "b", "gidMappings": map, "options": ["idmap"] }),
            &["/uidMappings: is required beside gidMappings"],
        ),
        (
            json!({ "destination": "/a", "type": "bind", "source": "b", "options": ["ro", "idmap"] }),
            &[&format!("/options/1: \"idmap\" {needs}")],
        ),
        (
            json!({ "destination": "/a", "source": "b", "options": ["rbind", "ridmap"], "uidMappings": [] }),
            &[&format!("/options/1: \"ridmap\" {needs}")],
        ),
        (
            json!({
                "destination": "/a", "type": "bind", "source": "b", "uidMappings": map,
                "gidMappings": [{ "containerID": 0, "hostID": 1, "size": 0 }]
            }),
            &["/gidMappings/0/size: must be greater than 0"],
        ),
    ]);
    let of_the_user_namespace = with(&[
        ("/linux/namespaces/6", json!({ "type": "user", "path": "/proc/1/ns/user" })),
        ("/mounts/1/options", json!(["rbind", "ridmap"])),
    ]);
    assert_eq!(of_the_user_namespace, Vec::<String>::new());
}
