//! events: what a container uses, and when it runs out of memory.

use std::time::{Duration, Instant};

use corten_integration::{Bundle, Cgroups, Container, bundles, cgroups, check, limit, read};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// `events --stats`: one line.
#[track_caller]
fn stats(container: &Container) -> Value {
    let output = container.command("events", &["--stats"]).run(container.bundle.dir()).ok();
    assert_eq!(output.stdout.lines().count(), 1, "{output}");
    let key = |key: &str| output.stdout.find(key).unwrap_or_else(|| panic!("no {key} in {output}"));
    assert!(output.stdout.starts_with(r#"{"type":"stats","id":""#), "{output}");
    assert!(key(r#""id":"#) < key(r#""data":"#), "{output}");
    serde_json::from_str(&output.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {output}"))
}

#[test]
fn stats_have_the_shape_that_engines_read() {
    check(|| {
        for bundle in bundles() {
            let resources = json!({ "memory": { "limit": 64 * MIB }, "pids": { "limit": 50 } });
            let container = bundle.set("/linux/resources", resources).sleeper().start();
            let event = stats(&container);
            assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id())));
            let data = &event["data"];
            assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|n| n > 0), "{data}");
            for key in ["kernel", "user"] {
                assert!(data["cpu"]["usage"][key].is_u64(), "{data}");
            }
            assert!(data["cpu"]["throttling"].is_object(), "{data}");
            let memory = &data["memory"];
            assert_eq!(memory["usage"]["limit"], 64 * MIB, "{memory}");
            assert!(memory["usage"]["usage"].as_u64().is_some_and(|n| n > 0), "{memory}");
            for key in ["usage", "swap", "kernel", "kernelTCP"] {
                assert!(memory[key]["failcnt"].is_u64(), "{key} of {memory}");
            }
            assert!(memory["raw"].as_object().is_some_and(|raw| !raw.is_empty()), "{memory}");
            assert_eq!(data["pids"], json!({ "current": 2, "limit": 50 }), "{data}");
            for key in ["blkio", "hugetlb", "intel_rdt"] {
                assert!(data[key].is_object(), "{key} of {data}");
            }
            container.vanish();
        }
    });
}

#[test]
fn pressure_is_told_where_the_kernel_tells_it() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let data = &stats(&container)["data"];
        if cgroups() == Cgroups::V2 && container.cgroup("cpu").join("cpu.pressure").exists() {
            for resource in ["cpu", "memory", "blkio"] {
                for line in ["some", "full"] {
                    let psi = &data[resource]["psi"][line];
                    assert!(psi["avg10"].is_number() && psi["total"].is_u64(), "{resource}: {data}");
                }
            }
        }
    });
}

#[test]
fn use_is_counted() {
    check(|| {
        let container = Bundle::new().script("while :; do :; done").start();
        let total = || stats(&container)["data"]["cpu"]["usage"]["total"].as_u64().expect("a number");
        let before = total();
        std::thread::sleep(Duration::from_millis(300));
        assert!(total() > before + 50_000_000, "nanoseconds: {before}, {}", total());
    });
}

#[test]
fn events_come_at_intervals_until_the_container_ends() {
    check(|| {
        for bundle in bundles() {
            let container = bundle.sleeper().start();
            let events = container.command("events", &["--interval", "100ms"]).spawn(container.bundle.dir());
            let out = events.stdout_path();
            let end = Instant::now() + limit();
            while read(&out).lines().count() < 3 {
                assert!(Instant::now() < end, "only {:?}", read(&out));
                std::thread::sleep(Duration::from_millis(50));
            }
            container.kill("KILL").ok();
            container.wait();
            container.delete().ok();
            let output = events.wait().ok();
            for line in output.stdout.lines() {
                let event: Value = serde_json::from_str(line).expect("JSON");
                assert_eq!(event["type"], "stats");
            }
        }
    });
}

#[test]
fn events_end_by_themselves_when_the_container_does() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let events = container.command("events", &["--interval", "10s"]).spawn(container.bundle.dir());
        std::thread::sleep(Duration::from_millis(300));
        container.kill("KILL").ok();
        container.wait();
        events.wait().ok();
    });
}

#[test]
fn the_oom_killer_is_told() {
    check(|| {
        for bundle in bundles() {
            let memory = json!({ "memory": { "limit": 16 * MIB, "swap": 16 * MIB } });
            let script = "while [ ! -e /go ]; do sleep 0.05; done; \
                awk 'BEGIN { x = \"0123\"; while (1) x = x x }'; sleep 1000";
            let container = bundle.set("/linux/resources", memory).script(script).start();
            let events = container.command("events", &["--interval", "1h"]).spawn(container.bundle.dir());
            let out = events.stdout_path();
            // It must be watching before anything happens.
            std::thread::sleep(Duration::from_secs(1));
            std::fs::write(container.bundle.rootfs("/go"), "").expect("write");
            let end = Instant::now() + limit();
            while read(&out).is_empty() {
                assert!(Instant::now() < end, "no event comes");
                std::thread::sleep(Duration::from_millis(50));
            }
            let line = read(&out).lines().next().unwrap_or_default().to_owned();
            assert_eq!(line, format!(r#"{{"type":"oom","id":"{}"}}"#, container.id()));
            assert_eq!(container.status(), "running");
            container.kill("KILL").ok();
            container.wait();
            container.delete().ok();
            events.wait().ok();
        }
    });
}

#[test]
fn a_stopped_container_has_no_events() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        container.kill("KILL").ok();
        container.wait();
        container.command("events", &["--stats"]).run(container.bundle.dir()).failed().says("not running");
    });
}

#[test]
fn an_interval_is_a_duration_and_not_nothing() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        for interval in ["0s", "x"] {
            let call = container.command("events", &["--interval", interval]);
            call.run(container.bundle.dir()).failed();
        }
    });
}
