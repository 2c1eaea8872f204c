//! Which rule of a profile decides about a syscall, and what happens to it: read from the same policy that
//! the compiler reads.

use std::fmt;

use nix::errno::Errno;
use seccompiler::SeccompCmpOp;

use super::abi::{self, ARM_PRIVATE, Abi, X32_BIT};
use super::policy::{Action, Condition, Policy};
use crate::error::describe;

/// Where a verdict comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A rule: its index in `linux.seccomp.syscalls`.
    Rule(usize),
    /// No rule: the default action.
    Default,
    /// The number is above the largest one that the profile names: corten answers ENOSYS, as runc does.
    UnknownSyscall,
    /// The profile does not list the ABI.
    UnknownAbi,
}

/// What happens to a syscall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub action: Action,
    pub reason: Reason,
    /// What must hold for it, as far as the arguments given leave it open. Empty: this is the answer.
    pub conditions: Vec<Condition>,
}

/// The verdicts on syscall `nr` (`seccomp_data.nr`) of `abi`, in the order in which the filter tries them;
/// the last has no conditions. An argument that is `None` is not known.
pub fn explain(policy: &Policy, abi: Abi, nr: u32, args: &[Option<u64>; 6]) -> Vec<Verdict> {
    let verdict = |action, reason| Verdict { action, reason, conditions: Vec::new() };
    let Some(table) = policy.tables.iter().find(|table| table.abi == abi) else {
        return vec![verdict(Action::UNKNOWN_ABI, Reason::UnknownAbi)];
    };
    let mut verdicts = Vec::new();
    let call = table.calls(policy).find(|call| call.nr == nr);
    for clause in call.iter().flat_map(|call| call.clauses()) {
        let clause = &policy.clauses[clause];
        let open = |condition: &&Condition| holds(condition, args, abi) != Some(true);
        if clause.conditions.iter().any(|condition| holds(condition, args, abi) == Some(false)) {
            continue;
        }
        let conditions: Vec<Condition> = clause.conditions.iter().filter(open).cloned().collect();
        let is_last = conditions.is_empty();
        verdicts.push(Verdict { action: clause.action, reason: Reason::Rule(clause.rule), conditions });
        if is_last {
            return verdicts;
        }
    }
    let is_private = abi == Abi::Arm && nr >= ARM_PRIVATE;
    verdicts.push(match table.newest {
        Some(newest) if nr > newest && !is_private => {
            verdict(Action::UNKNOWN_SYSCALL, Reason::UnknownSyscall)
        }
        _ => verdict(policy.default, Reason::Default),
    });
    verdicts
}

/// The verdicts on a syscall (a name or a number) as lines, for every ABI of the profile, or for `only`.
/// Empty: none of them has it.
pub fn lines(policy: &Policy, syscall: &str, args: &[Option<u64>; 6], only: Option<Abi>) -> Vec<String> {
    let abis = match only {
        Some(abi) => vec![abi],
        None => policy.tables.iter().map(|table| table.abi).collect(),
    };
    let calls = abis.into_iter().filter_map(|abi| Some((abi, syscall_number(abi, syscall)?)));
    calls
        .flat_map(|(abi, nr)| {
            let name = abi.syscall_name(nr).unwrap_or("unknown");
            let line = move |verdict| format!("{} {name} ({nr}): {verdict}", abi.name());
            explain(policy, abi, nr, args).into_iter().map(line)
        })
        .collect()
}

/// The number of a syscall that a user names, or gives as a decimal or hexadecimal number.
pub fn syscall_number(abi: Abi, text: &str) -> Option<u32> {
    let number: Option<u32> = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    match (number, abi) {
        (Some(number), Abi::X32) => Some(number | X32_BIT),
        (Some(number), Abi::X86_64) if number & X32_BIT != 0 => None,
        (Some(number), _) => Some(number),
        (None, _) => abi.number(abi::find(text)?),
    }
}

/// Whether `condition` holds, where that is known.
fn holds(condition: &Condition, args: &[Option<u64>; 6], abi: Abi) -> Option<bool> {
    let cut = |value: u64| if abi.is_wide() { value } else { value & u64::from(u32::MAX) };
    let (argument, value) = (cut(args[usize::from(condition.index)]?), cut(condition.value));
    Some(match condition.op {
        SeccompCmpOp::Ne => argument != value,
        SeccompCmpOp::Lt => argument < value,
        SeccompCmpOp::Le => argument <= value,
        SeccompCmpOp::Eq => argument == value,
        SeccompCmpOp::Ge => argument >= value,
        SeccompCmpOp::Gt => argument > value,
        SeccompCmpOp::MaskedEq(mask) => argument & mask == value & mask,
    })
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Condition { index, op, value } = self;
        let sign = match op {
            SeccompCmpOp::Ne => "!=",
            SeccompCmpOp::Lt => "<",
            SeccompCmpOp::Le => "<=",
            SeccompCmpOp::Eq => "==",
            SeccompCmpOp::Ge => ">=",
            SeccompCmpOp::Gt => ">",
            SeccompCmpOp::MaskedEq(mask) => {
                return write!(f, "arg{index} & {mask:#x} == {:#x}", value & mask);
            }
        };
        write!(f, "arg{index} {sign} {value:#x}")
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match *self {
            Action::Errno(errno) => {
                write!(f, " with errno {errno} ({})", describe(Errno::from_raw(i32::from(errno))))
            }
            Action::Trace(data) => write!(f, " with data {data}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule(index) => write!(f, "config.json#/linux/seccomp/syscalls/{index}"),
            Reason::Default => f.write_str("no rule: config.json#/linux/seccomp/defaultAction"),
            Reason::UnknownSyscall => {
                f.write_str("newer than every syscall in config.json#/linux/seccomp/syscalls")
            }
            Reason::UnknownAbi => f.write_str("not listed in config.json#/linux/seccomp/architectures"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.conditions.iter().enumerate() {
            write!(f, "{}{condition}", if at == 0 { "if " } else { " and " })?;
        }
        let separator = if self.conditions.is_empty() { "" } else { ": " };
        write!(f, "{separator}{} ({})", self.action, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let profile = serde_json::from_str(include_str!("testdata/docker.json")).expect("a profile");
        super::super::policy::resolve(&profile, Abi::X86_64).expect("a valid profile")
    }

    fn verdicts(abi: Abi, syscall: &str, args: &[u64]) -> Vec<String> {
        let nr = syscall_number(abi, syscall).expect("a syscall");
        let args = std::array::from_fn(|at| args.get(at).copied());
        explain(&policy(), abi, nr, &args).iter().map(Verdict::to_string).collect()
    }

    #[test]
    fn tells_of_every_architecture_that_has_the_syscall() {
        let rule = "SCMP_ACT_ALLOW (config.json#/linux/seccomp/syscalls/0)";
        assert_eq!(
            lines(&policy(), "execve", &[None; 6], None),
            [
                format!("SCMP_ARCH_X86_64 execve (59): {rule}"),
                format!("SCMP_ARCH_X86 execve (11): {rule}"),
                format!("SCMP_ARCH_X32 execve (1073742344): {rule}"),
            ]
        );
        assert_eq!(lines(&policy(), "socketcall", &[None; 6], None).len(), 1);
        assert_eq!(lines(&policy(), "riscv_hwprobe", &[None; 6], None).len(), 0);
        assert_eq!(lines(&policy(), "read", &[None; 6], Some(Abi::Arm)).len(), 1);
        let x32 = &lines(&policy(), "0x40000208", &[None; 6], None);
        assert_eq!(x32.iter().filter(|line| line.contains("execve")).count(), 1, "{x32:?}");
    }

    #[test]
    fn names_the_rule_that_decides() {
        assert_eq!(
            verdicts(Abi::X86_64, "read", &[]),
            ["SCMP_ACT_ALLOW (config.json#/linux/seccomp/syscalls/0)"]
        );
        assert_eq!(
            verdicts(Abi::X86_64, "keyctl", &[]),
            ["SCMP_ACT_ERRNO with errno 1 (operation not permitted) \
              (no rule: config.json#/linux/seccomp/defaultAction)"]
        );
        assert_eq!(
            verdicts(Abi::X86_64, "clone3", &[]),
            [
                "SCMP_ACT_ERRNO with errno 38 (function not implemented) (config.json#/linux/seccomp/syscalls/13)"
            ]
        );
        assert_eq!(
            verdicts(Abi::X86_64, "0x400", &[]),
            ["SCMP_ACT_ERRNO with errno 38 (function not implemented) \
              (newer than every syscall in config.json#/linux/seccomp/syscalls)"]
        );
        assert_eq!(
            verdicts(Abi::Arm, "read", &[]),
            ["SCMP_ACT_KILL_THREAD (not listed in config.json#/linux/seccomp/architectures)"]
        );
    }

    #[test]
    fn lists_what_an_unknown_argument_leaves_open() {
        assert_eq!(
            verdicts(Abi::X86_64, "clone", &[]),
            [
                "if arg0 & 0x7e020000 == 0x0: SCMP_ACT_ALLOW (config.json#/linux/seccomp/syscalls/12)",
                "SCMP_ACT_ERRNO with errno 1 (operation not permitted) \
                 (no rule: config.json#/linux/seccomp/defaultAction)",
            ]
        );
        assert_eq!(
            verdicts(Abi::X86_64, "clone", &[0x11]),
            ["SCMP_ACT_ALLOW (config.json#/linux/seccomp/syscalls/12)"]
        );
        assert_eq!(verdicts(Abi::X86_64, "clone", &[0x1000_0000]).len(), 1);
        // The low half decides on i386, the whole argument on x86_64.
        assert!(verdicts(Abi::I386, "personality", &[0x1_0000_0008])[0].starts_with("SCMP_ACT_ALLOW"));
        assert!(verdicts(Abi::X86_64, "personality", &[0x1_0000_0008])[0].starts_with("SCMP_ACT_ERRNO"));
    }
}
