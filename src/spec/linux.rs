//! The part of the document that only Linux has: `linux`, and what `update --resources` reads.
//! It models [config-linux.md](https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md)
//! and must not interpret it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::{
    LinuxBlockIo, LinuxCpu, LinuxIdMapping, LinuxMemory, LinuxNetDevice, LinuxNetwork, LinuxRdma,
    LinuxTimeOffset, nullable, object,
};

/// <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md>.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_mappings")]
    pub uid_mappings: Option<Vec<LinuxIdMapping>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_mappings")]
    pub gid_mappings: Option<Vec<LinuxIdMapping>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctl: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub resources: Option<Resources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<Namespace>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<Device>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write_net_devices")]
    pub net_devices: Option<BTreeMap<String, LinuxNetDevice>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub seccomp: Option<Seccomp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub intel_rdt: Option<IntelRdt>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub memory_policy: Option<MemoryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub personality: Option<Personality>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_offsets: Option<BTreeMap<String, LinuxTimeOffset>>,
}

impl Linux {
    /// The namespace of this type ("pid", "network", ...) that the container has for itself, new or joined.
    pub fn namespace(&self, kind: &str) -> Option<&Namespace> {
        self.namespaces.iter().flatten().find(|namespace| namespace.kind == kind)
    }
}

/// A namespace the container does not share with the caller.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// The namespace to join; absent or empty: a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Namespace {
    /// The path of the namespace to join; `None`: a new one is made.
    pub fn joined(&self) -> Option<&str> {
        self.path.as_deref().filter(|path| !path.is_empty())
    }
}

/// A device node in the container.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    #[serde(deserialize_with = "nullable")]
    pub path: String,
    /// `c`, `u`, `b` or `p`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// Cgroup limits, also what `update --resources` reads.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeviceRule>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub memory: Option<LinuxMemory>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub cpu: Option<LinuxCpu>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO", skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub block_io: Option<LinuxBlockIo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hugepage_limits: Option<Vec<HugepageLimit>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub network: Option<LinuxNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<BTreeMap<String, LinuxRdma>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unified: Option<BTreeMap<String, String>>,
}

/// One line of the device cgroup.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct DeviceRule {
    #[serde(deserialize_with = "nullable")]
    pub allow: bool,
    /// `a` (or absent, or empty), `c` or `b`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Absent or -1: every major number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// Absent or -1: every minor number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Some of `rwm`; absent or empty: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// `limit` is a pointer in the specification: 0 is a real limit, -1 is no limit, absent changes nothing.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Pids {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A limit of the hugetlb controller, in bytes.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HugepageLimit {
    #[serde(deserialize_with = "nullable")]
    pub page_size: String,
    #[serde(deserialize_with = "nullable")]
    pub limit: u64,
}

/// Intel's Resource Director Technology, see the kernel's filesystems/resctrl.rst.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct IntelRdt {
    #[serde(rename = "closID", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schemata: Option<Vec<String>>,
    #[serde(rename = "l3CacheSchema", skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    #[serde(rename = "memBwSchema", skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    #[serde(rename = "enableMonitoring", skip_serializing_if = "Option::is_none")]
    pub enable_monitoring: Option<bool>,
    #[serde(rename = "enableCMT", skip_serializing_if = "Option::is_none")]
    pub enable_cmt: Option<bool>,
    #[serde(rename = "enableMBM", skip_serializing_if = "Option::is_none")]
    pub enable_mbm: Option<bool>,
}

/// set_mempolicy(2); names as in the specification (`MPOL_BIND`, `MPOL_F_STATIC_NODES`).
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct MemoryPolicy {
    #[serde(deserialize_with = "nullable")]
    pub mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
}

/// personality(2).
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Personality {
    #[serde(deserialize_with = "nullable")]
    pub domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
}

/// seccomp(2) as libseccomp words it.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Seccomp {
    #[serde(deserialize_with = "nullable")]
    pub default_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architectures: Option<Vec<String>>,
    /// Absent and empty differ: absent means the runtime's default flags, empty means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syscalls: Option<Vec<Syscall>>,
}

/// What happens on some system calls, if all of `args` hold.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Syscall {
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<SyscallArg>>,
}

/// A condition on one argument of a system call.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SyscallArg {
    #[serde(deserialize_with = "nullable")]
    pub index: u32,
    #[serde(deserialize_with = "nullable")]
    pub value: u64,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_zero")]
    pub value_two: u64,
    #[serde(deserialize_with = "nullable")]
    pub op: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// oci-spec writes the host's id before the container's; Go's types, and so every engine, after it.
fn write_mappings<S: Serializer>(
    mappings: &Option<Vec<LinuxIdMapping>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Ordered {
        #[serde(rename = "containerID")]
        container: u32,
        #[serde(rename = "hostID")]
        host: u32,
        size: u32,
    }
    let ordered = |mapping: &LinuxIdMapping| Ordered {
        container: mapping.container_id(),
        host: mapping.host_id(),
        size: mapping.size(),
    };
    serializer.collect_seq(mappings.iter().flatten().map(ordered))
}

/// oci-spec writes a null for a device that keeps its name.
fn write_net_devices<S: Serializer>(
    devices: &Option<BTreeMap<String, LinuxNetDevice>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Named<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: &'a Option<String>,
    }
    serializer
        .collect_map(devices.iter().flatten().map(|(host, device)| (host, Named { name: device.name() })))
}
