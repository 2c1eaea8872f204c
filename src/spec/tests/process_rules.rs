//! One row for each rule about `process` and what schedules it.

use serde_json::{Value, json};

use super::{table, with};
use crate::spec::{Process, cpu_list, node_list, parse, process_problems};

const NONE: [&str; 0] = [];

#[test]
fn what_runs() {
    table(&[
        ("/process", Value::Null, &["/process: is required"]),
        ("/process/args", json!([]), &["/process/args: must name a program"]),
        ("/process/args", Value::Null, &["/process/args: must name a program"]),
        ("/process/args", json!(["", "x"]), &["/process/args/0: must not be empty"]),
        ("/process/args", json!(["sh", ""]), &[]),
        ("/process/args", json!(["sh", "a\0b"]), &["/process/args/1: must not contain a NUL byte"]),
        ("/process/cwd", json!(""), &["/process/cwd: must be an absolute path, got \"\""]),
        ("/process/cwd", json!("app"), &["/process/cwd: must be an absolute path, got \"app\""]),
        ("/process/cwd", json!("/a\0"), &["/process/cwd: must not contain a NUL byte"]),
        ("/process/env", json!(["A=", "A=b=c", "a b=c"]), &[]),
        (
            "/process/env",
            json!(["A", "=x", "", "B=\0"]),
            &[
                "/process/env/0: must be NAME=VALUE, got \"A\"",
                "/process/env/1: must be NAME=VALUE, got \"=x\"",
                "/process/env/2: must be NAME=VALUE, got \"\"",
                "/process/env/3: must not contain a NUL byte",
            ],
        ),
    ]);
}

#[test]
fn who_runs() {
    table(&[
        ("/process/user/umask", json!(0o777), &[]),
        (
            "/process/user/umask",
            json!(0o1000),
            &["/process/user/umask: must be at most 511 (octal 777), got 512"],
        ),
        ("/process/consoleSize", json!({ "height": 65535, "width": 0 }), &[]),
        (
            "/process/consoleSize",
            json!({ "height": 65536, "width": 70000 }),
            &[
                "/process/consoleSize/height: must be at most 65535, got 65536",
                "/process/consoleSize/width: must be at most 65535, got 70000",
            ],
        ),
        ("/process/capabilities", json!({ "bounding": ["CAP_FUTURE", "nonsense"] }), &[]),
        ("/process/oomScoreAdj", json!(-1000), &[]),
        (
            "/process/oomScoreAdj",
            json!(1001),
            &["/process/oomScoreAdj: must be between -1000 and 1000, got 1001"],
        ),
        ("/process/apparmorProfile", json!("\0"), &["/process/apparmorProfile: must not contain a NUL byte"]),
        ("/process/selinuxLabel", json!("\0"), &["/process/selinuxLabel: must not contain a NUL byte"]),
    ]);
}

#[test]
fn rlimits() {
    let names = [
        "AS",
        "CORE",
        "CPU",
        "DATA",
        "FSIZE",
        "LOCKS",
        "MEMLOCK",
        "MSGQUEUE",
        "NICE",
        "NOFILE",
        "NPROC",
        "RSS",
        "RTPRIO",
        "RTTIME",
        "SIGPENDING",
        "STACK",
    ];
    let all: Value =
        names.iter().map(|name| json!({ "type": format!("RLIMIT_{name}"), "hard": 2, "soft": 1 })).collect();
    assert_eq!(with(&[("/process/rlimits", all)]), NONE);
    let known = "must be one of RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, \
                 RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, \
                 RLIMIT_MSGQUEUE, RLIMIT_NICE, RLIMIT_RTPRIO, RLIMIT_RTTIME";
    table(&[
        (
            "/process/rlimits",
            json!([{ "type": "NOFILE", "hard": 1, "soft": 1 }]),
            &[&format!("/process/rlimits/0/type: {known}, got \"NOFILE\"")],
        ),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CPU", "hard": 1, "soft": 2 }, { "type": "RLIMIT_CPU" }]),
            &[
                "/process/rlimits/0/soft: must be at most the hard limit 1, got 2",
                "/process/rlimits/1/type: \"RLIMIT_CPU\" is listed twice",
            ],
        ),
    ]);
}

#[test]
fn scheduler() {
    let policies = "must be one of SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO, SCHED_IDLE, \
                    SCHED_DEADLINE";
    let flags = "must be one of SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN, \
                 SCHED_FLAG_KEEP_POLICY, SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, \
                 SCHED_FLAG_UTIL_CLAMP_MAX";
    let rows: &[(Value, &[&str])] = &[
        (
            json!({ "policy": "SCHED_BATCH", "nice": 19, "priority": 0, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }),
            &[],
        ),
        (json!({ "policy": "SCHED_RR", "priority": 99 }), &[]),
        (json!({ "policy": "SCHED_FIFO", "flags": ["SCHED_FLAG_KEEP_PARAMS"] }), &[]),
        (json!({ "policy": "SCHED_DEADLINE", "runtime": 1024, "deadline": 1024 }), &[]),
        (json!({ "policy": "SCHED_DEADLINE", "flags": ["SCHED_FLAG_KEEP_PARAMS"] }), &[]),
        (json!({}), &["policy: is required"]),
        (json!({ "policy": "batch" }), &[&format!("policy: {policies}, got \"batch\"")]),
        (json!({ "policy": "SCHED_OTHER", "nice": 20 }), &["nice: must be between -20 and 19, got 20"]),
        (json!({ "policy": "SCHED_FIFO" }), &["priority: must be between 1 and 99 for SCHED_FIFO, got 0"]),
        (
            json!({ "policy": "SCHED_OTHER", "priority": 1 }),
            &["priority: needs the policy SCHED_FIFO or SCHED_RR"],
        ),
        (
            json!({ "policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RECLAIM", "RECLAIM"] }),
            &[&format!("flags/1: {flags}, got \"RECLAIM\"")],
        ),
        (
            json!({ "policy": "SCHED_OTHER", "runtime": 1, "deadline": 1, "period": 1 }),
            &[
                "runtime: needs the policy SCHED_DEADLINE",
                "deadline: needs the policy SCHED_DEADLINE",
                "period: needs the policy SCHED_DEADLINE",
            ],
        ),
        (
            json!({ "policy": "SCHED_DEADLINE", "runtime": 1023 }),
            &[
                "runtime: must be at least 1024 nanoseconds, got 1023",
                "deadline: must be at least the runtime of 1023 nanoseconds, got 0",
            ],
        ),
        (
            json!({ "policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 2500 }),
            &["period: must be at least the deadline of 3000 nanoseconds, got 2500"],
        ),
    ];
    for (scheduler, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|line| format!("/process/scheduler/{line}")).collect();
        assert_eq!(with(&[("/process/scheduler", scheduler.clone())]), expected, "{scheduler}");
    }
}

#[test]
fn io_priority_and_affinity() {
    let classes = "must be one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE";
    let cpus = "must be a list of CPUs such as \"0-3,7\":";
    table(&[
        ("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_IDLE" }), &[]),
        (
            "/process/ioPriority",
            json!({ "class": "BE", "priority": 8 }),
            &[
                &format!("/process/ioPriority/class: {classes}, got \"BE\""),
                "/process/ioPriority/priority: must be between 0 and 7, got 8",
            ],
        ),
        ("/process/execCPUAffinity", json!({ "initial": "", "final": "0-3, 7" }), &[]),
        (
            "/process/execCPUAffinity",
            json!({ "initial": "3-1", "final": "all" }),
            &[
                &format!("/process/execCPUAffinity/initial: {cpus} the range \"3-1\" runs backwards"),
                &format!("/process/execCPUAffinity/final: {cpus} \"all\" is not a number"),
            ],
        ),
    ]);
}

#[test]
fn lists() {
    assert_eq!(cpu_list(" 0-3, 7,8191 ").unwrap(), [0..=3, 7..=7, 8191..=8191]);
    assert_eq!(cpu_list("").unwrap(), []);
    assert_eq!(node_list("1023").unwrap(), [1023..=1023]);
    for (text, why) in [
        (",", "\"\" is not a number"),
        ("1,", "\"\" is not a number"),
        ("-1", "\"\" is not a number"),
        ("+1", "\"+1\" is not a number"),
        ("1-2-3", "\"2-3\" is not a number"),
        ("0-9876543210", "9876543210 is more than 8191"),
        ("8192", "8192 is more than 8191"),
    ] {
        assert_eq!(cpu_list(text).unwrap_err(), why, "{text:?}");
    }
}

#[test]
fn memory_policy() {
    let modes = "must be one of MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, \
                 MPOL_PREFERRED_MANY, MPOL_WEIGHTED_INTERLEAVE";
    let flags = "must be one of MPOL_F_NUMA_BALANCING, MPOL_F_RELATIVE_NODES, MPOL_F_STATIC_NODES";
    let rows: &[(Value, &[&str])] = &[
        (json!({ "mode": "MPOL_DEFAULT" }), &[]),
        (json!({ "mode": "MPOL_PREFERRED", "nodes": "" }), &[]),
        (json!({ "mode": "MPOL_BIND", "nodes": "0-3,7", "flags": ["MPOL_F_NUMA_BALANCING"] }), &[]),
        (json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"] }), &[]),
        (json!({}), &[&format!("mode: invalid memory policy mode \"\": {modes}")]),
        (json!({ "nodes": "0-7" }), &[&format!("mode: invalid memory policy mode \"\": {modes}")]),
        (
            json!({ "mode": "BIND", "nodes": "0" }),
            &[&format!("mode: invalid memory policy mode \"BIND\": {modes}")],
        ),
        (
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES", "badflag"] }),
            &[&format!("flags/1: invalid memory policy flag \"badflag\": {flags}")],
        ),
        (
            json!({ "mode": "MPOL_DEFAULT", "nodes": "0-7" }),
            &["nodes: MPOL_DEFAULT: mode requires 0 nodes but got 8"],
        ),
        (json!({ "mode": "MPOL_BIND" }), &["nodes: MPOL_BIND: mode requires at least 1 node"]),
        (
            json!({ "mode": "MPOL_BIND", "nodes": "0-9876543210", "flags": [] }),
            &[
                "nodes: invalid memory policy node: must be a list of nodes such as \"0-3,7\": 9876543210 is more than \
               1023",
            ],
        ),
        (
            json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"] }),
            &[
                "flags/1: invalid memory policy flag: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other",
            ],
        ),
        (
            json!({ "mode": "MPOL_PREFERRED", "flags": ["MPOL_F_STATIC_NODES"] }),
            &["flags/0: invalid memory policy flag \"MPOL_F_STATIC_NODES\": needs nodes"],
        ),
        (
            json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"] }),
            &["flags/0: invalid memory policy flag \"MPOL_F_NUMA_BALANCING\": needs the mode MPOL_BIND or \
               MPOL_PREFERRED_MANY"],
        ),
    ];
    for (policy, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|line| format!("/linux/memoryPolicy/{line}")).collect();
        assert_eq!(with(&[("/linux/memoryPolicy", policy.clone())]), expected, "{policy}");
    }
}

#[test]
fn a_process_document_has_pointers_of_its_own() {
    let process: Process = parse(br#"{"args": [], "cwd": "x"}"#, "process.json").expect("it is read");
    let found: Vec<_> = process_problems(&process).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["/args: must name a program", "/cwd: must be an absolute path, got \"x\""]);
}
