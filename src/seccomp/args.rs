//! The part of a program that looks at a syscall's arguments. seccompiler generates the comparisons.

use seccompiler::{BackendError, BpfProgram, SeccompCmpArgLen, SeccompCondition, SeccompRule, sock_filter};

use super::policy::{Clause, Policy};

/// BPF_RET | BPF_K of linux/filter.h.
const RET: u16 = 0x06;

/// Returns `value` from the filter.
pub fn ret(value: u32) -> sock_filter {
    sock_filter { code: RET, jt: 0, jf: 0, k: value }
}

/// Tests `clauses` in order and returns the action of the first that holds, else the default one. The
/// code stands for itself: it ends in a return and jumps nowhere else. `wide`: 64-bit comparisons.
pub fn body(policy: &Policy, clauses: impl Iterator<Item = usize>, wide: bool) -> Vec<sock_filter> {
    let mut code = Vec::with_capacity(32);
    for clause in clauses {
        let clause = &policy.clauses[clause];
        // A rule of valid conditions always compiles: resolve() refuses an index above 5.
        if let Ok(test) = test(clause, wide) {
            code.extend(test);
        }
        code.push(ret(clause.action.value()));
    }
    code.push(ret(policy.default.value()));
    code
}

/// Falls through where the clause holds, and skips one instruction where it does not.
fn test(clause: &Clause, wide: bool) -> Result<impl Iterator<Item = sock_filter>, BackendError> {
    let conditions = clause.conditions.iter().map(|condition| {
        let (length, value) = match wide {
            true => (SeccompCmpArgLen::Qword, condition.value),
            false => (SeccompCmpArgLen::Dword, condition.value & u64::from(u32::MAX)),
        };
        SeccompCondition::new(condition.index, length, condition.op.clone(), value)
    });
    let program = BpfProgram::from(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
    // The first two instructions link the rules of seccompiler's own filters. The second is never reached
    // here and would point past the end of the program, which the kernel refuses.
    Ok(program.into_iter().skip(2))
}
