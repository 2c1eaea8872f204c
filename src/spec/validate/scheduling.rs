//! The rules for what sched_setattr(2), ioprio_set(2) and set_mempolicy(2) are given.

use super::{Report, list, one_of};
use crate::spec::{IoPriority, MemoryPolicy, Scheduler};

const POLICIES: [&str; 7] =
    ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];

const FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

pub(super) fn scheduler(scheduler: &Scheduler, report: &mut Report) {
    let policy = scheduler.policy.as_str();
    if policy.is_empty() {
        report.add("/scheduler/policy", "is required");
    } else if !POLICIES.contains(&policy) {
        report.add("/scheduler/policy", format_args!("{}, got {policy:?}", one_of(&POLICIES)));
    }
    if let Some(nice) = scheduler.nice.filter(|nice| !(-20..=19).contains(nice)) {
        report.add("/scheduler/nice", format_args!("must be between -20 and 19, got {nice}"));
    }
    let flags = scheduler.flags.as_deref().unwrap_or_default();
    let keeps = flags.iter().any(|flag| flag == "SCHED_FLAG_KEEP_PARAMS");
    priority(policy, scheduler.priority.unwrap_or_default(), keeps, report);
    for (i, flag) in flags.iter().enumerate() {
        if !FLAGS.contains(&flag.as_str()) {
            report
                .add(format_args!("/scheduler/flags/{i}"), format_args!("{}, got {flag:?}", one_of(&FLAGS)));
        }
    }
    deadline(scheduler, keeps, report);
}

/// `keeps`: the process keeps the priority that it has.
fn priority(policy: &str, priority: i32, keeps: bool, report: &mut Report) {
    if policy == "SCHED_FIFO" || policy == "SCHED_RR" {
        let kept = keeps && priority == 0;
        if !kept && !(1..=99).contains(&priority) {
            report.add(
                "/scheduler/priority",
                format_args!("must be between 1 and 99 for {policy}, got {priority}"),
            );
        }
    } else if priority != 0 {
        report.add("/scheduler/priority", "needs the policy SCHED_FIFO or SCHED_RR");
    }
}

/// sched(7): the kernel wants 1024 ns <= runtime <= deadline <= period, where a period of 0 stands
/// for the deadline.
fn deadline(scheduler: &Scheduler, keeps: bool, report: &mut Report) {
    let times = [
        ("runtime", scheduler.runtime.unwrap_or_default()),
        ("deadline", scheduler.deadline.unwrap_or_default()),
        ("period", scheduler.period.unwrap_or_default()),
    ];
    if scheduler.policy != "SCHED_DEADLINE" {
        for (name, _) in times.iter().filter(|(_, time)| *time != 0) {
            report.add(format_args!("/scheduler/{name}"), "needs the policy SCHED_DEADLINE");
        }
        return;
    }
    let [(_, runtime), (_, deadline), (_, period)] = times;
    if keeps && runtime == 0 && deadline == 0 && period == 0 {
        return;
    }
    if runtime < 1024 {
        report.add("/scheduler/runtime", format_args!("must be at least 1024 nanoseconds, got {runtime}"));
    }
    if deadline < runtime || deadline == 0 {
        report.add(
            "/scheduler/deadline",
            format_args!("must be at least the runtime of {runtime} nanoseconds, got {deadline}"),
        );
    }
    if period != 0 && period < deadline {
        report.add(
            "/scheduler/period",
            format_args!("must be at least the deadline of {deadline} nanoseconds, got {period}"),
        );
    }
}

pub(super) fn io_priority(priority: &IoPriority, report: &mut Report) {
    const CLASSES: [&str; 3] = ["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];
    if !CLASSES.contains(&priority.class.as_str()) {
        report.add("/ioPriority/class", format_args!("{}, got {:?}", one_of(&CLASSES), priority.class));
    }
    if !(0..=7).contains(&priority.priority) {
        report
            .add("/ioPriority/priority", format_args!("must be between 0 and 7, got {}", priority.priority));
    }
}

/// `linux.memoryPolicy.mode`.
pub const MEMORY_POLICY_MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// `linux.memoryPolicy.flags`.
pub const MEMORY_POLICY_FLAGS: [&str; 3] =
    ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// The words up to the first colon are runc's: scripts look for them.
pub(super) fn memory_policy(policy: &MemoryPolicy, report: &mut Report) {
    let mode = policy.mode.as_str();
    let known = MEMORY_POLICY_MODES.contains(&mode);
    if !known {
        report.add(
            "/linux/memoryPolicy/mode",
            format_args!("invalid memory policy mode {mode:?}: {}", one_of(&MEMORY_POLICY_MODES)),
        );
    }
    let flags = policy.flags.as_deref().unwrap_or_default();
    for (i, flag) in flags.iter().enumerate() {
        if !MEMORY_POLICY_FLAGS.contains(&flag.as_str()) {
            report.add(
                format_args!("/linux/memoryPolicy/flags/{i}"),
                format_args!("invalid memory policy flag {flag:?}: {}", one_of(&MEMORY_POLICY_FLAGS)),
            );
        }
    }
    match list::node_list(policy.nodes.as_deref().unwrap_or_default()) {
        Err(why) => report.add(
            "/linux/memoryPolicy/nodes",
            format_args!("invalid memory policy node: must be a list of nodes such as \"0-3,7\": {why}"),
        ),
        Ok(ranges) if known => {
            let nodes: u64 = ranges.iter().map(|range| u64::from(range.end() - range.start()) + 1).sum();
            fits(mode, nodes, flags, report);
        }
        Ok(_) => {}
    }
}

/// What the kernel's mpol_new() and sanitize_mpol_flags() would answer with EINVAL.
fn fits(mode: &str, nodes: u64, flags: &[String], report: &mut Report) {
    let flag = |name: &str| flags.iter().position(|flag| flag == name);
    let (fixed, relative) = (flag("MPOL_F_STATIC_NODES"), flag("MPOL_F_RELATIVE_NODES"));
    if nodes > 0 && matches!(mode, "MPOL_DEFAULT" | "MPOL_LOCAL") {
        report
            .add("/linux/memoryPolicy/nodes", format_args!("{mode}: mode requires 0 nodes but got {nodes}"));
    }
    if nodes == 0 && !matches!(mode, "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED") {
        report.add("/linux/memoryPolicy/nodes", format_args!("{mode}: mode requires at least 1 node"));
    }
    if let (Some(one), Some(other)) = (fixed, relative) {
        report.add(
            format_args!("/linux/memoryPolicy/flags/{}", one.max(other)),
            "invalid memory policy flag: MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other",
        );
    } else if let Some(i) = fixed.or(relative)
        && nodes == 0
        && matches!(mode, "MPOL_LOCAL" | "MPOL_PREFERRED")
    {
        report.add(
            format_args!("/linux/memoryPolicy/flags/{i}"),
            format_args!("invalid memory policy flag {:?}: needs nodes", flags[i]),
        );
    }
    if let Some(i) = flag("MPOL_F_NUMA_BALANCING")
        && !matches!(mode, "MPOL_BIND" | "MPOL_PREFERRED_MANY")
    {
        report.add(
            format_args!("/linux/memoryPolicy/flags/{i}"),
            "invalid memory policy flag \"MPOL_F_NUMA_BALANCING\": needs the mode MPOL_BIND or MPOL_PREFERRED_MANY",
        );
    }
}
