//! `linux.seccomp` as a classic BPF program for seccomp(2).
//!
//! A profile is resolved into a [`policy`], and a policy is compiled into a program. Both are pure: no I/O,
//! and the same profile gives the same program. Loading it is the business of the container's init.
//!
//! Specification: <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp>;
//! kernel: seccomp(2), Documentation/userspace-api/seccomp_filter.rst.

pub mod abi;
mod args;
pub mod compile;
pub mod explain;
pub mod features;
pub mod policy;
pub mod record;
mod syscalls;

pub use abi::Abi;
use seccompiler::BpfProgram;

use crate::spec::{self, Problem};

/// What the container's init loads, and what follows from it.
#[derive(Debug)]
pub struct Filter {
    /// 1 to 4096 instructions.
    pub program: BpfProgram,
    /// `SECCOMP_FILTER_FLAG_*` for seccomp(2). With NEW_LISTENER in it, the call returns a descriptor.
    pub flags: u32,
    /// Who gets that descriptor; set if and only if a rule has SCMP_ACT_NOTIFY.
    pub listener: Option<Listener>,
    /// Lines for the log: what the profile asks for that is ignored, and the flags.
    pub notes: Vec<String>,
}

/// The seccomp agent: `listenerPath` and `listenerMetadata`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// A unix socket that takes the container process state, and the notify descriptor with it.
    pub path: String,
    /// Goes into that state as `metadata`; empty if absent.
    pub metadata: String,
}

/// Compiles `profile` for a kernel whose own ABI is `native`.
///
/// # Errors
///
/// Everything that violates the specification, or that the kernel would refuse; pointers are relative to
/// `/linux/seccomp`.
pub fn filter(profile: &spec::Seccomp, native: Abi) -> Result<Filter, Vec<Problem>> {
    let mut policy = policy::resolve(profile, native)?;
    let program = compile::compile(&policy);
    if program.len() > compile::MAX_LEN {
        let message = format!(
            "compiles to {} BPF instructions, the kernel takes at most {}",
            program.len(),
            compile::MAX_LEN
        );
        return Err(vec![Problem { pointer: "/syscalls".to_owned(), message }]);
    }
    let mut notes = std::mem::take(&mut policy.notes);
    notes.push(format!("seccomp filter flags: {}", policy.flags));
    let notifies = policy.flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 != 0;
    let listener = notifies.then(|| Listener {
        path: profile.listener_path.clone().unwrap_or_default(),
        metadata: profile.listener_metadata.clone().unwrap_or_default(),
    });
    Ok(Filter { program, flags: policy.flags, listener, notes })
}
