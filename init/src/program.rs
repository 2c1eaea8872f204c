//! The vocabulary that the plan and the init process share: a program is a list of [`Op`]s.
//!
//! A program is flat. Its strings stand in one buffer and are named by place and length, its
//! descriptors by the number of a slot, so that nothing has to be allocated or followed where it is
//! performed. Every decision was made when it was compiled; an operation says what to do, never
//! whether.

use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::sync::atomic::AtomicU64;

use crate::sys::{Errno, MountAttr, SchedAttr};

/// A string in [`Program::text`], where a NUL follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Text {
    pub at: u32,
    pub len: u32,
}

/// A run of entries in [`Program::words`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Words {
    pub first: u16,
    pub count: u16,
}

/// A descriptor by the number of its slot. The first few slots are the interpreter's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub u16);

impl Slot {
    /// The socket to the parent.
    pub const SYNC: Slot = Slot(0);
    /// The socket on which `start` comes; present only for `create`.
    pub const START: Slot = Slot(1);
    /// The root of the container's file system.
    pub const ROOT: Slot = Slot(2);
    /// A procfs that no mount of the container can cover.
    pub const PROC: Slot = Slot(3);
    /// The mount that is being built.
    pub const MOUNT: Slot = Slot(4);
    /// The container's terminal.
    pub const TERMINAL: Slot = Slot(5);
    /// The empty read-only directory that covers masked directories.
    pub const EMPTY: Slot = Slot(6);
    /// The `/dev/null` that covers masked files.
    pub const NULL: Slot = Slot(7);
    /// The first slot that a plan may give to descriptors the parent opens.
    pub const FIRST_OPEN: u16 = 8;
    /// How many slots there are.
    pub const COUNT: usize = 512;
}

/// What a mount point must be; it is made where it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    Directory,
    File,
    /// As the root of the mount that goes there.
    Same,
    /// A directory, reached without any symbolic link: procfs and sysfs go nowhere else
    /// (CVE-2019-19921, CVE-2023-27561).
    Ordinary,
}

/// For what the parent is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Have us moved into the cgroup, unless the clone put us there: we may not do so ourselves.
    Cgroup,
    /// Write the id maps of the user namespace we just entered.
    IdMaps,
    /// Write the offsets of the time namespace our next child will be in.
    TimeOffsets,
    /// Move network devices into our network namespace.
    Network,
    /// Everything is mounted, the old root is still there: run prestart, createRuntime and
    /// createContainer hooks.
    Hooks,
    /// The root is complete: set resource limits, record the state. Nothing but `start` is missing.
    Ready,
}

/// One thing the init process does. Descriptions of the calls are in the man pages of section 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// Writes "0" to a cgroup's `tasks` or `cgroup.procs`: we join. An empty slot: the clone did it.
    JoinCgroup(Slot),
    /// setns(2).
    Join {
        namespace: Slot,
        kinds: u64,
    },
    Unshare {
        kinds: u64,
    },
    /// Continues in a sibling of this process, which exits: for the namespaces that only a child enters.
    Fork {
        kinds: u64,
    },
    Sync(Sync),
    /// Becomes user and group 0 of the user namespace. Not `mapped`: if it has a user 0.
    BecomeRoot {
        mapped: bool,
    },
    /// Gives signals that we ignore, bit n-1 for signal n, their default action: execve(2) keeps them ignored.
    DefaultSignals {
        ignored: u64,
    },
    /// `PR_SET_DUMPABLE`: whether others of our user may look into us.
    Dumpable(bool),
    /// A session of our own.
    Session,
    LoopbackUp,
    Hostname(Text),
    Domainname(Text),
    /// Opens [`Slot::PROC`]: a procfs instance of our own, or, where the kernel gives us none, the host's.
    OpenProc,

    /// Sets the propagation (`MS_SLAVE | MS_REC` and its like) of the whole mount tree we start from.
    Propagation {
        flags: u64,
    },
    /// Makes the mount that holds `path` private, which pivot_root(2) asks for.
    PrivateParent {
        path: Text,
    },
    /// Binds the root file system onto itself and opens it as [`Slot::ROOT`].
    OpenRoot {
        path: Text,
        mount_api: bool,
    },
    /// Opens the root file system of a container without a mount namespace of its own.
    UseRoot {
        path: Text,
    },

    /// open_tree(2) of a path of the host into [`Slot::MOUNT`].
    CloneMount {
        source: Text,
        recursive: bool,
    },
    /// The same of a descriptor the parent opened (a whole tree already).
    TakeMount {
        tree: Slot,
    },
    /// fsopen(2) to fsmount(2) into [`Slot::MOUNT`]. `options` are keys and values in turn; an empty
    /// value makes a flag. `attributes`: `MOUNT_ATTR_*`.
    NewMount {
        kind: Text,
        source: Text,
        options: Words,
        attributes: u64,
    },
    /// mount_setattr(2) on [`Slot::MOUNT`].
    SetMount {
        attr: MountAttr,
        recursive: bool,
    },
    /// The same with the user namespace of an id map.
    MapMount {
        userns: Slot,
        recursive: bool,
    },
    /// Opens `target`, if it is there, as [`Slot::MOUNT`], before mount(2) covers it.
    Remember {
        target: Text,
    },
    /// Fills [`Slot::MOUNT`], a tmpfs, with what `target` holds now. `covered`: the tmpfs is at `target`
    /// already, and [`Op::Remember`] opened what it covers. The parent copies.
    CopyUp {
        target: Text,
        covered: bool,
    },
    /// Gives [`Slot::MOUNT`], a tmpfs, the mode of the directory it will cover; `covered` as above.
    KeepMode {
        target: Text,
        covered: bool,
    },
    /// Puts [`Slot::MOUNT`] onto `target` in the root. `mode` is for what has to be made.
    Attach {
        target: Text,
        point: Point,
        in_proc: bool,
    },
    /// Changes the mount at `target` by mount(2): its propagation, or its other `MS_*` flags, of which
    /// those that are in neither of the two stay as they are.
    Remount {
        target: Text,
        flags: u64,
        clear: u64,
    },
    /// mount(2) onto `target` in the root, for kernels without the calls above.
    LegacyMount {
        source: Text,
        target: Text,
        kind: Text,
        flags: u64,
        data: Text,
        point: Point,
        in_proc: bool,
    },

    MakeDirectory {
        path: Text,
        mode: u32,
    },
    /// mknod(2) in the root; replaces nothing: a node that exists must be the same device.
    MakeNode {
        path: Text,
        mode: u32,
        device: u64,
        uid: u32,
        gid: u32,
    },
    /// Binds the host's node at `source`, which must be that device, where mknod(2) is not allowed.
    BindNode {
        source: Text,
        path: Text,
        mode: u32,
        device: u64,
        mount_api: bool,
    },
    /// A symbolic link in the root. `replace`: what is there now goes.
    Link {
        content: Text,
        path: Text,
        replace: bool,
    },
    /// A symbolic link if `content` exists on the host.
    LinkIfPresent {
        content: Text,
        path: Text,
    },
    /// Covers a path: a file with /dev/null, a directory with an empty read-only one. A missing path is fine.
    Mask {
        path: Text,
        mount_api: bool,
        label: Text,
    },
    /// Binds a path onto itself, read-only. A missing path is fine.
    ReadonlyPath {
        path: Text,
        mount_api: bool,
    },
    /// mount_setattr(2) on the root itself.
    SetRoot {
        attr: MountAttr,
        mount_api: bool,
    },
    PivotRoot,
    /// Unmounts or covers a procfs or sysfs of the host, before [`Op::MoveRoot`].
    Discard {
        path: Text,
    },
    /// The root by `MS_MOVE` and chroot(2), for a root on a ramfs.
    MoveRoot,
    Chroot,
    /// Sets the propagation of the new root.
    RootPropagation {
        flags: u64,
    },

    /// Writes below /proc/sys.
    Sysctl {
        path: Text,
        value: Text,
    },
    /// Writes to a file of /proc/thread-self (security attributes).
    Attribute {
        path: Text,
        value: Text,
    },

    /// Makes a pseudoterminal and hands its master to the parent.
    Terminal {
        rows: u16,
        columns: u16,
        console: bool,
        mount_api: bool,
        uid: u32,
    },
    /// Makes the terminal the controlling one, and our stdio.
    AdoptTerminal,
    /// Gives stdio to the user.
    OwnStdio {
        uid: u32,
    },
    Keyring {
        name: Text,
    },
    Personality {
        persona: u64,
    },
    Umask {
        mask: u32,
    },
    Scheduler {
        attr: SchedAttr,
    },
    IoPriority {
        priority: u32,
    },
    MemoryPolicy {
        mode: i32,
        nodes: Text,
    },
    /// Allows every CPU that the cgroup has: since Linux 6.2 a mask that somebody asked for stays when the
    /// process enters a cgroup, and whoever started us may have one of his own.
    EveryCpu,
    /// sched_setaffinity(2); `mask` is bytes.
    Affinity {
        mask: Text,
    },
    /// Drops every capability of the bounding set that is not in `keep`, up to `last`.
    Bounding {
        keep: u64,
        last: u32,
    },
    /// `PR_SET_KEEPCAPS`: the permitted set survives the change of user.
    KeepCapabilities,
    /// setgroups(2); `groups` is as many native-endian numbers of four bytes.
    Groups {
        groups: Text,
    },
    User {
        uid: u32,
        gid: u32,
    },
    Capabilities {
        effective: u64,
        permitted: u64,
        inheritable: u64,
    },
    /// setrlimit(2).
    Limit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    /// Raises each capability of the set; one that cannot be raised is reported and skipped.
    Ambient {
        set: u64,
    },
    /// chdir(2), and proof that we are inside the root then (CVE-2024-21626). Not `last`: a later step
    /// tries again, as another user.
    Directory {
        path: Text,
        last: bool,
    },
    NoNewPrivileges,
    /// Loads [`Program::filter`].
    Seccomp {
        flags: u32,
        listener: bool,
    },
    /// Looks up HOME in the container's passwd file into the environment entry that waits for it.
    Home {
        uid: u32,
    },
    /// Finds the program to execute among `candidates`, the first that may be executed.
    Find {
        candidates: Words,
    },
    /// Waits for `start`.
    Start,
    /// Runs a startContainer hook.
    Hook {
        index: u16,
    },
    /// Marks everything but stdio and the preserved descriptors close-on-exec, and executes the program.
    Exec,
}

/// A startContainer hook, ready to run.
#[derive(Debug, Clone, Copy)]
pub struct Hook<'a> {
    pub path: Text,
    pub argv: &'a [*const c_char],
    pub envp: &'a [*const c_char],
    /// A file that holds the container's state, for its stdin.
    pub state: Slot,
    /// A file that takes what it prints.
    pub output: Slot,
    /// In milliseconds; -1 is for ever.
    pub timeout: i32,
}

/// Everything the init process works with, borrowed from the parent's memory, which the clone copied.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    pub steps: &'a [Op],
    /// All strings, each followed by NUL.
    pub text: &'a [u8],
    pub words: &'a [Text],
    /// The descriptors by slot, -1 where there is none.
    pub slots: &'a [Cell<i32>],
    pub argv: &'a [*const c_char],
    pub envp: &'a [*const c_char],
    /// The entry "HOME=..." of `envp`, to be filled in by [`Op::Home`].
    pub home: &'a [Cell<u8>],
    /// The seccomp program, eight bytes an instruction.
    pub filter: &'a [u64],
    pub hooks: &'a [Hook<'a>],
    /// What the steps from [`Op::Start`] on do, in words, one for each: whoever runs `start` has no plan.
    pub late: &'a [Text],
    /// How many descriptors after stdio belong to the container.
    pub preserve: u32,
    /// The number of the step that is being performed, seen by the parent even after SIGKILL.
    pub progress: &'a AtomicU64,
    /// When each step began, in nanoseconds; empty where nobody asks.
    pub times: &'a [AtomicU64],
}

impl<'a> Program<'a> {
    /// A string for the kernel; empty if there is none at that place.
    pub fn text(&self, text: Text) -> &'a CStr {
        let start = text.at as usize;
        let bytes = self.text.get(start..=start + text.len as usize).unwrap_or(b"\0");
        CStr::from_bytes_until_nul(bytes).unwrap_or(c"")
    }

    /// The same without its NUL, for what is no string.
    pub fn bytes(&self, text: Text) -> &'a [u8] {
        let start = text.at as usize;
        self.text.get(start..start + text.len as usize).unwrap_or(b"")
    }

    /// A run of strings; empty if it is not there.
    pub fn words(&self, words: Words) -> &'a [Text] {
        let start = usize::from(words.first);
        self.words.get(start..start + usize::from(words.count)).unwrap_or(&[])
    }

    /// The descriptor in a slot; -1 if there is none.
    pub fn slot(&self, slot: Slot) -> i32 {
        self.slots.get(usize::from(slot.0)).map_or(-1, Cell::get)
    }

    /// Closes what is in a slot.
    pub fn close(&self, slot: Slot) {
        let fd = self.slot(slot);
        if fd >= 0 {
            crate::sys::close(fd);
            self.set(slot, -1);
        }
    }

    /// Puts a descriptor, or -1, into a slot. What was there is not closed.
    pub fn set(&self, slot: Slot, fd: i32) {
        if let Some(cell) = self.slots.get(usize::from(slot.0)) {
            cell.set(fd);
        }
    }
}

/// Why a step failed: the call and what the kernel said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub call: &'static str,
    pub errno: Errno,
}

impl Fault {
    /// A fault that the kernel did not word: `errno` says best what is wrong.
    pub const fn new(call: &'static str, errno: i32) -> Fault {
        Fault { call, errno: Errno(errno) }
    }
}

/// Names the call a kernel answer came from.
pub trait Called<T> {
    fn called(self, call: &'static str) -> Result<T, Fault>;
}

impl<T> Called<T> for Result<T, Errno> {
    fn called(self, call: &'static str) -> Result<T, Fault> {
        self.map_err(|errno| Fault { call, errno })
    }
}
