//! The `linux.seccomp` part of the `features` document.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/features-linux.md#seccomp>

use serde::Serialize;

use super::abi::Abi;

/// What a profile may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Always true: there is no build without it.
    pub enabled: bool,
    pub actions: Vec<&'static str>,
    pub operators: Vec<&'static str>,
    pub archs: Vec<&'static str>,
    pub known_flags: Vec<&'static str>,
    /// Those of `known_flags` that this kernel takes.
    pub supported_flags: Vec<&'static str>,
}

/// The flags of a profile, and what they are to the kernel.
const FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
    // Linux 5.19; it goes with a listener only.
    (
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
        libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
    ),
];

/// `knows_flags` tells whether this kernel takes the given `SECCOMP_FILTER_FLAG_*` together.
pub fn features(knows_flags: impl Fn(u32) -> bool) -> Features {
    let mut archs = Abi::ALL.map(Abi::name).to_vec();
    archs.sort_unstable();
    Features {
        enabled: true,
        actions: vec![
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ],
        operators: vec![
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ],
        archs,
        known_flags: FLAGS.iter().map(|(name, _)| *name).collect(),
        supported_flags: FLAGS
            .iter()
            .filter(|(_, bits)| knows_flags(*bits as u32))
            .map(|(name, _)| *name)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::filter;
    use crate::spec::{Seccomp, Syscall, SyscallArg};

    /// A profile that uses the four words.
    fn problems(action: &str, op: &str, arch: &str, flag: &str) -> usize {
        let args = vec![SyscallArg { op: op.to_owned(), ..SyscallArg::default() }];
        let rule = Syscall {
            names: vec!["mkdir".into()],
            action: action.to_owned(),
            args: Some(args),
            errno_ret: None,
        };
        let notify =
            Syscall { names: vec!["rmdir".into()], action: "SCMP_ACT_NOTIFY".into(), ..Syscall::default() };
        let profile = Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            architectures: Some(vec![arch.to_owned()]),
            flags: Some(vec![flag.to_owned()]),
            listener_path: Some("/run/agent".into()),
            syscalls: Some(vec![rule, notify]),
            ..Seccomp::default()
        };
        filter(&profile, Abi::NATIVE).map_or_else(|problems| problems.len(), |_| 0)
    }

    #[test]
    fn what_it_lists_is_accepted_and_nothing_else() {
        let all = features(|_| true);
        for action in &all.actions {
            assert_eq!(
                problems(action, "SCMP_CMP_EQ", "SCMP_ARCH_ARM", "SECCOMP_FILTER_FLAG_LOG"),
                0,
                "{action}"
            );
        }
        for op in &all.operators {
            assert_eq!(problems("SCMP_ACT_LOG", op, "SCMP_ARCH_ARM", "SECCOMP_FILTER_FLAG_LOG"), 0, "{op}");
        }
        for arch in &all.archs {
            assert_eq!(problems("SCMP_ACT_LOG", "SCMP_CMP_EQ", arch, "SECCOMP_FILTER_FLAG_LOG"), 0, "{arch}");
        }
        for flag in &all.known_flags {
            assert_eq!(problems("SCMP_ACT_LOG", "SCMP_CMP_EQ", "SCMP_ARCH_ARM", flag), 0, "{flag}");
        }
        assert_eq!(problems("SCMP_ACT_X", "SCMP_CMP_X", "SCMP_ARCH_X", "SECCOMP_FILTER_FLAG_X"), 4);
    }

    #[test]
    fn supported_is_what_the_kernel_takes() {
        assert_eq!(features(|_| true).supported_flags, features(|_| true).known_flags);
        assert!(features(|_| false).supported_flags.is_empty());
        // Every flag but the last is older than the oldest kernel corten runs on.
        let here = features(corten_init::sys::seccomp::knows_flags).supported_flags;
        assert_eq!(here[..3], features(|_| true).known_flags[..3]);
        assert!(!corten_init::sys::seccomp::knows_flags(1 << 31));
    }
}
