//! The rules for `process`, whose pointers are relative to it.

use super::{Report, list, one_of, scheduling};
use crate::spec::{ConsoleSize, CpuAffinity, Process, Rlimit};

/// The resource limits of getrlimit(2), each in the place of its number.
pub const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

pub(super) fn check(process: &Process, report: &mut Report) {
    if let Some(size) = process.console_size {
        console_size(size, report);
    }
    if let Some(umask) = process.user.umask.filter(|umask| *umask > 0o777) {
        report.add("/user/umask", format_args!("must be at most 511 (octal 777), got {umask}"));
    }
    args(process.args.as_deref().unwrap_or_default(), report);
    report.variables("/env", process.env.as_deref().unwrap_or_default());
    report.absolute("/cwd", &process.cwd);
    rlimits(process.rlimits.as_deref().unwrap_or_default(), report);
    if let Some(profile) = &process.apparmor_profile {
        report.text("/apparmorProfile", profile);
    }
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        report.add("/oomScoreAdj", format_args!("must be between -1000 and 1000, got {score}"));
    }
    if let Some(scheduler) = &process.scheduler {
        scheduling::scheduler(scheduler, report);
    }
    if let Some(label) = &process.selinux_label {
        report.text("/selinuxLabel", label);
    }
    if let Some(priority) = &process.io_priority {
        scheduling::io_priority(priority, report);
    }
    if let Some(affinity) = &process.exec_cpu_affinity {
        cpu_affinity(affinity, report);
    }
}

/// struct winsize (ioctl_tty(2)) holds 16 bits for each.
fn console_size(size: ConsoleSize, report: &mut Report) {
    for (pointer, cells) in [("/consoleSize/height", size.height), ("/consoleSize/width", size.width)] {
        if cells > u64::from(u16::MAX) {
            report.add(pointer, format_args!("must be at most 65535, got {cells}"));
        }
    }
}

fn args(args: &[String], report: &mut Report) {
    match args.first() {
        None => report.add("/args", "must name a program"),
        Some(program) if program.is_empty() => report.add("/args/0", "must not be empty"),
        Some(_) => {}
    }
    for (i, arg) in args.iter().enumerate() {
        report.text(format_args!("/args/{i}"), arg);
    }
}

fn rlimits(rlimits: &[Rlimit], report: &mut Report) {
    for (i, rlimit) in rlimits.iter().enumerate() {
        let kind = rlimit.kind.as_str();
        if !RLIMITS.contains(&kind) {
            report.add(format_args!("/rlimits/{i}/type"), format_args!("{}, got {kind:?}", one_of(&RLIMITS)));
        } else if rlimits[..i].iter().any(|earlier| earlier.kind == kind) {
            report.add(format_args!("/rlimits/{i}/type"), format_args!("{kind:?} is listed twice"));
        }
        if rlimit.soft > rlimit.hard {
            report.add(
                format_args!("/rlimits/{i}/soft"),
                format_args!("must be at most the hard limit {}, got {}", rlimit.hard, rlimit.soft),
            );
        }
    }
}

fn cpu_affinity(affinity: &CpuAffinity, report: &mut Report) {
    let lists = [("initial", &affinity.initial), ("final", &affinity.last)];
    for (name, cpus) in lists {
        if let Err(why) = list::cpu_list(cpus.as_deref().unwrap_or_default()) {
            report.add(
                format_args!("/execCPUAffinity/{name}"),
                format_args!("must be a list of CPUs such as \"0-3,7\": {why}"),
            );
        }
    }
}
