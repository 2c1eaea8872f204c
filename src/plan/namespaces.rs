//! Which namespaces are made, which are joined, in which order, and by whom.
//!
//! A namespace belongs to the user namespace its maker is in, and joining one asks for privileges in
//! its owner. So: a privileged caller joins everything before it gives its privileges up for a user
//! namespace; an unprivileged one has none until it has entered one. New namespaces are made after
//! that, so that the container's root owns them. Two kinds take effect only for children: pid (the
//! parent enters it around the clone) and time with offsets (which must be written in between); where
//! they meet a user namespace, the plan holds a [`Op::Fork`].

use corten_init::program::{Op, Slot, Sync};
use corten_init::sys::CLONE_NEWTIME;

use super::{Builder, IdMap, Open, Origin};
use crate::host::Host;
use crate::spec::Spec;

/// How the container comes by one kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The runtime's own is shared.
    Shared,
    New,
    /// Joined, by its index in `linux.namespaces`.
    Joined(usize),
}

/// The names of config.json and the flags of clone(2).
const KINDS: [(&str, u64); 8] = [
    ("user", libc::CLONE_NEWUSER as u64),
    ("mount", libc::CLONE_NEWNS as u64),
    ("pid", libc::CLONE_NEWPID as u64),
    ("network", libc::CLONE_NEWNET as u64),
    ("ipc", libc::CLONE_NEWIPC as u64),
    ("uts", libc::CLONE_NEWUTS as u64),
    ("cgroup", libc::CLONE_NEWCGROUP as u64),
    ("time", CLONE_NEWTIME),
];

/// All eight, in the order of `KINDS`.
#[derive(Debug, Clone, Copy)]
pub struct Namespaces([Source; 8]);

impl Namespaces {
    /// Where the container has its namespaces from.
    pub fn of(spec: &Spec) -> Namespaces {
        let mut sources = [Source::Shared; 8];
        for (index, namespace) in spec.linux().namespaces.iter().flatten().enumerate() {
            if let Some(kind) = KINDS.iter().position(|(name, _)| *name == namespace.kind) {
                let joined = namespace.path.as_deref().is_some_and(|path| !path.is_empty());
                sources[kind] = if joined { Source::Joined(index) } else { Source::New };
            }
        }
        Namespaces(sources)
    }

    /// Where the container has the namespace of this type from.
    pub fn get(&self, name: &str) -> Source {
        KINDS.iter().position(|(kind, _)| *kind == name).map_or(Source::Shared, |index| self.0[index])
    }

    /// Whether the namespace of this type is made for the container.
    pub fn is_new(&self, name: &str) -> bool {
        self.get(name) == Source::New
    }

    /// Whether the container stays in the runtime's namespace of this type.
    pub fn is_shared(&self, name: &str) -> bool {
        self.get(name) == Source::Shared
    }

    /// The flags of every kind that the container does not share with the runtime.
    pub fn own(&self) -> u64 {
        self.kinds(|source| source != Source::Shared)
    }

    fn new_kinds(&self) -> u64 {
        self.kinds(|source| source == Source::New)
    }

    fn kinds(&self, wanted: impl Fn(Source) -> bool) -> u64 {
        KINDS
            .iter()
            .zip(self.0)
            .filter(|(_, source)| wanted(*source))
            .fold(0, |all, ((_, flag), _)| all | flag)
    }
}

const USER: u64 = libc::CLONE_NEWUSER as u64;
const PID: u64 = libc::CLONE_NEWPID as u64;
const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
const ORIGIN: &str = "/linux/namespaces";

/// Plans the way from the runtime's namespaces into the container's.
pub(super) fn enter(b: &mut Builder, spec: &Spec, host: &Host, namespaces: &Namespaces) {
    let offsets =
        namespaces.is_new("time") && spec.linux().time_offsets.as_ref().is_some_and(|o| !o.is_empty());
    let user = namespaces.get("user");
    // The cgroup namespace's root is the cgroup its maker is in, so it waits until we have joined ours.
    let new = namespaces.new_kinds() & !CGROUP;
    let joined = namespaces.kinds(|source| matches!(source, Source::Joined(_)));
    // Joins that must come before our own new user namespace, in a process that still has our privileges.
    let early = if offsets { joined } else { joined & !PID };
    let joins_first = user == Source::New && early != 0 && host.is_privileged();
    let joined_user = matches!(user, Source::Joined(_));
    // An ordinary user may join a pid namespace only from within its user namespace.
    let pid_inside = joined & PID != 0 && !host.is_privileged();
    let forks = offsets || joins_first || pid_inside || (joined_user && new & (PID | CLONE_NEWTIME) != 0);
    let joins = joined & !USER & if forks { u64::MAX } else { !PID };

    join_cgroup(b);
    if let (Source::Joined(index), false) = (namespaces.get("pid"), forks) {
        b.plan.pid_namespace = Some(open(b, spec, index));
    }
    if joined & PID != 0 && forks && host.is_privileged() {
        // We shall be seen in that namespace long before we are what we shall be.
        b.from(Origin::at(ORIGIN)).step(Op::Dumpable(false));
    }
    let late = if offsets { PID | CLONE_NEWTIME } else { 0 };
    if joined_user {
        if host.is_privileged() {
            join(b, spec, namespaces, joins);
        }
        join(b, spec, namespaces, USER);
        b.step(Op::BecomeRoot { mapped: false });
        if !host.is_privileged() {
            join(b, spec, namespaces, joins);
        }
        b.from(Origin::at(ORIGIN));
        if forks && !offsets {
            b.step(Op::Fork { kinds: new });
        } else if new & !late != 0 {
            b.step(Op::Unshare { kinds: new & !late });
        }
    } else if joins_first {
        join(b, spec, namespaces, joins);
        b.from(Origin::at(ORIGIN)).step(Op::Fork { kinds: new & !late });
        become_mapped_root(b, spec, user);
    } else {
        b.plan.kinds = new & !late;
        become_mapped_root(b, spec, user);
        join(b, spec, namespaces, joins);
        if pid_inside && !offsets {
            b.from(Origin::at(ORIGIN)).step(Op::Fork { kinds: 0 });
        }
    }
    if offsets {
        b.from(Origin::at("/linux/timeOffsets")).step(Op::Unshare { kinds: CLONE_NEWTIME });
        b.step(Op::Sync(Sync::TimeOffsets));
        b.step(Op::Fork { kinds: new & PID });
        b.plan.time_offsets = time_offsets(spec);
    }
    b.from(Origin::at(ORIGIN)).step(Op::Session);
    if !namespaces.is_new("pid") {
        // Somebody else is in our pid namespace and must not look into us before we are what we shall be.
        b.step(Op::Dumpable(false));
    }
    if namespaces.is_new("cgroup") {
        b.step(Op::Unshare { kinds: CGROUP });
    }
    if namespaces.is_new("network") {
        b.step(Op::LoopbackUp);
    }
}

/// The child joins v1 cgroups by itself, which does not wait for an RCU grace period as cgroup.procs does.
pub(super) fn join_cgroup(b: &mut Builder) {
    b.from(Origin::at("/linux/cgroupsPath"));
    for index in 0..b.plan.cgroup.v1_dirs() {
        let slot = b.open(Open::Tasks(index));
        b.step(Op::JoinCgroup(slot));
    }
    if b.plan.cgroup.unified().is_some() {
        // Empty where the clone puts the child there.
        let slot = b.open(Open::Unified);
        b.step(Op::JoinCgroup(slot));
    }
    if b.plan.cgroup.unit().is_some_and(|unit| unit.user) {
        // From another session than the unit's, only systemd can move us.
        b.step(Op::Sync(Sync::Cgroup));
    }
}

fn become_mapped_root(b: &mut Builder, spec: &Spec, user: Source) {
    if user != Source::New {
        return;
    }
    let linux = spec.linux();
    let map = IdMap {
        uids: linux.uid_mappings.clone().unwrap_or_default(),
        gids: linux.gid_mappings.clone().unwrap_or_default(),
    };
    b.from(Origin::at("/linux/uidMappings")).step(Op::Sync(Sync::IdMaps));
    if map.maps_root() {
        b.step(Op::BecomeRoot { mapped: true });
    }
    b.plan.id_map = Some(map);
}

fn open(b: &mut Builder, spec: &Spec, index: usize) -> Slot {
    let path = spec.linux().namespaces.as_ref().and_then(|all| all[index].path.clone()).unwrap_or_default();
    b.from(Origin::item(ORIGIN, index)).open(Open::Namespace { path })
}

/// Joins those of `kinds` that are to be joined. The mount namespace is the last: it changes what
/// paths mean.
fn join(b: &mut Builder, spec: &Spec, namespaces: &Namespaces, kinds: u64) {
    let mount = libc::CLONE_NEWNS as u64;
    for round in [kinds & !mount, kinds & mount] {
        for ((_, flag), source) in KINDS.iter().zip(namespaces.0) {
            if let (Source::Joined(index), true) = (source, round & flag != 0) {
                let namespace = open(b, spec, index);
                b.from(Origin::item(ORIGIN, index)).step(Op::Join { namespace, kinds: *flag });
            }
        }
    }
}

/// The lines of /proc/PID/timens_offsets (time_namespaces(7)).
fn time_offsets(spec: &Spec) -> String {
    let offsets = spec.linux().time_offsets.iter().flatten();
    offsets
        .map(|(clock, o)| format!("{clock} {} {}\n", o.secs().unwrap_or(0), o.nanosecs().unwrap_or(0)))
        .collect()
}
