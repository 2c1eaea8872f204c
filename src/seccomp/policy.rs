//! The profile with every name resolved: what to do for each syscall of each ABI. The compiler and
//! `explain` both read this, so that they cannot disagree about which rule decides.
//!
//! How the rules of one syscall combine:
//! - a rule whose action is the default one is skipped;
//! - the first unconditional rule wins; without one, the conditional rules apply in the profile's order;
//! - a rule that tests one argument twice is several rules, one per test (so does runc);
//! - on i386 a rule for a call that socketcall(2) or ipc(2) multiplexes counts for these too, where the
//!   selector takes the place of the first argument (so does libseccomp).
//!
//! A syscall above the largest one the profile names is unknown to its author: it gets ENOSYS, which lets
//! newer C libraries fall back, unless the default action lets syscalls through (so does runc).

use seccompiler::{SeccompAction, SeccompCmpOp};

use super::abi::{ARM_PRIVATE, Abi, Lookup};
use crate::spec::{self, Problem};

/// What the kernel does with a syscall: `SECCOMP_RET_*` of seccomp(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Errno(u16),
    KillProcess,
    KillThread,
    Log,
    Notify,
    Trace(u16),
    Trap,
}

impl Action {
    /// The answer for a syscall that the profile's author could not know.
    pub const UNKNOWN_SYSCALL: Action = Action::Errno(libc::ENOSYS as u16);
    /// The answer for an ABI that the profile does not list, as libseccomp's.
    pub const UNKNOWN_ABI: Action = Action::KillThread;

    /// The value a filter returns.
    pub fn value(self) -> u32 {
        match self {
            Action::Allow => SeccompAction::Allow.into(),
            Action::Errno(errno) => SeccompAction::Errno(errno.into()).into(),
            Action::KillProcess => SeccompAction::KillProcess.into(),
            Action::KillThread => SeccompAction::KillThread.into(),
            Action::Log => SeccompAction::Log.into(),
            Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
            Action::Trace(data) => SeccompAction::Trace(data.into()).into(),
            Action::Trap => SeccompAction::Trap.into(),
        }
    }

    /// The name in a profile.
    pub fn name(self) -> &'static str {
        match self {
            Action::Allow => "SCMP_ACT_ALLOW",
            Action::Errno(_) => "SCMP_ACT_ERRNO",
            Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
            Action::KillThread => "SCMP_ACT_KILL_THREAD",
            Action::Log => "SCMP_ACT_LOG",
            Action::Notify => "SCMP_ACT_NOTIFY",
            Action::Trace(_) => "SCMP_ACT_TRACE",
            Action::Trap => "SCMP_ACT_TRAP",
        }
    }

    /// Whether a syscall of an unknown number is better left to the kernel, or to the tracer.
    fn lets_through(self) -> bool {
        matches!(self, Action::Allow | Action::Log | Action::Trace(_))
    }
}

/// One test of one argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub index: u8,
    pub op: SeccompCmpOp,
    /// What the argument, masked where `op` says so, is compared with.
    pub value: u64,
}

/// Tests that must all hold, and the rule they belong to.
#[derive(Debug)]
pub struct Clause {
    /// Index into the profile's `syscalls`.
    pub rule: usize,
    pub action: Action,
    /// Empty: it always holds.
    pub conditions: Vec<Condition>,
}

/// What happens to one syscall: the clauses in order, then the default action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    pub nr: u32,
    /// Indices into [`Policy::clauses`], each in the low half; never empty.
    clauses: &'a [u64],
}

impl<'a> Call<'a> {
    /// Indices into [`Policy::clauses`], in the order in which they are tried.
    pub fn clauses(self) -> impl ExactSizeIterator<Item = usize> + Clone + 'a {
        self.clauses.iter().map(|entry| *entry as u32 as usize)
    }
}

/// One ABI's part of the profile.
#[derive(Debug)]
pub struct Table {
    pub abi: Abi,
    /// The syscall number in the high half, a clause's index in the low half; sorted.
    entries: Vec<u64>,
    /// Syscalls above this number are unknown to the profile; `None`: it leaves them to the default.
    pub newest: Option<u32>,
}

impl Table {
    /// The syscalls that a rule speaks of, by number.
    pub fn calls<'a>(&'a self, policy: &'a Policy) -> impl Iterator<Item = Call<'a>> {
        self.entries.chunk_by(|a, b| a >> 32 == b >> 32).map(|entries| Call {
            nr: (entries[0] >> 32) as u32,
            clauses: match entries.iter().position(|entry| policy.is_unconditional(*entry)) {
                Some(first) => &entries[first..=first],
                None => entries,
            },
        })
    }
}

/// A resolved profile.
#[derive(Debug)]
pub struct Policy {
    pub default: Action,
    /// In the profile's order.
    pub clauses: Vec<Clause>,
    /// In the order of [`Abi`].
    pub tables: Vec<Table>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// For the log.
    pub notes: Vec<String>,
}

impl Policy {
    fn is_unconditional(&self, entry: u64) -> bool {
        self.clauses[entry as u32 as usize].conditions.is_empty()
    }
}

/// The architectures of the specification that corten has no syscall table for, and no build.
const FOREIGN: [&str; 18] = [
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_SPARC64",
];

/// Resolves `profile` for a kernel whose own ABI is `native`.
///
/// # Errors
///
/// Everything in the profile that violates the specification; pointers are relative to `/linux/seccomp`.
pub fn resolve(profile: &spec::Seccomp, native: Abi) -> Result<Policy, Vec<Problem>> {
    let mut resolver = Resolver { problems: Vec::new(), notes: Vec::new() };
    let default = resolver.action(&profile.default_action, profile.default_errno_ret, "default", "");
    let tables = resolver.tables(profile.architectures.as_deref().unwrap_or_default(), native);
    let flags = resolver.flags(profile);
    let syscalls = profile.syscalls.as_deref().unwrap_or_default();
    let mut policy = Policy {
        default: default.unwrap_or(Action::KillThread),
        clauses: Vec::new(),
        tables,
        flags,
        notes: Vec::new(),
    };
    let mut lookup = Lookup::default();
    for (index, syscall) in syscalls.iter().enumerate() {
        resolver.rule(&mut policy, &mut lookup, index, syscall);
    }
    let notifies = syscalls.iter().any(|syscall| syscall.action == "SCMP_ACT_NOTIFY");
    resolver.listener(profile, &mut policy, notifies);
    if !resolver.problems.is_empty() {
        return Err(resolver.problems);
    }
    for table in &mut policy.tables {
        table.entries.sort_unstable();
        // runc takes syscall 0 for "none at all": a profile that names only that one has no author's horizon.
        table.newest = table.newest.filter(|newest| *newest != 0 && !policy.default.lets_through());
    }
    policy.notes = resolver.notes;
    Ok(policy)
}

struct Resolver {
    problems: Vec<Problem>,
    notes: Vec<String>,
}

impl Resolver {
    fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { pointer: pointer.into(), message: message.into() });
    }

    /// `prefix` and `parent` give the pointers of the action and of its errnoRet.
    fn action(&mut self, name: &str, errno: Option<u32>, prefix: &str, parent: &str) -> Option<Action> {
        let at = |member: &str| {
            let (first, rest) = member.split_at(1);
            let first = if prefix.is_empty() { first.to_owned() } else { first.to_uppercase() };
            format!("{parent}/{prefix}{first}{rest}")
        };
        let data = errno.unwrap_or(libc::EPERM as u32) as u16;
        let (action, most) = match name {
            "SCMP_ACT_ALLOW" => (Action::Allow, None),
            // The kernel caps the value it makes an error of; a larger one is not an errno.
            "SCMP_ACT_ERRNO" => (Action::Errno(data), Some(4095)),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => (Action::KillThread, None),
            "SCMP_ACT_KILL_PROCESS" => (Action::KillProcess, None),
            "SCMP_ACT_LOG" => (Action::Log, None),
            "SCMP_ACT_NOTIFY" => (Action::Notify, None),
            "SCMP_ACT_TRACE" => (Action::Trace(data), Some(u32::from(u16::MAX))),
            "SCMP_ACT_TRAP" => (Action::Trap, None),
            "" => {
                self.problem(at("action"), "is required");
                return None;
            }
            _ => {
                self.problem(at("action"), format!("{name:?} is not a seccomp action"));
                return None;
            }
        };
        match (errno, most) {
            (Some(_), None) => self.problem(at("errnoRet"), format!("{name} takes no errno")),
            (Some(errno), Some(most)) if errno > most => {
                self.problem(at("errnoRet"), format!("must be at most {most}, got {errno}"));
            }
            _ => {}
        }
        Some(action)
    }

    fn tables(&mut self, architectures: &[String], native: Abi) -> Vec<Table> {
        let mut abis = vec![native];
        for (index, name) in architectures.iter().enumerate() {
            match Abi::from_name(name) {
                Some(abi) => abis.push(abi),
                None if FOREIGN.contains(&name.as_str()) => {
                    self.notes
                        .push(format!("seccomp architecture {name} does not occur on this machine: ignored"));
                }
                None => {
                    let pointer = format!("/architectures/{index}");
                    self.problem(pointer, format!("{name:?} is not a seccomp architecture"));
                }
            }
        }
        abis.sort_unstable();
        abis.dedup();
        abis.into_iter().map(|abi| Table { abi, entries: Vec::with_capacity(512), newest: None }).collect()
    }

    fn flags(&mut self, profile: &spec::Seccomp) -> u32 {
        let Some(flags) = &profile.flags else {
            return libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
        };
        let mut bits = 0;
        for (index, name) in flags.iter().enumerate() {
            bits |= match name.as_str() {
                // One thread is all there is when the filter is loaded.
                "SECCOMP_FILTER_FLAG_TSYNC" => 0,
                "SECCOMP_FILTER_FLAG_LOG" => libc::SECCOMP_FILTER_FLAG_LOG as u32,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
                    libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32
                }
                _ => {
                    self.problem(format!("/flags/{index}"), format!("{name:?} is not a seccomp flag"));
                    0
                }
            };
        }
        bits
    }

    fn listener(&mut self, profile: &spec::Seccomp, policy: &mut Policy, notifies: bool) {
        if policy.default == Action::Notify {
            self.problem("/defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action");
        }
        let has_path = profile.listener_path.as_deref().is_some_and(|path| !path.is_empty());
        if profile.listener_metadata.as_deref().is_some_and(|data| !data.is_empty()) && !has_path {
            self.problem("/listenerMetadata", "must not be set without listenerPath");
        }
        if notifies {
            policy.flags |= libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
            if !has_path {
                self.problem("/listenerPath", "SCMP_ACT_NOTIFY needs it");
            }
        } else if policy.flags & libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32 != 0 {
            self.problem(
                "/flags",
                "error adding WaitKill flag to seccomp filter: SetWaitKill requires a rule with SCMP_ACT_NOTIFY",
            );
        }
    }

    fn rule(&mut self, policy: &mut Policy, lookup: &mut Lookup, index: usize, syscall: &spec::Syscall) {
        let pointer = format!("/syscalls/{index}");
        let action = self.action(&syscall.action, syscall.errno_ret, "", &pointer);
        let conditions = self.conditions(syscall.args.as_deref().unwrap_or_default(), &pointer);
        if syscall.names.is_empty() {
            self.problem(format!("{pointer}/names"), "must name at least one syscall");
        }
        let Some(action) = action else { return };

        let first = policy.clauses.len();
        if action != policy.default {
            let split = conditions
                .iter()
                .enumerate()
                .any(|(at, c)| conditions[..at].iter().any(|d| d.index == c.index));
            match split {
                true => policy.clauses.extend(conditions.into_iter().map(|only| Clause {
                    rule: index,
                    action,
                    conditions: vec![only],
                })),
                false => policy.clauses.push(Clause { rule: index, action, conditions }),
            }
        }
        let direct = first..policy.clauses.len();

        for (at, name) in syscall.names.iter().enumerate() {
            if action == Action::Notify && matches!(name.as_str(), "write" | "sendmsg") {
                // The container's init would wait for an agent that has not got its descriptor yet: it is
                // handed over by sendmsg(2). Engines know the rule for write(2).
                let message = format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall");
                self.problem(format!("{pointer}/names/{at}"), message);
            }
            let Some(entry) = lookup.find(name) else {
                match name.is_empty() {
                    true => self.problem(format!("{pointer}/names/{at}"), "must not be empty"),
                    false => self.notes.push(format!("unknown seccomp syscall {name:?} ignored")),
                }
                continue;
            };
            for table in &mut policy.tables {
                if let Some(nr) = table.abi.number(entry) {
                    if table.abi != Abi::Arm || nr < ARM_PRIVATE {
                        table.newest = table.newest.max(Some(nr));
                    }
                    table.entries.extend(direct.clone().map(|clause| u64::from(nr) << 32 | clause as u64));
                }
                if let Some((nr, selector)) = table.abi.multiplexer(entry) {
                    table.newest = table.newest.max(Some(nr));
                    for clause in direct.clone() {
                        let clause = multiplexed(&policy.clauses[clause], selector);
                        table.entries.push(u64::from(nr) << 32 | policy.clauses.len() as u64);
                        policy.clauses.push(clause);
                    }
                }
            }
        }
    }

    fn conditions(&mut self, args: &[spec::SyscallArg], parent: &str) -> Vec<Condition> {
        let mut conditions = Vec::with_capacity(args.len());
        for (at, arg) in args.iter().enumerate() {
            let (op, value) = match arg.op.as_str() {
                "SCMP_CMP_NE" => (SeccompCmpOp::Ne, arg.value),
                "SCMP_CMP_LT" => (SeccompCmpOp::Lt, arg.value),
                "SCMP_CMP_LE" => (SeccompCmpOp::Le, arg.value),
                "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, arg.value),
                "SCMP_CMP_GE" => (SeccompCmpOp::Ge, arg.value),
                "SCMP_CMP_GT" => (SeccompCmpOp::Gt, arg.value),
                "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(arg.value), arg.value_two),
                other => {
                    let pointer = format!("{parent}/args/{at}/op");
                    self.problem(pointer, format!("{other:?} is not a seccomp comparison"));
                    continue;
                }
            };
            match u8::try_from(arg.index) {
                Ok(index @ 0..=5) => conditions.push(Condition { index, op, value }),
                _ => {
                    let pointer = format!("{parent}/args/{at}/index");
                    self.problem(pointer, format!("must be at most 5, got {}", arg.index));
                }
            }
        }
        conditions
    }
}

/// `clause` as it counts for a multiplexing call.
fn multiplexed(clause: &Clause, selector: u64) -> Clause {
    let mut conditions = vec![Condition { index: 0, op: SeccompCmpOp::Eq, value: selector }];
    conditions.extend(clause.conditions.iter().filter(|condition| condition.index != 0).cloned());
    Clause { rule: clause.rule, action: clause.action, conditions }
}
