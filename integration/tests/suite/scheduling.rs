//! Limits, priorities, affinity, personality and memory policy of the process.

use corten_integration::{Bundle, Invocation, check, own_capabilities, read, skip};
use serde_json::json;

const SYS_RESOURCE: u64 = 1 << 24;

#[test]
fn rlimits_are_set() {
    check(|| {
        let limits = json!([
            { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            { "type": "RLIMIT_CPU", "soft": 1000, "hard": 18446744073709551615u64 },
            { "type": "RLIMIT_STACK", "soft": 4194304, "hard": 8388608 },
            { "type": "RLIMIT_MEMLOCK", "soft": 1234, "hard": 5678 },
        ]);
        let view = Bundle::new().set("/process/rlimits", limits).look();
        assert_eq!(view.at("/limits/RLIMIT_NOFILE"), &json!([100, 200]));
        assert_eq!(view.at("/limits/RLIMIT_CORE"), &json!([0, 0]));
        assert_eq!(view.at("/limits/RLIMIT_CPU"), &json!([1000, null]));
        assert_eq!(view.at("/limits/RLIMIT_STACK"), &json!([4194304, 8388608]));
        assert_eq!(view.at("/limits/RLIMIT_MEMLOCK"), &json!([1234, 5678]));
    });
}

#[test]
fn rlimits_of_an_ordinary_user_are_set() {
    check(|| {
        let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 55, "hard": 66 }]);
        let bundle = Bundle::new().set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let view = bundle.set("/process/rlimits", limits).look();
        assert_eq!(view.at("/limits/RLIMIT_NOFILE"), &json!([55, 66]));
    });
}

#[test]
fn an_rlimit_may_be_raised_above_the_runtimes_own() {
    check(|| {
        if own_capabilities() & SYS_RESOURCE == 0 {
            skip("we may not raise limits");
        }
        let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 5000, "hard": 6000 }]);
        let wrap = |call: corten_integration::Invocation| call.under("prlimit", &["--nofile=1000:1000"]);
        let output = Bundle::new().set("/process/rlimits", limits).invoke_with(wrap).run().ok();
        let view = corten_integration::View::parse(&output.stdout);
        assert_eq!(view.at("/limits/RLIMIT_NOFILE"), &json!([5000, 6000]));
    });
}

#[test]
fn a_limit_given_twice_is_an_error() {
    check(|| {
        let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 });
        Bundle::new().set("/process/rlimits", json!([limit, limit])).create_fails().says("RLIMIT_NOFILE");
    });
}

#[test]
fn an_unknown_limit_is_an_error() {
    check(|| {
        let limits = json!([{ "type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1 }]);
        Bundle::new().set("/process/rlimits", limits).create_fails().says("RLIMIT_NOSUCH");
    });
}

#[test]
fn oom_score_is_set_or_left_alone() {
    check(|| {
        assert_eq!(Bundle::new().set("/process/oomScoreAdj", 500).look().at("/oom_score_adj"), "500");
        if own_capabilities() & SYS_RESOURCE != 0 {
            assert_eq!(Bundle::new().set("/process/oomScoreAdj", -500).look().at("/oom_score_adj"), "-500");
        }
        let own = read("/proc/self/oom_score_adj");
        assert_eq!(Bundle::new().look().at("/oom_score_adj"), own.trim());
    });
}

#[test]
fn personality_is_set() {
    check(|| {
        let view = Bundle::new().set("/linux/personality", json!({ "domain": "LINUX32" })).look();
        assert_eq!(view.at("/personality"), "00000008");
        let view = Bundle::new().set("/linux/personality", json!({ "domain": "LINUX" })).look();
        assert_eq!(view.at("/personality"), "00000000");
    });
}

#[test]
fn scheduler_is_set() {
    check(|| {
        let look = |scheduler| Bundle::new().set("/process/scheduler", scheduler).look();
        let view = look(json!({ "policy": "SCHED_BATCH", "nice": 7 }));
        assert_eq!((view.at("/scheduler/policy"), view.at("/scheduler/nice")), (&json!("3"), &json!("7")));
        let view = look(json!({ "policy": "SCHED_IDLE" }));
        assert_eq!(view.at("/scheduler/policy"), "5");
        let view = look(json!({ "policy": "SCHED_OTHER", "nice": -5 }));
        assert_eq!((view.at("/scheduler/policy"), view.at("/scheduler/nice")), (&json!("0"), &json!("-5")));
    });
}

#[test]
fn real_time_schedulers_are_set() {
    check(|| {
        let look = |scheduler| {
            let bundle = Bundle::new().set("/process/scheduler", scheduler);
            if std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists() {
                // Real-time groups are configured: a new cgroup has no real-time budget of its own.
                let cpu = json!({ "realtimePeriod": 1_000_000, "realtimeRuntime": 10_000 });
                return bundle.set("/linux/resources/cpu", cpu).look();
            }
            bundle.look()
        };
        let view = look(json!({ "policy": "SCHED_FIFO", "priority": 5 }));
        assert_eq!(
            (view.at("/scheduler/policy"), view.at("/scheduler/priority")),
            (&json!("1"), &json!("5"))
        );
        let deadline =
            json!({ "policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 1000000, "period": 1000000 });
        assert_eq!(look(deadline).at("/scheduler/policy"), "6");
    });
}

#[test]
fn an_impossible_scheduler_is_an_error() {
    check(|| {
        let scheduler = json!({ "policy": "SCHED_RR", "priority": 1000 });
        Bundle::new().set("/process/scheduler", scheduler).start_fails();
        Bundle::new().set("/process/scheduler", json!({ "policy": "SCHED_NOSUCH" })).create_fails();
    });
}

#[test]
fn io_priority_is_set() {
    check(|| {
        let shown = |class: &str, priority: i64| {
            let value = json!({ "class": class, "priority": priority });
            Bundle::new().set("/process/ioPriority", value).args(["/bin/ionice"]).run().ok().stdout
        };
        assert_eq!(shown("IOPRIO_CLASS_BE", 2).trim(), "best-effort: prio 2");
        assert_eq!(shown("IOPRIO_CLASS_RT", 5).trim(), "realtime: prio 5");
        assert!(shown("IOPRIO_CLASS_IDLE", 0).starts_with("idle"));
    });
}

#[test]
fn an_impossible_io_priority_is_an_error() {
    check(|| {
        let value = json!({ "class": "IOPRIO_CLASS_NOSUCH", "priority": 2 });
        Bundle::new().set("/process/ioPriority", value).start_fails();
    });
}

#[test]
fn memory_policy_is_set() {
    check(|| {
        if read("/proc/self/numa_maps").is_empty() {
            skip("this kernel has no NUMA");
        }
        let policy = json!({ "mode": "MPOL_BIND", "nodes": "0" });
        let output =
            Bundle::new().set("/linux/memoryPolicy", policy).script("cat /proc/self/numa_maps").run().ok();
        assert!(output.stdout.contains("bind:0"), "{}", output.stdout);
        let policy = json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
        let output =
            Bundle::new().set("/linux/memoryPolicy", policy).script("cat /proc/self/numa_maps").run().ok();
        assert!(output.stdout.contains("interleave=static:0"), "{}", output.stdout);
    });
}

#[test]
fn an_impossible_memory_policy_is_an_error() {
    check(|| {
        let refuse =
            |policy| Bundle::new().set("/linux/memoryPolicy", policy).start_fails().says("memory policy");
        refuse(json!({ "mode": "MPOL_NOSUCH", "nodes": "0" }));
        refuse(json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NOSUCH"] }));
        refuse(json!({ "mode": "MPOL_BIND", "nodes": "x" }));
    });
}

#[test]
fn cpu_affinity_is_not_narrowed_by_the_runtime() {
    check(|| {
        assert_eq!(Bundle::new().look().at("/cpus"), online().as_str());
    });
}

#[test]
fn cpu_affinity_of_the_runtime_is_its_own() {
    check(|| {
        if online() == "0" {
            skip("there is one CPU");
        }
        let confined = |call: Invocation| call.under("taskset", &["-c", "0"]);
        let container = Bundle::new().invoke_with(confined).sleeper().start();
        let status = container.proc("status");
        let seen = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).expect("a list");
        assert_eq!(seen.trim(), online());
        assert_eq!(container.exec(&["/probe"]).invoke_with(confined).look().at("/cpus"), online().as_str());
        container.vanish();
    });
}

fn online() -> String {
    read("/sys/devices/system/cpu/online").trim().to_owned()
}
