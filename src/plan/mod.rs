//! From what `config.json` says to what will be done: a [`Plan`].
//!
//! Planning is pure: the same specification, host and options give the same plan, and nothing is
//! read or touched meanwhile. Every step carries the place in `config.json` that asked for it.
//! `corten plan` prints the plan; [`crate::container`] carries it out.

mod create;
mod devices;
mod dump;
mod exec;
mod labels;
mod mounts;
mod namespaces;
mod options;
mod process;
#[cfg(test)]
mod tests;

use std::fmt;

use corten_init::program::{Op, Slot, Text, Words};

use crate::cgroup::Cgroup;
use crate::error::{Error, Kind, Result};
use crate::spec::{LinuxIdMapping, Spec, invalid};

pub use create::{Create, NOTIFY_DIRECTORY, NOTIFY_SOCKET, create};
pub use dump::{describe, json, text};
pub use exec::{Exec, exec};
pub use namespaces::Namespaces;
pub use options::mount_options;
pub use process::limit_name;

/// A place in config.json: a JSON pointer, without the cost of writing it down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    at: &'static str,
    index: Option<u16>,
    then: &'static str,
    inner: Option<u16>,
}

impl Origin {
    /// What every container gets, whatever config.json says.
    pub const NONE: Origin = Origin { at: "", index: None, then: "", inner: None };

    pub const fn at(at: &'static str) -> Origin {
        Origin { at, ..Origin::NONE }
    }

    pub const fn item(at: &'static str, index: usize) -> Origin {
        Origin { at, index: Some(index as u16), ..Origin::NONE }
    }

    /// A property of an item.
    pub const fn then(self, then: &'static str) -> Origin {
        Origin { then, ..self }
    }

    /// An item of a property of an item.
    pub const fn inner(self, inner: usize) -> Origin {
        Origin { inner: Some(inner as u16), ..self }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.at)?;
        if let Some(index) = self.index {
            write!(f, "/{index}")?;
        }
        f.write_str(self.then)?;
        if let Some(inner) = self.inner {
            write!(f, "/{inner}")?;
        }
        Ok(())
    }
}

/// One step of the init process and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub op: Op,
    pub origin: Origin,
}

/// A descriptor that the parent opens before the clone; the n-th is in slot `FIRST_OPEN + n`.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    pub open: Open,
    pub origin: Origin,
}

/// What is opened.
#[derive(Debug, Clone, PartialEq)]
pub enum Open {
    /// A namespace to join.
    Namespace { path: String },
    /// The pidfd of the container's init, for `exec`.
    Init,
    /// The `tasks` file of the container's cgroup in its n-th v1 hierarchy.
    Tasks(usize),
    /// `cgroup.procs` of the container's cgroup2, where the clone cannot put the child there.
    Unified,
    /// A copy of the mount tree at a path of the host, id-mapped where `map` says so.
    Tree { source: String, recursive: bool, map: Option<IdMap>, map_recursive: bool },
    /// A user namespace with an id map, for a mount.
    Userns(IdMap),
}

/// Both maps of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdMap {
    pub uids: Vec<LinuxIdMapping>,
    pub gids: Vec<LinuxIdMapping>,
}

impl IdMap {
    /// The lines of /proc/PID/uid_map or gid_map.
    pub fn lines(mappings: &[LinuxIdMapping]) -> String {
        mappings.iter().map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size())).collect()
    }

    /// Whether user 0 of the namespace is somebody outside.
    fn maps_root(&self) -> bool {
        let zero = |maps: &[LinuxIdMapping]| maps.iter().any(|m| m.container_id() == 0 && m.size() > 0);
        zero(&self.uids) && zero(&self.gids)
    }
}

/// A hook that the init process runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InitHook {
    pub path: Text,
    pub argv: Vec<Text>,
    pub envp: Vec<Text>,
    /// Milliseconds; -1: for ever.
    pub timeout: i32,
}

/// One resource limit of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
    pub origin: Origin,
}

/// What will be done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What the init process does.
    pub steps: Vec<Step>,
    pub text: Vec<u8>,
    pub words: Vec<Text>,
    pub argv: Vec<Text>,
    pub envp: Vec<Text>,
    /// How many descriptors after stdio the process gets.
    pub preserve: u32,
    /// The environment lacks HOME, which the init process looks up.
    pub home: bool,
    /// The seccomp program, eight bytes an instruction.
    pub filter: Vec<u64>,
    pub filter_flags: u32,
    /// The steps from [`Op::Start`] on as the errors name them: `start` has no plan.
    pub late: Vec<Text>,
    /// startContainer hooks.
    pub hooks: Vec<InitHook>,

    /// What the parent opens first.
    pub opens: Vec<Need>,
    /// The pid namespace that only our children enter, by slot: joined by the parent around the clone.
    pub pid_namespace: Option<Slot>,
    /// The kinds of new namespaces (`CLONE_NEW*`) of the first clone.
    pub kinds: u64,
    pub cgroup: Cgroup,

    /// The process is in another user namespace than the runtime.
    pub in_userns: bool,
    /// The class of Intel RDT that the process enters before its program runs.
    pub rdt: Option<crate::rdt::Class>,
    /// Written at [`corten_init::program::Sync::IdMaps`].
    pub id_map: Option<IdMap>,
    /// Lines of /proc/PID/timens_offsets.
    pub time_offsets: String,
    /// Network devices to move: the host's name and the container's.
    pub net_devices: Vec<(String, String)>,
    pub oom_score_adj: Option<i32>,
    pub limits: Vec<Limit>,
    /// The CPUs the process may start on before it enters the cgroup, as an affinity mask.
    pub initial_affinity: Vec<u8>,
    /// Where the descriptor of a seccomp listener goes, and what goes with it.
    pub listener: Option<crate::seccomp::Listener>,
    /// What a user should know although it is no error.
    pub notes: Vec<String>,
    /// What only somebody who looks for a fault wants to know.
    pub details: Vec<String>,
}

impl Plan {
    /// What the parent opens for `slot`.
    pub fn need(&self, slot: Slot) -> Option<&Need> {
        self.opens.get(usize::from(slot.0.checked_sub(Slot::FIRST_OPEN)?))
    }

    pub fn str(&self, text: Text) -> &str {
        let start = text.at as usize;
        std::str::from_utf8(&self.text[start..start + text.len as usize]).unwrap_or("?")
    }

    /// The step at which the container waits for `start`.
    pub fn start_step(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.op == Op::Start)
    }
}

/// An instruction of classic BPF as the eight bytes that the kernel reads (`struct sock_filter`).
fn instruction(filter: &seccompiler::sock_filter) -> u64 {
    let [c0, c1] = filter.code.to_ne_bytes();
    let [k0, k1, k2, k3] = filter.k.to_ne_bytes();
    u64::from_ne_bytes([c0, c1, filter.jt, filter.jf, k0, k1, k2, k3])
}

/// Collects a plan.
struct Builder {
    plan: Plan,
    /// What the steps that follow come from.
    origin: Origin,
}

impl Builder {
    fn new(cgroup: Cgroup) -> Builder {
        let plan = Plan {
            steps: Vec::with_capacity(96),
            text: Vec::with_capacity(8192),
            words: Vec::with_capacity(64),
            cgroup,
            ..Plan::default()
        };
        Builder { plan, origin: Origin::NONE }
    }

    fn step(&mut self, op: Op) {
        self.plan.steps.push(Step { op, origin: self.origin });
    }

    fn from(&mut self, origin: Origin) -> &mut Builder {
        self.origin = origin;
        self
    }

    fn text(&mut self, text: impl AsRef<[u8]>) -> Text {
        let text = text.as_ref();
        let at = self.plan.text.len() as u32;
        self.plan.text.extend_from_slice(text);
        self.plan.text.push(0);
        Text { at, len: text.len() as u32 }
    }

    fn words(&mut self, words: &[Text]) -> Words {
        let first = self.plan.words.len() as u16;
        self.plan.words.extend_from_slice(words);
        Words { first, count: words.len() as u16 }
    }

    fn open(&mut self, open: Open) -> Slot {
        self.plan.opens.push(Need { open, origin: self.origin });
        Slot(Slot::FIRST_OPEN + self.plan.opens.len() as u16 - 1)
    }

    /// Compiles the seccomp profile. `pointer` is where it stands.
    fn filter(&mut self, spec: &Spec) -> Result<()> {
        let Some(profile) = &spec.linux().seccomp else { return Ok(()) };
        let filter = crate::seccomp::filter(profile, crate::seccomp::Abi::NATIVE)
            .map_err(|problems| invalid("config.json", &problems))?;
        self.plan.filter = filter.program.iter().map(instruction).collect();
        self.plan.filter_flags = filter.flags;
        self.plan.listener = filter.listener;
        self.plan.details.extend(filter.notes);
        Ok(())
    }

    /// An error about what the current origin asks for.
    fn refuse(&self, kind: Kind, what: impl Into<String>) -> Error {
        Error::new(kind, what).at(self.origin.to_string())
    }

    fn finish(mut self) -> Result<Plan> {
        if usize::from(Slot::FIRST_OPEN) + self.plan.opens.len() > Slot::COUNT {
            let most = Slot::COUNT - usize::from(Slot::FIRST_OPEN);
            return Err(Error::new(Kind::Unsupported, "cannot plan the container").because(format!(
                "{} descriptors are needed at once (mounts in a user namespace, joined namespaces), {most} are possible",
                self.plan.opens.len()
            )));
        }
        if let Some(start) = self.plan.start_step() {
            for step in start..self.plan.steps.len() {
                let words = format!("cannot {}", describe(&self.plan, step));
                let origin = self.plan.steps[step].origin.to_string();
                let words = if origin.is_empty() { words } else { format!("{words} (config.json#{origin})") };
                let words = self.text(words);
                self.plan.late.push(words);
            }
        }
        Ok(self.plan)
    }
}
