//! What this runtime can do, as `features` tells engines: dockerd and containerd ask when they start.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/features.md>. The document tells what the
//! runtime knows, whatever the kernel makes of it, but for `supportedFlags` of seccomp.

use serde::Serialize;
use serde_json::{Value, json};

use super::state::OCI_VERSION;
use crate::{plan, seccomp, spec};

/// The features document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; 6],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: Value,
    potentially_unsafe_config_annotations: [&'static str; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: [&'static str; 8],
    capabilities: Vec<String>,
    cgroup: Value,
    seccomp: seccomp::features::Features,
    apparmor: Value,
    selinux: Value,
    intel_rdt: Value,
    memory_policy: Value,
    mount_extensions: Value,
    net_devices: Value,
}

/// What this build can do on this kernel.
pub fn features() -> Features {
    let enabled = || json!({ "enabled": true });
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_by_key(caps::Capability::index);
    Features {
        oci_version_min: "1.0.0",
        oci_version_max: OCI_VERSION,
        hooks: ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        mount_options: plan::mount_options().collect(),
        linux: Linux {
            namespaces: ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            cgroup: json!({ "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true }),
            seccomp: seccomp::features::features(corten_init::sys::seccomp::knows_flags),
            apparmor: enabled(),
            selinux: enabled(),
            intel_rdt: json!({ "enabled": true, "schemata": true, "monitoring": true }),
            memory_policy: json!({
                "modes": spec::MEMORY_POLICY_MODES,
                "flags": spec::MEMORY_POLICY_FLAGS,
            }),
            mount_extensions: json!({ "idmap": enabled() }),
            net_devices: enabled(),
        },
        // The key that clients ask before they offer checkpoints, whatever the runtime.
        annotations: json!({ "org.opencontainers.runc.checkpoint.enabled": "false" }),
        potentially_unsafe_config_annotations: ["org.systemd.property."],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_types_read_it() {
        let text = serde_json::to_string(&features()).expect("JSON");
        let read: oci_spec::runtime::Features = serde_json::from_str(&text).expect("a features document");
        assert_eq!(read.hooks().as_ref().map(Vec::len), Some(6));
        let linux = read.linux().as_ref().expect("linux");
        assert!(linux.capabilities().as_ref().is_some_and(|all| all.contains(&"CAP_SYS_ADMIN".to_owned())));
        let seccomp = linux.seccomp().as_ref().expect("seccomp");
        assert_eq!((*seccomp.enabled(), seccomp.actions().as_ref().map(Vec::len)), (Some(true), Some(9)));
        assert_eq!(linux.namespaces().as_ref().map(Vec::len), Some(8));
    }

    #[test]
    fn what_it_lists_is_what_a_configuration_may_say() {
        let document = serde_json::to_value(features()).expect("JSON");
        let list = |pointer: &str| {
            let all = document.pointer(pointer).and_then(Value::as_array).expect("a list").clone();
            assert!(!all.is_empty(), "{pointer}");
            all
        };
        let problems = |linux: Value| {
            let spec = json!({ "ociVersion": "1.3.0", "root": { "path": "r" }, "linux": linux,
                "process": { "cwd": "/", "args": ["a"] } });
            spec::problems(&spec::Spec::parse(spec.to_string().as_bytes()).expect("a configuration"))
        };
        for kind in list("/linux/namespaces") {
            let joined = json!({ "namespaces": [{ "type": kind, "path": "/proc/1/ns/x" }] });
            assert_eq!(problems(joined), [], "{kind}");
        }
        assert_ne!(problems(json!({ "namespaces": [{ "type": "network2" }] })), []);
        for mode in list("/linux/memoryPolicy/modes") {
            let nodes = if mode == "MPOL_DEFAULT" || mode == "MPOL_LOCAL" { "" } else { "0" };
            assert_eq!(problems(json!({ "memoryPolicy": { "mode": mode, "nodes": nodes } })), [], "{mode}");
        }
        for name in list("/linux/capabilities") {
            assert!(name.as_str().is_some_and(|name| name.parse::<caps::Capability>().is_ok()), "{name}");
        }
    }
}
