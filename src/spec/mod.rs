//! The configuration of a container as `config.json` says it, and nothing more.
//!
//! The vocabulary is [`oci_spec::runtime`]; where that crate rejects or loses input that the
//! [runtime specification](https://github.com/opencontainers/runtime-spec/blob/main/config.md)
//! allows, the part is modelled here: enumerations stay strings until [`validate`] has seen them,
//! so that every violation can be reported at once with its JSON pointer, capabilities keep unknown
//! names (they are warned about, not refused), maps keep a stable order, and numbers keep their
//! whole range. Unknown properties are ignored, as the specification demands.
//!
//! This module parses and checks bytes. It never looks at the host.

mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use oci_spec::runtime::{
    Hook, Hooks, LinuxBlockIo, LinuxCpu, LinuxIdMapping, LinuxMemory, LinuxNetDevice, LinuxNetwork,
    LinuxRdma, LinuxTimeOffset, Mount,
};
use serde::{Deserialize, Serialize};

pub use validate::{Problem, problems, process_problems};

use crate::error::{Error, Kind, Result};

/// `config.json`: <https://github.com/opencontainers/runtime-spec/blob/main/config.md>.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(rename = "ociVersion")]
    pub version: String,
    pub process: Option<Process>,
    pub root: Option<Root>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub mounts: Option<Vec<Mount>>,
    pub hooks: Option<Hooks>,
    pub annotations: Option<BTreeMap<String, String>>,
    pub linux: Option<Linux>,
}

/// The container's root file system.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    pub path: PathBuf,
    pub readonly: bool,
}

/// The container's process, also what `exec --process` reads.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    pub user: User,
    pub args: Option<Vec<String>>,
    pub env: Option<Vec<String>>,
    pub cwd: String,
    pub capabilities: Option<Capabilities>,
    pub rlimits: Option<Vec<Rlimit>>,
    pub no_new_privileges: bool,
    pub apparmor_profile: Option<String>,
    pub oom_score_adj: Option<i32>,
    pub selinux_label: Option<String>,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    #[serde(rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize)]
#[serde(default)]
pub struct ConsoleSize {
    pub height: u64,
    pub width: u64,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub umask: Option<u32>,
    pub additional_gids: Option<Vec<u32>>,
}

/// Names as written. Unknown ones are kept: they are warned about and skipped, never refused.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities {
    pub bounding: Option<Vec<String>>,
    pub effective: Option<Vec<String>>,
    pub inheritable: Option<Vec<String>>,
    pub permitted: Option<Vec<String>>,
    pub ambient: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Rlimit {
    /// `RLIMIT_*`, see getrlimit(2).
    #[serde(rename = "type")]
    pub kind: String,
    pub hard: u64,
    pub soft: u64,
}

/// sched_setattr(2); names as in the specification (`SCHED_BATCH`, `SCHED_FLAG_RESET_ON_FORK`).
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Scheduler {
    pub policy: String,
    pub nice: Option<i32>,
    pub priority: Option<i32>,
    pub flags: Option<Vec<String>>,
    pub runtime: Option<u64>,
    pub deadline: Option<u64>,
    pub period: Option<u64>,
}

/// ioprio_set(2).
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct IoPriority {
    pub class: String,
    pub priority: i64,
}

/// CPU lists such as `0-3,7`, applied before and after an exec'd process joins the cgroup.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct CpuAffinity {
    pub initial: Option<String>,
    #[serde(rename = "final")]
    pub last: Option<String>,
}

/// <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md>.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    pub namespaces: Option<Vec<Namespace>>,
    pub uid_mappings: Option<Vec<LinuxIdMapping>>,
    pub gid_mappings: Option<Vec<LinuxIdMapping>>,
    pub time_offsets: Option<BTreeMap<String, LinuxTimeOffset>>,
    pub devices: Option<Vec<Device>>,
    pub net_devices: Option<BTreeMap<String, LinuxNetDevice>>,
    pub cgroups_path: Option<String>,
    pub resources: Option<Resources>,
    pub intel_rdt: Option<IntelRdt>,
    pub memory_policy: Option<MemoryPolicy>,
    pub sysctl: Option<BTreeMap<String, String>>,
    pub seccomp: Option<Seccomp>,
    pub rootfs_propagation: Option<String>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub mount_label: Option<String>,
    pub personality: Option<Personality>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The namespace to join; absent or empty: a new one.
    pub path: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    pub path: String,
    /// `c`, `u`, `b` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub file_mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// Cgroup limits, also what `update --resources` reads.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    pub devices: Option<Vec<DeviceRule>>,
    pub memory: Option<LinuxMemory>,
    pub cpu: Option<LinuxCpu>,
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub block_io: Option<LinuxBlockIo>,
    pub hugepage_limits: Option<Vec<HugepageLimit>>,
    pub network: Option<LinuxNetwork>,
    pub rdma: Option<BTreeMap<String, LinuxRdma>>,
    pub unified: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct DeviceRule {
    pub allow: bool,
    /// `a` (or absent, or empty), `c` or `b`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Absent or -1: every major number.
    pub major: Option<i64>,
    /// Absent or -1: every minor number.
    pub minor: Option<i64>,
    /// Some of `rwm`; absent or empty: all of them.
    pub access: Option<String>,
}

/// `limit` is a pointer in the specification: 0 is a real limit, -1 is no limit, absent changes nothing.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Pids {
    pub limit: Option<i64>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HugepageLimit {
    pub page_size: String,
    pub limit: u64,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct IntelRdt {
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    pub schemata: Option<Vec<String>>,
    #[serde(rename = "l3CacheSchema")]
    pub l3_cache_schema: Option<String>,
    #[serde(rename = "memBwSchema")]
    pub mem_bw_schema: Option<String>,
    #[serde(rename = "enableMonitoring")]
    pub enable_monitoring: Option<bool>,
    #[serde(rename = "enableCMT")]
    pub enable_cmt: Option<bool>,
    #[serde(rename = "enableMBM")]
    pub enable_mbm: Option<bool>,
}

/// set_mempolicy(2); names as in the specification (`MPOL_BIND`, `MPOL_F_STATIC_NODES`).
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryPolicy {
    pub mode: String,
    pub nodes: Option<String>,
    pub flags: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Personality {
    pub domain: String,
    pub flags: Option<Vec<String>>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    pub default_action: String,
    pub default_errno_ret: Option<u32>,
    pub architectures: Option<Vec<String>>,
    /// Absent and empty differ: absent means the runtime's default flags, empty means none.
    pub flags: Option<Vec<String>>,
    pub listener_path: Option<String>,
    pub listener_metadata: Option<String>,
    pub syscalls: Option<Vec<Syscall>>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Syscall {
    pub names: Vec<String>,
    pub action: String,
    pub errno_ret: Option<u32>,
    pub args: Option<Vec<SyscallArg>>,
}

#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyscallArg {
    pub index: u32,
    pub value: u64,
    pub value_two: u64,
    pub op: String,
}

impl Spec {
    /// Parses `config.json`. A value of a wrong type is an error that names its place.
    pub fn parse(bytes: &[u8]) -> Result<Spec> {
        parse(bytes, "config.json")
    }

    /// `linux`, or its empty default where config.json has none.
    pub fn linux(&self) -> &Linux {
        static NONE: std::sync::LazyLock<Linux> = std::sync::LazyLock::new(Linux::default);
        self.linux.as_ref().unwrap_or(&NONE)
    }
}

/// Parses a JSON document of this module's types; `what` names it in the error.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|_| {
        // Only a failed parse is worth the slower parser that knows where it is.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let failure = serde_path_to_error::deserialize::<_, T>(&mut json).err().map(|e| {
            let pointer = pointer(e.path());
            (e.into_inner(), pointer)
        });
        match failure {
            Some((cause, pointer)) if !cause.is_syntax() && !cause.is_eof() => {
                Error::new(Kind::InvalidSpec, format!("cannot parse {what}"))
                    .at_in(what, pointer)
                    .because(cause)
            }
            Some((cause, _)) => Error::new(Kind::InvalidSpec, format!("cannot parse {what}")).because(cause),
            None => Error::new(Kind::InvalidSpec, format!("cannot parse {what}: trailing data")),
        }
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text += &format!("/{index}"),
            Segment::Map { key } => {
                text.push('/');
                text += &key.replace('~', "~0").replace('/', "~1");
            }
            Segment::Enum { variant } => text += &format!("/{variant}"),
            Segment::Unknown => {}
        }
    }
    text
}
