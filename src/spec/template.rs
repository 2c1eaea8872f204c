//! The document that `spec` writes as a starting point, the same that runc writes. It must stay a
//! document that runs as it is once a root file system stands beside it.

use oci_spec::runtime::LinuxIdMappingBuilder;

use super::{Linux, Mount, Namespace, Spec, parse};

/// What the written document depends on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Template {
    /// The effective user and group id to map to the container's root: a container for a caller
    /// without privileges.
    pub rootless: Option<(u32, u32)>,
    /// Gives the container an own cgroup namespace: on hosts with the unified cgroup hierarchy.
    pub cgroup_namespace: bool,
}

const DEFAULT: &[u8] = include_bytes!("template.json");

impl Template {
    /// The document, as runc's `spec` writes it on the same host. Written with `serde_json` and
    /// indented by tabs it is the same byte for byte.
    pub fn document(&self) -> Spec {
        let mut spec: Spec = parse(DEFAULT, "template.json").expect("the template is a document");
        let linux = spec.linux.get_or_insert_default();
        let namespaces = linux.namespaces.get_or_insert_default();
        if self.cgroup_namespace {
            namespaces.push(new("cgroup"));
        }
        if let Some((uid, gid)) = self.rootless {
            namespaces.retain(|namespace| namespace.kind != "network");
            namespaces.push(new("user"));
            map_root(linux, uid, gid);
            for mount in spec.mounts.iter_mut().flatten() {
                soften(mount);
            }
        }
        spec
    }
}

fn new(kind: &str) -> Namespace {
    Namespace { kind: kind.to_owned(), path: None }
}

fn map_root(linux: &mut Linux, uid: u32, gid: u32) {
    let one = |host: u32| {
        let mapping = LinuxIdMappingBuilder::default().container_id(0u32).host_id(host).size(1u32).build();
        Some(vec![mapping.expect("every part has a default")])
    };
    linux.uid_mappings = one(uid);
    linux.gid_mappings = one(gid);
    linux.resources = None;
}

/// Only the owner of the network namespace may mount sysfs, and only mapped ids may own mounts.
fn soften(mount: &mut Mount) {
    if mount.destination().as_os_str() == "/sys" {
        mount.set_typ(Some("none".into())).set_source(Some("/sys".into()));
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
        mount.set_options(Some(options.map(String::from).to_vec()));
    } else if let Some(options) = mount.options_mut() {
        options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
    }
}
