//! Namespaces: new, joined by path, left alone, in combination; id mappings and time offsets.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corten_integration::{Bundle, Container, Scratch, check, limit, read, skip};
use serde_json::json;

/// What /proc/PID/ns calls the namespaces that config.json names so.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn own(file: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{file}")).expect("a namespace").to_string_lossy().into_owned()
}

/// A process that sleeps in namespaces of its own, ended when dropped.
struct Holder(Child);

impl Holder {
    fn new(unshare: &[&str]) -> Holder {
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null());
        let holder = Holder(command.spawn().expect("unshare"));
        let comm = format!("/proc/{}/comm", holder.0.id());
        let end = Instant::now() + limit();
        while read(&comm).trim() != "sleep" {
            assert!(Path::new(&comm).exists() && Instant::now() < end, "unshare {unshare:?} does not work");
            std::thread::sleep(Duration::from_millis(2));
        }
        holder
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/ns/{file}", self.0.id())
    }

    fn id(&self, file: &str) -> String {
        fs::read_link(self.path(file)).expect("a namespace").to_string_lossy().into_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sees(container: &Container, file: &str) -> String {
    container.proc_link(&format!("ns/{file}"))
}

#[test]
fn listed_namespaces_are_new_and_others_are_the_runtimes() {
    check(|| {
        let view = Bundle::new().look();
        for (kind, file) in KINDS {
            let new = ["pid", "ipc", "uts", "mount"].contains(&kind);
            let seen = view.text(&format!("/namespaces/{file}"));
            assert_eq!(seen != own(file), new, "{kind}: {seen}");
        }
    });
}

#[test]
fn each_namespace_can_be_new() {
    check(|| {
        for (kind, file) in [("network", "net"), ("cgroup", "cgroup")] {
            let view = Bundle::new().namespace(kind).look();
            assert_ne!(view.text(&format!("/namespaces/{file}")), own(file), "{kind}");
        }
    });
}

#[test]
fn a_new_time_namespace_has_the_offsets() {
    check(|| {
        let before = clock_seconds();
        let offsets = json!({ "monotonic": { "secs": 1000, "nanosecs": 1 }, "boottime": { "secs": 100000 } });
        let view = Bundle::new().namespace("time").set("/linux/timeOffsets", offsets).look();
        assert_ne!(view.text("/namespaces/time"), own("time"));
        let monotonic = view.at("/clocks/monotonic").as_i64().expect("seconds") - before.0;
        let boottime = view.at("/clocks/boottime").as_i64().expect("seconds") - before.1;
        assert!((1000..1100).contains(&monotonic), "monotonic clock moved by {monotonic}");
        assert!((100000..100100).contains(&boottime), "boot time moved by {boottime}");
    });
}

fn clock_seconds() -> (i64, i64) {
    use rustix::time::{ClockId, clock_gettime};
    (clock_gettime(ClockId::Monotonic).tv_sec, clock_gettime(ClockId::Boottime).tv_sec)
}

#[test]
fn a_new_time_namespace_needs_no_offsets() {
    check(|| {
        let view = Bundle::new().namespace("time").look();
        assert_ne!(view.text("/namespaces/time"), own("time"));
    });
}

#[test]
fn time_offsets_without_a_time_namespace_are_refused() {
    check(|| {
        let offsets = json!({ "monotonic": { "secs": 1000 } });
        Bundle::new().set("/linux/timeOffsets", offsets).create_fails();
    });
}

#[test]
fn a_joined_time_namespace_is_joined() {
    check(|| {
        let holder = Holder::new(&["--time", "--monotonic", "5000"]);
        // Before Linux 6.0 execve does not enter the new one.
        let path = holder.path("time_for_children");
        let before = clock_seconds().0;
        let view = Bundle::new().join("time", &path).look();
        assert_eq!(view.text("/namespaces/time"), holder.id("time_for_children"));
        let moved = view.at("/clocks/monotonic").as_i64().expect("seconds") - before;
        assert!((5000..5100).contains(&moved), "monotonic clock moved by {moved}");
    });
}

#[test]
fn a_namespace_given_twice_is_an_error() {
    check(|| {
        Bundle::new().namespace("pid").create_fails();
        Bundle::new().namespace("network").namespace("network").create_fails();
    });
}

#[test]
fn an_unknown_namespace_is_an_error() {
    check(|| {
        Bundle::new().namespace("quantum").create_fails().says("quantum");
    });
}

#[test]
fn namespaces_are_joined_by_path() {
    check(|| {
        let holder = Holder::new(&["--net", "--ipc", "--uts"]);
        let mut bundle = Bundle::new();
        for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            bundle = bundle.join(kind, &holder.path(file));
        }
        let view = bundle.look();
        for file in ["net", "ipc", "uts"] {
            assert_eq!(view.text(&format!("/namespaces/{file}")), holder.id(file), "{file}");
        }
    });
}

#[test]
fn a_pid_namespace_is_joined() {
    check(|| {
        let first = Bundle::new().sleeper().start();
        let path = format!("/proc/{}/ns/pid", first.pid());
        let bundle = Bundle::new().join("pid", &path);
        let view = bundle.look();
        assert_eq!(view.text("/namespaces/pid"), sees(&first, "pid"));
        assert_ne!(view.at("/pid"), 1);
        let processes = view.at("/processes").as_array().expect("pids").clone();
        assert!(processes.contains(&json!(1)), "the other container's init is not seen: {processes:?}");
        assert_eq!(first.status(), "running");
    });
}

#[test]
fn a_pod_shares_network_ipc_and_uts() {
    check(|| {
        let pause = Bundle::new().namespace("network").set("/hostname", "pod").sleeper().start();
        let path = |file: &str| format!("/proc/{}/ns/{file}", pause.pid());
        let mut bundle = Bundle::new();
        for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
            bundle = bundle.join(kind, &path(file));
        }
        let view = bundle.look();
        assert_eq!(view.at("/hostname"), "pod");
        assert_eq!(view.text("/namespaces/net"), sees(&pause, "net"));
        assert_eq!(view.at("/loopback_works"), true, "lo of the pod is down");
        assert_ne!(view.text("/namespaces/pid"), sees(&pause, "pid"));
    });
}

#[test]
fn a_path_to_a_namespace_of_another_type_is_an_error() {
    check(|| {
        Bundle::new().join("network", "/proc/self/ns/uts").create_fails();
    });
}

#[test]
fn a_path_to_nothing_is_an_error() {
    check(|| {
        Bundle::new().join("network", "/no/such/namespace").create_fails().says("/no/such/namespace");
        let file = Scratch::new();
        let path = file.path().join("file");
        fs::write(&path, "").expect("write");
        Bundle::new().join("network", &path.to_string_lossy()).create_fails();
    });
}

#[test]
fn a_new_network_namespace_has_only_lo_and_it_is_up() {
    check(|| {
        let view = Bundle::new().namespace("network").look();
        let names = view.at("/interfaces").as_array().expect("interfaces").clone();
        // Modules such as sit and tunl put their own into every namespace.
        assert!(names.contains(&json!("lo")) && !names.contains(&json!("eth0")), "{names:?}");
        assert_eq!(view.at("/loopback_works"), true);
    });
}

#[test]
fn no_pid_namespace_means_the_runtimes() {
    check(|| {
        let container = Bundle::new().without_namespace("pid").sleeper().start();
        assert_eq!(sees(&container, "pid"), own("pid"));
        container.vanish();
    });
}

#[test]
fn a_container_without_a_pid_namespace_dies_whole() {
    check(|| {
        let bundle = Bundle::new().without_namespace("pid");
        let mut reports = bundle.reports("/report");
        let container =
            bundle.script("sleep 1000 & echo $! >/report; sleep 1000 & echo $! >/report; wait").start();
        let children = [reports.line(), reports.line()];
        container.vanish();
        for child in children {
            let comm = read(format!("/proc/{child}/comm"));
            let state = read(format!("/proc/{child}/status"));
            let gone = comm.is_empty() || state.contains("State:\tZ");
            assert!(gone, "{child} ({comm}) outlives the container");
        }
    });
}

#[test]
fn a_user_namespace_maps_ids() {
    check(|| {
        let bundle = Bundle::new().userns(100_000, 65536).namespace("network").script("sleep 1000");
        let container = bundle.start();
        let map: Vec<String> = container.proc("uid_map").split_whitespace().map(str::to_owned).collect();
        assert_eq!(map, ["0", "100000", "65536"]);
        let map: Vec<String> = container.proc("gid_map").split_whitespace().map(str::to_owned).collect();
        assert_eq!(map, ["0", "100000", "65536"]);
        assert!(container.proc("status").contains("Uid:\t100000\t100000"));
        container.vanish();
    });
}

#[test]
fn inside_a_user_namespace_root_is_root() {
    check(|| {
        let attempts = ["create:/tmp/x", "write:/proc/sys/vm/swappiness", "mknod:/tmp/null", "stat:/"];
        let view = Bundle::new().userns(100_000, 65536).namespace("network").probe(attempts);
        assert_eq!(view.at("/uid/0"), 0);
        assert_eq!(view.at("/gid/0"), 0);
        assert!(view.could("create:/tmp/x"));
        assert!(!view.could("write:/proc/sys/vm/swappiness"));
        assert!(!view.could("mknod:/tmp/null"), "mknod in a user namespace");
        assert_eq!(view.attempt("stat:/")["ok"]["uid"], 0);
        for device in ["null", "zero", "full", "random", "urandom", "tty"] {
            assert_eq!(view.at(&format!("/dev/{device}/kind")), "c", "/dev/{device}");
        }
    });
}

#[test]
fn a_user_namespace_can_have_several_ranges() {
    check(|| {
        let bundle = Bundle::new().userns(100_000, 1000).namespace("network");
        let map = json!([
            { "containerID": 0, "hostID": 100000, "size": 1000 },
            { "containerID": 1000, "hostID": 300000, "size": 1 },
            { "containerID": 1001, "hostID": 101001, "size": 1000 },
        ]);
        let bundle = bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let container =
            bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).script("sleep 1000").start();
        assert!(container.proc("status").contains("Uid:\t300000\t300000"), "{}", container.proc("status"));
    });
}

#[test]
fn a_user_that_is_not_mapped_is_an_error() {
    check(|| {
        let bundle = Bundle::new().userns(100_000, 10).namespace("network");
        bundle.set("/process/user", json!({ "uid": 10, "gid": 0 })).start_fails();
    });
}

#[test]
fn mappings_without_a_user_namespace_are_refused() {
    check(|| {
        let map = json!([{ "containerID": 0, "hostID": 100000, "size": 10 }]);
        let bundle = Bundle::new().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        bundle.create_fails();
    });
}

#[test]
fn a_user_namespace_is_joined_by_path() {
    check(|| {
        let first = Bundle::new().userns(100_000, 65536).namespace("network").script("sleep 1000").start();
        let path = |file: &str| format!("/proc/{}/ns/{file}", first.pid());
        let mut second =
            Bundle::new().userns(100_000, 65536).remove("/linux/uidMappings").remove("/linux/gidMappings");
        for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
            second = second.join(kind, &path(file));
        }
        let view = second.look();
        assert_eq!(view.text("/namespaces/user"), sees(&first, "user"));
        assert_eq!(view.text("/namespaces/net"), sees(&first, "net"));
        assert_eq!(view.at("/uid/0"), 0);
        let map: Vec<&str> = view.text("/uid_map/0").split_whitespace().collect();
        assert_eq!(map, ["0", "100000", "65536"]);
    });
}

#[test]
fn all_eight_namespaces_at_once() {
    check(|| {
        let mut bundle = Bundle::new().userns(100_000, 65536);
        for kind in ["network", "cgroup", "time"] {
            bundle = bundle.namespace(kind);
        }
        let offsets = json!({ "boottime": { "secs": 7777 } });
        let view = bundle.set("/linux/timeOffsets", offsets).look();
        for (kind, file) in KINDS {
            assert_ne!(view.text(&format!("/namespaces/{file}")), own(file), "{kind}");
        }
        assert_eq!(view.at("/pid"), 1);
    });
}

#[test]
fn exec_enters_all_eight_namespaces() {
    check(|| {
        let mut bundle = Bundle::new().userns(100_000, 65536);
        for kind in ["network", "cgroup", "time"] {
            bundle = bundle.namespace(kind);
        }
        let container = bundle.script("sleep 1000").start();
        let view = container.exec(&["/probe"]).look();
        for (kind, file) in KINDS {
            assert_eq!(view.text(&format!("/namespaces/{file}")), sees(&container, file), "{kind}");
        }
    });
}

#[test]
fn a_cgroup_namespace_begins_at_the_containers_cgroup() {
    check(|| {
        let view = Bundle::new().namespace("cgroup").look();
        let lines = view.at("/cgroup").as_array().expect("lines").clone();
        for line in lines {
            let line = line.as_str().expect("text").to_owned();
            // Hierarchies that the runtime leaves alone show the way out of its own cgroup.
            assert!(line.ends_with(":/") || line.contains("/.."), "{line}");
        }
    });
}

#[test]
fn exec_joins_the_containers_namespaces() {
    check(|| {
        let container = Bundle::new().namespace("network").namespace("cgroup").sleeper().start();
        let view = container.exec(&["/probe"]).look();
        for (kind, file) in KINDS {
            assert_eq!(view.text(&format!("/namespaces/{file}")), sees(&container, file), "{kind}");
        }
        assert_ne!(view.at("/pid"), 1);
    });
}

#[test]
fn net_devices_are_moved() {
    check(|| {
        let name = format!("it{}", std::process::id());
        let made = Command::new("ip").args(["link", "add", &name, "type", "veth"]).status();
        if !made.is_ok_and(|s| s.success()) {
            skip("cannot make a veth device");
        }
        let devices = json!({ name.clone(): { "name": "inner0" } });
        let bundle = Bundle::new().namespace("network").set("/linux/netDevices", devices);
        let output = bundle.run();
        let _ = Command::new("ip").args(["link", "delete", &name]).stderr(Stdio::null()).status();
        // Its peer goes with it, or, when the namespace took it away, has gone already.
        let view = corten_integration::View::parse(&output.ok().stdout);
        let names = view.at("/interfaces").to_string();
        assert!(names.contains("inner0"), "{names}");
    });
}
