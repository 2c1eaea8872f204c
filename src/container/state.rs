//! What is remembered about a container, and what its status is now.
//!
//! The status is never stored: it follows from facts (the recorded process, its start time and boot,
//! the start socket, the freezer) each time it is asked for, so a crash, a reboot or a reused pid
//! cannot make it wrong. The document that `state` prints and that hooks read is
//! <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state>.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::container::store::Entry;
use crate::error::{Error, Kind, Result};
use crate::rdt::Group;
use crate::spec::Resources;

/// The specification's version that states, features and `--version` report.
pub const OCI_VERSION: &str = "1.3.0";

/// `state.json` in the state directory of a container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute.
    pub rootfs: PathBuf,
    /// RFC 3339 with nanoseconds, UTC.
    pub created: String,
    pub annotations: BTreeMap<String, String>,
    /// The effective uid of who created it.
    pub owner: u32,
    /// The runtime process that creates it; the status is `creating` while it lives and there is no
    /// init.
    pub creator: Option<Process>,
    pub init: Option<Process>,
    /// Where the container's processes are accounted.
    #[serde(default)]
    pub cgroup: Cgroup,
    /// What `update` last made of config.json's resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where Intel RDT has its processes, and what of that is the container's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdt: Option<Group>,
}

/// One process, identified so that a later process with the same pid is not taken for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// In the runtime's pid namespace.
    pub pid: i32,
    /// Clock ticks after boot: field 22 of proc_pid_stat(5).
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`: ticks and pids start anew with each boot.
    pub boot_id: String,
}

/// <https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state>, and runc's `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

impl Process {
    /// The process `pid` as it is now.
    ///
    /// # Errors
    /// There is none, or `/proc` is not readable.
    pub fn of(pid: i32) -> Result<Process> {
        let what = || format!("cannot identify process {pid}");
        let stat = read_stat(pid).map_err(|e| Error::io(what(), "open /proc/PID/stat", e))?;
        let unknown = || Error::new(Kind::Kernel, what()).because("/proc/PID/stat has an unknown form");
        let start_time = stat.ok_or_else(unknown)?.start_time;
        let boot_id = boot_id().map_err(|e| Error::io(what(), "open /proc/sys/kernel/random/boot_id", e))?;
        Ok(Process { pid, start_time, boot_id })
    }

    /// Whether exactly this process still runs; a zombie does not.
    pub fn is_alive(&self) -> bool {
        let Ok(Some(stat)) = read_stat(self.pid) else { return false };
        stat.start_time == self.start_time
            && !stat.is_dead()
            && boot_id().is_ok_and(|boot_id| boot_id == self.boot_id)
    }
}

/// What proc_pid_stat(5) says of interest here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    threads: i64,
    start_time: u64,
}

impl Stat {
    fn is_dead(&self) -> bool {
        // A main thread that called pthread_exit(3) looks like a zombie while the others go on.
        matches!(self.state, b'X' | b'x') || self.state == b'Z' && self.threads <= 1
    }
}

fn read_stat(pid: i32) -> std::io::Result<Option<Stat>> {
    Ok(parse_stat(&std::fs::read(format!("/proc/{pid}/stat"))?))
}

fn parse_stat(stat: &[u8]) -> Option<Stat> {
    // The second field is the command in parentheses, which may hold spaces and parentheses itself.
    let command_end = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[command_end + 1..]).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let threads = fields.nth(16)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    Some(Stat { state, threads, start_time })
}

fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

impl State {
    /// The status now.
    pub fn status(&self, entry: &Entry) -> Status {
        match &self.init {
            None if self.creator.as_ref().is_some_and(Process::is_alive) => Status::Creating,
            Some(init) if init.is_alive() => {
                if self.cgroup.is_frozen().unwrap_or(false) {
                    Status::Paused
                } else if entry.awaits_start() {
                    Status::Created
                } else {
                    Status::Running
                }
            }
            _ => Status::Stopped,
        }
    }

    /// The document for `state`, and `list`, at this `status`. Names and order are runc's.
    pub fn document(&self, status: Status) -> Document<'_> {
        let pid = match &self.init {
            Some(init) if status != Status::Stopped => init.pid,
            _ => 0,
        };
        Document {
            oci_version: &self.oci_version,
            id: &self.id,
            pid,
            status,
            bundle: self.bundle.to_string_lossy().into(),
            rootfs: self.rootfs.to_string_lossy().into(),
            created: &self.created,
            annotations: &self.annotations,
            owner: String::new(),
        }
    }

    /// The document that hooks read on standard input. `pid` is the init's as the hook sees it: a
    /// hook in the container's namespaces sees another one than the runtime does; 0 once it is gone.
    pub fn hook_document(&self, status: Status, pid: i32) -> Vec<u8> {
        let hook = HookDocument {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid,
            bundle: self.bundle.to_string_lossy(),
            annotations: &self.annotations,
        };
        // Strings and numbers alone: nothing that serialisation can refuse.
        serde_json::to_vec(&hook).unwrap_or_default()
    }
}

/// A container as `state` and `list` show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document<'a> {
    oci_version: &'a str,
    pub id: &'a str,
    pub pid: i32,
    pub status: Status,
    pub bundle: String,
    rootfs: String,
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// A user name in `list`, empty in `state`.
    pub owner: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HookDocument<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: Cow<'a, str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_command_name() {
        let rest = "4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 3 21 4242 23 24";
        for command in ["sh", "a b", "x) Z 1", "((", ""] {
            let stat = parse_stat(format!("77 ({command}) S {rest}").as_bytes()).unwrap();
            assert_eq!(stat, Stat { state: b'S', threads: 3, start_time: 4242 });
        }
        assert_eq!(parse_stat(b"77 (sh) S 1 2"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_process_is_itself_only() {
        let myself = Process::of(std::process::id() as i32).unwrap();
        assert!(myself.is_alive());
        assert!(!Process { start_time: myself.start_time + 1, ..myself.clone() }.is_alive());
        assert!(!Process { boot_id: "another".to_owned(), ..myself.clone() }.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::of(child.id() as i32).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(std::path::Path::new(&format!("/proc/{}", child.id())).exists());
        assert!(!process.is_alive(), "a zombie counts as dead");
        child.wait().unwrap();
        assert!(!process.is_alive());
    }

    #[test]
    fn documents_have_runcs_shape() {
        let state = State {
            oci_version: "1.3.0".into(),
            id: "a".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-11-20T18:58:28.6Z".into(),
            init: Some(Process { pid: 7, start_time: 1, boot_id: String::new() }),
            ..State::default()
        };
        assert_eq!(
            serde_json::to_string(&state.document(Status::Running)).unwrap(),
            r#"{"ociVersion":"1.3.0","id":"a","pid":7,"status":"running","bundle":"/b","rootfs":"/b/rootfs","created":"2026-11-20T18:58:28.6Z","owner":""}"#
        );
        assert_eq!(state.document(Status::Stopped).pid, 0);
        assert!(!String::from_utf8(state.hook_document(Status::Stopped, 0)).unwrap().contains("pid"));
        assert_eq!(
            String::from_utf8(state.hook_document(Status::Creating, 7)).unwrap(),
            r#"{"ociVersion":"1.3.0","id":"a","status":"creating","pid":7,"bundle":"/b"}"#
        );
    }
}
