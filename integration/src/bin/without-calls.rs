//! Runs a command on a kernel that lacks system calls, or in a sandbox that forbids them.
//!
//! `corten-without-calls ERRNO NAME[,NAME...] COMMAND [ARGUMENT...]`: a seccomp filter answers every one
//! of the named calls with ERRNO ("ENOSYS": an older kernel; "EPERM": an older sandbox), in the command
//! and in all it starts.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// The calls that are younger than Linux 4.19, and which of them a runtime might want.
const CALLS: [(&str, i64); 12] = [
    ("close_range", libc::SYS_close_range),
    ("faccessat2", libc::SYS_faccessat2),
    ("fchmodat2", libc::SYS_fchmodat2),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("openat2", libc::SYS_openat2),
    ("bpf", libc::SYS_bpf),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [errno, names, program, rest @ ..] = args.as_slice() else {
        eprintln!("usage: corten-without-calls ERRNO NAME[,NAME...] COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    match filter(errno, names) {
        Ok(filter) => {
            if let Err(cause) = apply_filter(&filter) {
                eprintln!("cannot load the filter: {cause}");
                return ExitCode::from(2);
            }
            let cause = Command::new(program).args(rest).exec();
            eprintln!("cannot execute {program}: {cause}");
        }
        Err(reason) => eprintln!("{reason}"),
    }
    ExitCode::from(2)
}

fn filter(errno: &str, names: &str) -> Result<BpfProgram, String> {
    let errno = match errno {
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        other => return Err(format!("{other} is neither ENOSYS nor EPERM")),
    };
    let mut rules = BTreeMap::new();
    for name in names.split(',') {
        let call = CALLS.iter().find(|(known, _)| *known == name);
        let (_, number) = call.ok_or_else(|| format!("the call {name} is not known here"))?;
        rules.insert(*number, Vec::new());
    }
    let here = std::env::consts::ARCH.try_into().map_err(|cause| format!("{cause}"))?;
    let answer = SeccompAction::Errno(errno as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, answer, here)
        .and_then(BpfProgram::try_from)
        .map_err(|cause| format!("cannot make the filter: {cause}"))
}
