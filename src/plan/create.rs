//! The plan of a new container, from the runtime's process to the container's.

use std::path::Path;

use corten_init::program::{Op, Sync};
use corten_init::sys::MountAttr;

use super::namespaces::{self, Namespaces, Source};
use super::{Builder, Origin, Plan, devices, labels, mounts, process};
use crate::cgroup::Cgroup;
use crate::error::{Kind, Result};
use crate::host::Host;
use crate::spec::{Spec, sysctl_path};

/// Where the container finds the directory of [`Create::notify`]: the same place as with runc.
pub const NOTIFY_DIRECTORY: &str = "/run/notify";
/// The name of the socket in it.
pub const NOTIFY_SOCKET: &str = "notify.sock";

/// What a plan for a new container is made from.
#[derive(Debug, Clone)]
pub struct Create<'a> {
    pub spec: &'a Spec,
    pub host: &'a Host,
    pub id: &'a str,
    /// The bundle's directory, absolute.
    pub bundle: &'a Path,
    /// The root file system's directory, absolute and without symbolic links.
    pub rootfs: &'a Path,
    pub cgroup: Cgroup,
    /// Use `MS_MOVE` instead of pivot_root(2).
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after stdio the container gets.
    pub preserve_fds: u32,
    /// How many of those came by systemd's socket activation (sd_listen_fds(3)).
    pub listen_fds: u32,
    /// The directory of the host, absolute, that the container finds as [`NOTIFY_DIRECTORY`], with the socket
    /// that `NOTIFY_SOCKET` of its process names (sd_notify(3)).
    pub notify: Option<&'a Path>,
    /// The container waits for `start`.
    pub waits: bool,
}

impl Create<'_> {
    /// The SELinux label of the container's file systems, where the kernel has SELinux.
    pub(super) fn mount_label(&self) -> Option<&str> {
        self.spec.linux().mount_label.as_deref().filter(|label| !label.is_empty() && self.host.selinux)
    }
}

/// Plans a new container. The specification must be valid.
pub fn create(create: &Create) -> Result<Plan> {
    let spec = create.spec;
    let namespaces = Namespaces::of(spec);
    let mut b = Builder::new(create.cgroup.clone());
    let b = &mut b;
    b.plan.rdt = spec.linux().intel_rdt.as_ref().map(|rdt| crate::rdt::Class::of(rdt, create.id));
    process::initial_affinity(b, spec.process.as_ref());
    namespaces::enter(b, spec, create.host, &namespaces);
    network(b, spec);
    names(b, spec);
    if !create.no_new_keyring {
        labels::keyring(b, spec, create.host)?;
        let name = b.text(format!("_ses.{}", create.id));
        b.from(Origin::NONE).step(Op::Keyring { name });
    }
    // Modes are exactly what config.json says.
    b.step(Op::Umask { mask: 0 });
    let own_root = !namespaces.is_shared("mount");
    if own_root {
        root(b, create);
        mounts::mounts(b, create, &namespaces)?;
        devices::devices(b, create, &namespaces)?;
        if let Some(process) = spec.process.as_ref().filter(|process| process.terminal) {
            process::terminal(b, process, create.host, true);
        }
    } else {
        let path = b.text(create.rootfs.as_os_str().as_encoded_bytes());
        b.from(Origin::at("/root/path")).step(Op::UseRoot { path });
        if let Some(process) = spec.process.as_ref().filter(|process| process.terminal) {
            process::terminal(b, process, create.host, false);
        }
    }
    if let Some(process) = &spec.process {
        let path = b.text(&process.cwd);
        b.from(Origin::at("/process/cwd")).step(Op::MakeDirectory { path, mode: 0o755 });
    }
    let sysctls = spec.linux().sysctl.iter().flatten().count() > 0;
    if sysctls || labels::needs_proc(spec.process.as_ref()) {
        b.from(Origin::NONE).step(Op::OpenProc);
    }
    if let Some(hooks) = &spec.hooks {
        let early = [hooks.prestart(), hooks.create_runtime(), hooks.create_container()];
        if early.iter().any(|hooks| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty())) {
            b.from(Origin::at("/hooks")).step(Op::Sync(Sync::Hooks));
        }
    }
    // Hooks may bring the interfaces that a parameter is about.
    sysctl(b, spec);
    if own_root {
        finish_root(b, create);
    } else {
        b.from(Origin::at("/root/path")).step(Op::Chroot);
    }
    let Some(process) = &spec.process else {
        return Err(b
            .from(Origin::at("/process"))
            .refuse(Kind::InvalidSpec, "cannot create a container without a process"));
    };
    b.filter(spec)?;
    let rules = process::Rules {
        host: create.host,
        groups_denied: groups_denied(create, &namespaces),
        in_userns: !namespaces.is_shared("user"),
        umask: create.host.umask,
        preserve_fds: create.preserve_fds,
        listen_fds: create.listen_fds,
        notifies: create.notify.is_some(),
        waits: create.waits,
        always_ready: true,
    };
    process::steps(b, process, Some(spec), &rules)?;
    std::mem::replace(b, Builder::new(Cgroup::none())).finish()
}

/// Whether setgroups(2) is forbidden where the process will be: in a user namespace that an ordinary
/// user mapped without newgidmap(1).
fn groups_denied(create: &Create, namespaces: &Namespaces) -> bool {
    namespaces.get("user") != Source::Shared
        && !create.host.is_privileged()
        && !create.host.has(crate::host::CAP_SETGID)
}

fn network(b: &mut Builder, spec: &Spec) {
    let devices: Vec<_> = spec.linux().net_devices.iter().flatten().collect();
    if !devices.is_empty() {
        b.from(Origin::at("/linux/netDevices")).step(Op::Sync(Sync::Network));
    }
    for (host, device) in devices {
        let name = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| host.clone());
        b.plan.net_devices.push((host.clone(), name));
    }
}

fn names(b: &mut Builder, spec: &Spec) {
    if let Some(name) = spec.hostname.as_ref().filter(|name| !name.is_empty()) {
        let name = b.text(name);
        b.from(Origin::at("/hostname")).step(Op::Hostname(name));
    }
    if let Some(name) = spec.domainname.as_ref().filter(|name| !name.is_empty()) {
        let name = b.text(name);
        b.from(Origin::at("/domainname")).step(Op::Domainname(name));
    }
}

/// The flags of `rootfsPropagation`.
fn propagation(spec: &Spec) -> Option<u64> {
    let name = spec.linux().rootfs_propagation.as_deref().filter(|name| !name.is_empty())?;
    let recursive = if name.starts_with('r') { libc::MS_REC } else { 0 };
    let flags = match name.trim_start_matches('r') {
        "shared" => libc::MS_SHARED,
        "slave" => libc::MS_SLAVE,
        "private" => libc::MS_PRIVATE,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some(flags | recursive)
}

/// What the mounts of the host are made before anything is built on them.
pub(super) fn host_propagation(spec: &Spec) -> u64 {
    let wanted = propagation(spec).map_or(libc::MS_SLAVE, |flags| flags & !libc::MS_REC);
    // An unbindable tree could not give us the binds we need; it becomes so at the end.
    if wanted == libc::MS_UNBINDABLE { libc::MS_PRIVATE } else { wanted }
}

fn root(b: &mut Builder, create: &Create) {
    let path = b.text(create.rootfs.as_os_str().as_encoded_bytes());
    let wanted = host_propagation(create.spec);
    b.from(Origin::at("/linux/rootfsPropagation")).step(Op::Propagation { flags: wanted | libc::MS_REC });
    b.from(Origin::at("/root/path"));
    if wanted == libc::MS_SHARED {
        // pivot_root(2) refuses a root whose parent would tell others of it.
        b.step(Op::PrivateParent { path });
    }
    b.step(Op::OpenRoot { path, mount_api: create.host.calls.mount_api });
}

fn finish_root(b: &mut Builder, create: &Create) {
    mounts::covers(b, create);
    mounts::late_readonly(b, create);
    if create.spec.root.as_ref().is_some_and(|root| root.readonly) {
        let attr = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
        b.from(Origin::at("/root/readonly"))
            .step(Op::SetRoot { attr, mount_api: create.host.calls.mount_setattr });
    }
    b.from(Origin::at("/root/path"));
    if create.no_pivot {
        for path in &create.host.kernel_mounts {
            if !path.starts_with(create.rootfs) {
                let path = b.text(path.as_os_str().as_encoded_bytes());
                b.step(Op::Discard { path });
            }
        }
        b.step(Op::MoveRoot);
    } else {
        b.step(Op::PivotRoot);
    }
    if let Some(flags) = propagation(create.spec) {
        b.from(Origin::at("/linux/rootfsPropagation")).step(Op::RootPropagation { flags });
    }
}

fn sysctl(b: &mut Builder, spec: &Spec) {
    for (key, value) in spec.linux().sysctl.iter().flatten() {
        let path = sysctl_path(key).unwrap_or_default();
        let (path, value) = (b.text(format!("sys/{path}")), b.text(value));
        b.from(Origin::at("/linux/sysctl")).step(Op::Sysctl { path, value });
    }
}
