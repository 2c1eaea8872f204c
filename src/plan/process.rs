//! What the process is when its program starts: the same for the container's own and for `exec`.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::str::FromStr;

use corten_init::program::{Op, Sync};
use corten_init::sys::SchedAttr;

use super::{Builder, InitHook, Limit, NOTIFY_DIRECTORY, NOTIFY_SOCKET, Origin, labels};
use crate::error::{Kind, Result};
use crate::host::{CAP_SYS_ADMIN, Host};
use crate::spec::{IoPriority, MemoryPolicy, Process, RLIMITS, Scheduler, Spec, cpu_list, node_list};

/// The search path of a process whose environment names none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What besides the process itself decides its steps.
pub(super) struct Rules<'a> {
    pub host: &'a Host,
    /// setgroups(2) is forbidden in the user namespace.
    pub groups_denied: bool,
    /// The process is in another user namespace than the runtime.
    pub in_userns: bool,
    /// The file mode creation mask of a process that names none.
    pub umask: u32,
    pub preserve_fds: u32,
    pub listen_fds: u32,
    /// The process has a socket to say that it is ready.
    pub notifies: bool,
    /// The process waits for `start`.
    pub waits: bool,
    /// The parent has something to do when all is ready, whatever the process says.
    pub always_ready: bool,
}

/// The pointers of process properties.
macro_rules! at {
    ($name:literal) => {
        Origin::at(concat!("/process/", $name))
    };
}

/// CPUs to start on, before the cgroup is entered.
pub(super) fn initial_affinity(b: &mut Builder, process: Option<&Process>) {
    let list = process.and_then(|process| process.exec_cpu_affinity.as_ref()?.initial.as_deref());
    if let Some(list) = list.filter(|list| !list.is_empty()) {
        b.plan.initial_affinity = mask(&cpu_list(list).unwrap_or_default());
    }
}

/// Makes the container's terminal; `console`: and puts it onto /dev/console.
pub(super) fn terminal(b: &mut Builder, process: &Process, host: &Host, console: bool) {
    let size = process.console_size.unwrap_or_default();
    let (rows, columns) = (size.height as u16, size.width as u16);
    let mount_api = host.calls.mount_setattr;
    b.from(at!("terminal")).step(Op::Terminal { rows, columns, console, mount_api, uid: process.user.uid });
}

/// The steps from a finished root to the program.
pub(super) fn steps(b: &mut Builder, process: &Process, spec: Option<&Spec>, rules: &Rules) -> Result<()> {
    labels::confine(b, process, rules.host)?;
    if rules.host.ignored_signals != 0 {
        b.from(Origin::NONE).step(Op::DefaultSignals { ignored: rules.host.ignored_signals });
    }
    attributes(b, process, spec)?;
    if process.terminal {
        b.from(at!("terminal")).step(Op::AdoptTerminal);
    }
    b.from(at!("user")).step(Op::OwnStdio { uid: process.user.uid });
    if process.no_new_privileges {
        b.from(at!("noNewPrivileges")).step(Op::NoNewPrivileges);
    }
    // A new user namespace, and one that is joined, grants everything.
    let grantable = if rules.in_userns { u64::MAX } else { rules.host.capabilities };
    let sets = Sets::of(b, process, grantable);
    b.from(at!("capabilities/bounding"));
    b.step(Op::Bounding { keep: sets.bounding, last: rules.host.last_capability });
    b.from(at!("capabilities")).step(Op::KeepCapabilities);
    let cwd = b.text(&process.cwd);
    b.from(at!("cwd")).step(Op::Directory { path: cwd, last: false });
    environment(b, process, rules);
    limits(b, process, rules);
    user(b, process, rules)?;

    let filtered = !b.plan.filter.is_empty();
    let listens = b.plan.listener.is_some();
    // Without no_new_privs the kernel asks for CAP_SYS_ADMIN to load a filter. It is kept until then,
    // so that nothing but the last steps runs under a filter made for the container's program.
    let admin = if filtered && !process.no_new_privileges { 1 << CAP_SYS_ADMIN } else { 0 };
    b.from(at!("capabilities")).step(Op::Capabilities {
        effective: sets.effective | admin,
        permitted: sets.permitted | admin,
        inheritable: sets.inheritable,
    });
    b.from(at!("capabilities/ambient")).step(Op::Ambient { set: sets.ambient });
    b.from(at!("cwd")).step(Op::Directory { path: cwd, last: true });
    b.from(at!("user/umask")).step(Op::Umask { mask: process.user.umask.unwrap_or(rules.umask) });
    find(b, process)?;
    if listens {
        // The agent is there now; when `start` comes, this process is gone.
        seccomp(b, true);
    }
    if rules.always_ready || !b.plan.limits.is_empty() || process.oom_score_adj.is_some() {
        b.from(Origin::NONE).step(Op::Sync(Sync::Ready));
    }
    b.plan.oom_score_adj = process.oom_score_adj;
    b.plan.in_userns = rules.in_userns;
    if rules.waits {
        b.from(Origin::NONE).step(Op::Start);
    }
    if filtered && !listens {
        seccomp(b, false);
    }
    start_hooks(b, spec);
    if admin != 0 {
        b.from(at!("capabilities")).step(Op::Capabilities {
            effective: sets.effective,
            permitted: sets.permitted,
            inheritable: sets.inheritable,
        });
    }
    b.plan.preserve = rules.preserve_fds + rules.listen_fds;
    b.from(Origin::item("/process/args", 0)).step(Op::Exec);
    Ok(())
}

fn seccomp(b: &mut Builder, listener: bool) {
    let flags = b.plan.filter_flags;
    b.from(Origin::at("/linux/seccomp")).step(Op::Seccomp { flags, listener });
}

fn attributes(b: &mut Builder, process: &Process, spec: Option<&Spec>) -> Result<()> {
    let cpus = process.exec_cpu_affinity.as_ref();
    if let Some(last) = cpus.and_then(|cpus| cpus.last.as_deref()).filter(|last| !last.is_empty()) {
        let mask = b.text(mask(&cpu_list(last).unwrap_or_default()));
        b.from(at!("execCPUAffinity/final")).step(Op::Affinity { mask });
    } else if b.plan.initial_affinity.is_empty() {
        b.from(Origin::NONE).step(Op::EveryCpu);
    }
    if let Some(scheduler) = &process.scheduler {
        let attr = sched_attr(b.from(at!("scheduler")), scheduler)?;
        b.step(Op::Scheduler { attr });
    }
    if let Some(io) = &process.io_priority {
        let priority = io_priority(b.from(at!("ioPriority")), io)?;
        b.step(Op::IoPriority { priority });
    }
    let Some(linux) = spec.and_then(|spec| spec.linux.as_ref()) else { return Ok(()) };
    if let Some(policy) = &linux.memory_policy {
        memory_policy(b.from(Origin::at("/linux/memoryPolicy")), policy)?;
    }
    if let Some(personality) = &linux.personality {
        b.from(Origin::at("/linux/personality"));
        let persona = match personality.domain.as_str() {
            // <linux/personality.h>
            "LINUX" => 0,
            "LINUX32" => 8,
            other => return Err(b.refuse(Kind::InvalidSpec, format!("cannot set personality {other:?}"))),
        };
        b.step(Op::Personality { persona });
    }
    Ok(())
}

fn sched_attr(b: &Builder, scheduler: &Scheduler) -> Result<SchedAttr> {
    let unknown = |name: &str| {
        b.refuse(Kind::InvalidSpec, "cannot set the scheduler").because(format!("unknown {name:?}"))
    };
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(unknown(other)),
    };
    let mut flags = 0;
    for flag in scheduler.flags.iter().flatten() {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(unknown(other)),
        };
    }
    Ok(SchedAttr {
        policy,
        flags,
        nice: scheduler.nice.unwrap_or(0),
        priority: scheduler.priority.unwrap_or(0) as u32,
        runtime: scheduler.runtime.unwrap_or(0),
        deadline: scheduler.deadline.unwrap_or(0),
        period: scheduler.period.unwrap_or(0),
        ..SchedAttr::default()
    })
}

fn io_priority(b: &Builder, io: &IoPriority) -> Result<u32> {
    let class = match io.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => {
            let what = "cannot set the I/O priority";
            return Err(b.refuse(Kind::InvalidSpec, what).because(format!("unknown class {other:?}")));
        }
    };
    const CLASS_SHIFT: u32 = 13;
    Ok(class << CLASS_SHIFT | io.priority as u32 & 7)
}

fn memory_policy(b: &mut Builder, policy: &MemoryPolicy) -> Result<()> {
    let mut mode = match policy.mode.as_str() {
        "MPOL_DEFAULT" => libc::MPOL_DEFAULT,
        "MPOL_PREFERRED" => libc::MPOL_PREFERRED,
        "MPOL_BIND" => libc::MPOL_BIND,
        "MPOL_INTERLEAVE" => libc::MPOL_INTERLEAVE,
        "MPOL_LOCAL" => libc::MPOL_LOCAL,
        "MPOL_PREFERRED_MANY" => 5,
        "MPOL_WEIGHTED_INTERLEAVE" => 6,
        other => return Err(b.refuse(Kind::InvalidSpec, format!("invalid memory policy mode {other:?}"))),
    };
    for flag in policy.flags.iter().flatten() {
        mode |= match flag.as_str() {
            "MPOL_F_STATIC_NODES" => libc::MPOL_F_STATIC_NODES,
            "MPOL_F_RELATIVE_NODES" => libc::MPOL_F_RELATIVE_NODES,
            "MPOL_F_NUMA_BALANCING" => libc::MPOL_F_NUMA_BALANCING,
            other => return Err(b.refuse(Kind::InvalidSpec, format!("invalid memory policy flag {other:?}"))),
        };
    }
    let nodes = policy.nodes.as_deref().unwrap_or_default();
    let nodes = b.text(mask(&node_list(nodes).unwrap_or_default()));
    b.step(Op::MemoryPolicy { mode, nodes });
    Ok(())
}

/// Numbers such as `0-3,7` as a little-endian bit mask of whole words.
fn mask(list: &[RangeInclusive<u32>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for bit in list.iter().cloned().flatten() {
        let bit = bit as usize;
        if bytes.len() <= bit / 8 {
            bytes.resize((bit / 64 + 1) * 8, 0);
        }
        bytes[bit / 8] |= 1 << (bit % 8);
    }
    bytes
}

/// The five capability sets, as bits.
struct Sets {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Sets {
    /// The sets without what the kernel does not know and what we lack ourselves.
    fn of(b: &mut Builder, process: &Process, grantable: u64) -> Sets {
        let none = crate::spec::Capabilities::default();
        let named = process.capabilities.as_ref().unwrap_or(&none);
        let mut bits = |names: &Option<Vec<String>>| {
            names.iter().flatten().fold(0, |all, name| match caps::Capability::from_str(name) {
                Ok(capability) if capability.bitmask() & grantable != 0 => all | capability.bitmask(),
                // The specification asks for a warning, not an error: engines name what newer kernels
                // have, and everything for a privileged container where a machine has less.
                _ => {
                    let note = format!("ignoring unknown or unavailable capability {name}");
                    if !b.plan.notes.contains(&note) {
                        b.plan.notes.push(note);
                    }
                    all
                }
            })
        };
        Sets {
            bounding: bits(&named.bounding),
            effective: bits(&named.effective),
            permitted: bits(&named.permitted),
            inheritable: bits(&named.inheritable),
            ambient: bits(&named.ambient),
        }
    }
}

fn user(b: &mut Builder, process: &Process, rules: &Rules) -> Result<()> {
    let user = &process.user;
    let groups = user.additional_gids.as_deref().unwrap_or_default();
    b.from(at!("user/additionalGids"));
    if !rules.groups_denied {
        let bytes: Vec<u8> = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
        let groups = b.text(bytes);
        b.step(Op::Groups { groups });
    } else if !groups.is_empty() {
        return Err(b
            .refuse(Kind::Unsupported, "cannot set additional groups")
            .because("setgroups(2) is denied in a user namespace that was mapped without newgidmap(1)"));
    }
    b.from(at!("user")).step(Op::User { uid: user.uid, gid: user.gid });
    Ok(())
}

fn environment(b: &mut Builder, process: &Process, rules: &Rules) {
    let given = process.env.as_deref().unwrap_or_default();
    // Of a name that is given twice the last counts; which one a program would see is undefined.
    let mut seen = HashSet::with_capacity(given.len());
    let mut entries: Vec<&str> = given
        .iter()
        .rev()
        .map(String::as_str)
        .filter(|entry| seen.insert(entry.split('=').next().unwrap_or(entry)))
        .collect();
    entries.reverse();
    let home = entries.iter().any(|entry| entry.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()));
    entries.retain(|entry| home || !entry.starts_with("HOME="));
    if rules.notifies {
        entries.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
    }
    let mut envp: Vec<_> = entries.into_iter().map(|entry| b.text(entry)).collect();
    if rules.notifies {
        envp.push(b.text(format!("NOTIFY_SOCKET={NOTIFY_DIRECTORY}/{NOTIFY_SOCKET}")));
    }
    if rules.listen_fds > 0 {
        envp.push(b.text(format!("LISTEN_FDS={}", rules.listen_fds)));
        envp.push(b.text("LISTEN_PID=1"));
    }
    b.plan.envp = envp;
    b.plan.home = !home;
    if !home {
        b.from(at!("user/uid")).step(Op::Home { uid: process.user.uid });
    }
}

fn find(b: &mut Builder, process: &Process) -> Result<()> {
    let args = process.args.as_deref().unwrap_or_default();
    b.from(Origin::item("/process/args", 0));
    let Some(name) = args.first().filter(|name| !name.is_empty()) else {
        return Err(b.refuse(Kind::InvalidSpec, "cannot execute nothing").because("args is empty"));
    };
    let argv = args.iter().map(|arg| b.text(arg)).collect();
    b.plan.argv = argv;
    let candidates: Vec<_> = if name.contains('/') {
        vec![b.text(name)]
    } else {
        let path = process.env.iter().flatten().rev().find_map(|entry| entry.strip_prefix("PATH="));
        // Relative entries would make what is executed depend on the working directory.
        path.unwrap_or(PATH)
            .split(':')
            .filter(|dir| dir.starts_with('/'))
            .map(|dir| b.text(format!("{dir}/{name}")))
            .collect()
    };
    let candidates = b.words(&candidates);
    b.step(Op::Find { candidates });
    Ok(())
}

/// Resource limits. In a user namespace only the parent may raise one, at the end; else the process
/// sets them itself while it is still privileged.
fn limits(b: &mut Builder, process: &Process, rules: &Rules) {
    for (index, limit) in process.rlimits.iter().flatten().enumerate() {
        let Some(resource) = resource(&limit.kind) else { continue };
        let origin = Origin::item("/process/rlimits", index);
        if rules.in_userns {
            b.plan.limits.push(Limit { resource, soft: limit.soft, hard: limit.hard, origin });
        } else {
            b.from(origin).step(Op::Limit { resource, soft: limit.soft, hard: limit.hard });
        }
    }
}

fn resource(name: &str) -> Option<u32> {
    RLIMITS.iter().position(|known| *known == name).map(|number| number as u32)
}

/// The name of a resource limit.
pub fn limit_name(resource: u32) -> &'static str {
    RLIMITS.get(resource as usize).unwrap_or(&"a limit")
}

fn start_hooks(b: &mut Builder, spec: Option<&Spec>) {
    let hooks = spec.and_then(|spec| spec.hooks.as_ref()?.start_container().as_ref());
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        let path = hook.path().to_string_lossy().into_owned();
        let args = hook.args().clone().filter(|args| !args.is_empty()).unwrap_or_else(|| vec![path.clone()]);
        let texts = |b: &mut Builder, all: &[String]| all.iter().map(|text| b.text(text)).collect();
        let planned = InitHook {
            path: b.text(&path),
            argv: texts(b, &args),
            envp: texts(b, hook.env().as_deref().unwrap_or_default()),
            timeout: hook.timeout().map_or(-1, |seconds| i32::try_from(seconds * 1000).unwrap_or(i32::MAX)),
        };
        b.plan.hooks.push(planned);
        b.from(Origin::item("/hooks/startContainer", index)).step(Op::Hook { index: index as u16 });
    }
}
