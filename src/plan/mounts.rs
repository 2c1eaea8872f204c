//! Mounts: each becomes "make it, give it its attributes, put it in its place".

use std::path::Path;

use corten_init::program::{Op, Point, Text};
use corten_init::sys::MountAttr;
use libc::{MOUNT_ATTR__ATIME, MOUNT_ATTR_RDONLY};

use super::create::{Create, host_propagation};
use super::namespaces::Namespaces;
use super::options::Options;
use super::{Builder, IdMap, Open, Origin};
use crate::cgroup::Version;
use crate::error::{Error, Kind, Result};
use crate::spec::Mount;

/// The longest value that fsconfig(2) takes.
const MOST_VALUE: usize = 255;
/// File systems whose instance may be shared with others: `ro` is for our mount of it alone.
const SHARED: [&str; 8] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts", "tmpfs", "ramfs"];

/// One mount on its way into the plan.
struct Planned<'a> {
    mount: &'a Mount,
    kind: &'a str,
    target: Text,
    options: Options,
    in_proc: bool,
}

impl Planned<'_> {
    /// Whether it is a tmpfs that takes something over from the directory it covers.
    fn inherits(&self) -> bool {
        let has_mode = self.options.data.iter().any(|(key, _)| key == "mode");
        self.kind == "tmpfs" && (self.options.copy_up || !has_mode)
    }
}

/// Plans all of `mounts`, in their order.
pub(super) fn mounts(b: &mut Builder, create: &Create, namespaces: &Namespaces) -> Result<()> {
    for (index, mount) in create.spec.mounts.iter().flatten().enumerate() {
        b.from(Origin::item("/mounts", index));
        one(b, create, namespaces, mount)?;
    }
    if let Some(directory) = create.notify {
        let mut mount = Mount::default();
        mount.set_destination(super::NOTIFY_DIRECTORY.into());
        mount.set_typ(None);
        mount.set_source(Some(directory.to_owned()));
        let options = ["bind", "nosuid", "noexec", "nodev", "ro"];
        mount.set_options(Some(options.map(str::to_owned).to_vec()));
        one(b.from(Origin::NONE), create, namespaces, &mount)?;
    }
    Ok(())
}

/// Makes the mounts read-only that had to be filled first.
pub(super) fn late_readonly(b: &mut Builder, create: &Create) {
    for (index, mount) in create.spec.mounts.iter().flatten().enumerate() {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        if options.bind.is_none() && is_dev(mount) && options.set & MOUNT_ATTR_RDONLY != 0 {
            let target = b.text(mount.destination().as_os_str().as_encoded_bytes());
            b.from(Origin::item("/mounts", index));
            b.step(Op::Remount { target, flags: libc::MS_RDONLY, clear: 0 });
        }
    }
}

fn is_dev(mount: &Mount) -> bool {
    mount.destination().components().eq(Path::new("/dev").components())
}

/// Whether /dev is somebody else's, bound in whole: then nothing of ours is put into it.
pub(super) fn binds_dev(mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| {
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        (options.bind.is_some() || mount.typ().as_deref() == Some("bind")) && is_dev(mount)
    })
}

fn one(b: &mut Builder, create: &Create, namespaces: &Namespaces, mount: &Mount) -> Result<()> {
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or_default();
    if options.bind.is_none() && kind == "bind" {
        options.bind = Some(false);
    }
    // config.json's relative destinations are relative to the root (runtime-spec 1.2).
    let destination = Path::new("/").join(mount.destination());
    let target = b.text(destination.as_os_str().as_encoded_bytes());
    let in_proc = destination.starts_with("/proc");
    let planned = Planned { mount, kind, target, options, in_proc };
    if planned.options.remount {
        remount(b, &planned);
        return Ok(());
    }
    match (planned.options.bind, kind) {
        (Some(recursive), _) => bind(b, create, namespaces, &planned, recursive),
        (None, "cgroup") => {
            cgroup(b, create, namespaces, &planned);
            Ok(())
        }
        (None, _) => file_system(b, create, &planned),
    }
}

fn remount(b: &mut Builder, planned: &Planned) {
    let (options, target) = (&planned.options, planned.target);
    let flags = options.flags() | libc::MS_REMOUNT;
    let bind = if options.bind.is_some() { libc::MS_BIND } else { 0 };
    let data = options.joined();
    let (none, data) = (Text::default(), if data.is_empty() { Text::default() } else { b.text(data) });
    b.step(Op::LegacyMount {
        source: none,
        target,
        kind: none,
        flags: flags | bind,
        data,
        point: Point::Same,
        in_proc: planned.in_proc,
    });
    propagate(b, planned);
}

/// The source of a bind mount as an absolute path: a relative one is relative to the bundle.
fn source(create: &Create, mount: &Mount) -> String {
    let source = mount.source().as_deref().unwrap_or(Path::new(""));
    create.bundle.join(source).to_string_lossy().into_owned()
}

fn bind(
    b: &mut Builder,
    create: &Create,
    namespaces: &Namespaces,
    planned: &Planned,
    recursive: bool,
) -> Result<()> {
    let (options, mount) = (&planned.options, planned.mount);
    if options.file_system_flags | options.legacy != 0 {
        return Err(b
            .refuse(Kind::InvalidSpec, format!("cannot mount {}", mount.destination().display()))
            .because("a bind mount has no options of the file system (sync, dirsync, lazytime, mand, iversion, silent)"));
    }
    for (key, _) in &options.data {
        let note = format!("mount option {key:?} ({}) means nothing to a bind mount", b.origin);
        b.plan.notes.push(note);
    }
    let source = source(create, mount);
    let map = id_map(create, mount, options);
    if !create.host.calls.mount_setattr {
        return legacy_bind(b, planned, &source, recursive, map.is_some());
    }
    // In a user namespace the container's root may not reach the source, and an id map asks for the
    // privileges of the file system's owner: a parent who has both opens the tree.
    if map.is_some() || (!namespaces.is_shared("user") && create.host.is_privileged()) {
        let map_recursive = options.id_map == Some(true);
        let tree = b.open(Open::Tree { source, recursive, map, map_recursive });
        b.step(Op::TakeMount { tree });
        // The parent copies it in the host's mount namespace, where it stays a peer of its source: what is
        // mounted on it here would appear on the host. A new user namespace may never tell the host.
        let propagation = match host_propagation(create.spec) {
            libc::MS_SHARED if namespaces.is_shared("user") => 0,
            libc::MS_SHARED => libc::MS_SLAVE,
            other => other,
        };
        if propagation != 0 {
            let attr = MountAttr { propagation, ..MountAttr::default() };
            b.step(Op::SetMount { attr, recursive: true });
        }
    } else {
        let source = b.text(source);
        b.step(Op::CloneMount { source, recursive });
    }
    attributes(b, options);
    b.step(Op::Attach { target: planned.target, point: Point::Same, in_proc: planned.in_proc });
    Ok(())
}

fn legacy_bind(
    b: &mut Builder,
    planned: &Planned,
    source: &str,
    recursive: bool,
    mapped: bool,
) -> Result<()> {
    let options = &planned.options;
    if mapped || options.tree_set | options.tree_clear != 0 {
        return Err(b
            .refuse(Kind::Unsupported, format!("cannot mount {source}"))
            .because("recursive options and id maps need mount_setattr (Linux 5.12)"));
    }
    let (source, none) = (b.text(source), Text::default());
    let (target, in_proc) = (planned.target, planned.in_proc);
    let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
    b.step(Op::LegacyMount { source, target, kind: none, flags, data: none, point: Point::Same, in_proc });
    let (flags, clear) = (options.flags(), options.cleared_flags());
    if flags | clear != 0 {
        b.step(Op::Remount { target, flags, clear });
    }
    propagate(b, planned);
    Ok(())
}

/// The id map of a mount: its own, or that of the container, or none.
fn id_map(create: &Create, mount: &Mount, options: &Options) -> Option<IdMap> {
    let own = IdMap {
        uids: mount.uid_mappings().clone().unwrap_or_default(),
        gids: mount.gid_mappings().clone().unwrap_or_default(),
    };
    if !own.uids.is_empty() || !own.gids.is_empty() {
        return Some(own);
    }
    options.id_map?;
    let linux = create.spec.linux();
    Some(IdMap {
        uids: linux.uid_mappings.clone().unwrap_or_default(),
        gids: linux.gid_mappings.clone().unwrap_or_default(),
    })
}

/// Gives the mount that is being built its attributes and its propagation.
fn attributes(b: &mut Builder, options: &Options) {
    let mut all =
        [(attr(options.set, options.clear), false), (attr(options.tree_set, options.tree_clear), true)]
            .to_vec();
    all.extend(options.propagation.iter().map(|flags| {
        let propagation = flags & !libc::MS_REC;
        (MountAttr { propagation, ..MountAttr::default() }, flags & libc::MS_REC != 0)
    }));
    for (attr, recursive) in all.into_iter().filter(|(attr, _)| *attr != MountAttr::default()) {
        b.step(Op::SetMount { attr, recursive });
    }
}

/// The kernel wants the whole access-time field cleared when any of it is set.
fn attr(set: u64, clear: u64) -> MountAttr {
    let clear = if (set | clear) & MOUNT_ATTR__ATIME != 0 { clear | MOUNT_ATTR__ATIME } else { clear };
    MountAttr { set, clear, ..MountAttr::default() }
}

fn propagate(b: &mut Builder, planned: &Planned) {
    for flags in &planned.options.propagation {
        b.step(Op::Remount { target: planned.target, flags: *flags, clear: 0 });
    }
}

fn file_system(b: &mut Builder, create: &Create, planned: &Planned) -> Result<()> {
    let (options, kind) = (&planned.options, planned.kind);
    let tmpfs = kind == "tmpfs";
    let mut data = options.data.clone();
    if let Some(label) =
        create.mount_label().filter(|_| kind != "proc" && kind != "sysfs" && kind != "mqueue")
    {
        data.push(("context".to_owned(), label.to_owned()));
    }
    let point = if matches!(kind, "proc" | "sysfs") { Point::Ordinary } else { Point::Directory };
    let long = data.iter().any(|(_, value)| value.len() > MOST_VALUE);
    let map = id_map(create, planned.mount, options);
    if !create.host.calls.mount_setattr || options.legacy != 0 || long {
        if map.is_some() {
            return Err(refuse_map(b, create, planned));
        }
        let legacy = Options { data, ..options.clone() };
        legacy_file_system(b, planned, &legacy, point);
        return Ok(());
    }
    let source = planned.mount.source().as_deref().unwrap_or(Path::new(kind));
    let (kind_text, source) = (b.text(kind), b.text(source.as_os_str().as_encoded_bytes()));
    let mut words = Vec::new();
    for name in &options.file_system {
        words.extend([b.text(name), Text::default()]);
    }
    let readonly = options.set & MOUNT_ATTR_RDONLY != 0;
    if readonly && !SHARED.contains(&kind) {
        words.extend([b.text("ro"), Text::default()]);
    }
    for (key, value) in &data {
        words.extend([b.text(key), b.text(value)]);
    }
    let words = b.words(&words);
    // What will be filled or built upon becomes read-only afterwards.
    let late = readonly && (is_dev(planned.mount) || tmpfs);
    let attributes_now = if late { options.set & !MOUNT_ATTR_RDONLY } else { options.set };
    b.step(Op::NewMount { kind: kind_text, source, options: words, attributes: attributes_now });
    if let Some(map) = map {
        let userns = b.open(Open::Userns(map));
        b.step(Op::MapMount { userns, recursive: options.id_map == Some(true) });
    }
    inherit(b, planned, false);
    if late && !is_dev(planned.mount) {
        b.step(Op::SetMount { attr: attr(MOUNT_ATTR_RDONLY, 0), recursive: false });
    }
    attributes(b, &Options { set: 0, clear: 0, ..options.clone() });
    b.step(Op::Attach { target: planned.target, point, in_proc: planned.in_proc });
    Ok(())
}

/// What a tmpfs takes over from the directory it covers.
fn inherit(b: &mut Builder, planned: &Planned, covered: bool) {
    let target = planned.target;
    if planned.options.copy_up && planned.kind == "tmpfs" {
        b.step(Op::CopyUp { target, covered });
    } else if planned.inherits() {
        b.step(Op::KeepMode { target, covered });
    }
}

fn refuse_map(b: &Builder, create: &Create, planned: &Planned) -> Error {
    let reason = if create.host.calls.mount_setattr {
        "an id map does not go with what only mount(2) takes: iversion, silent, values above 255 bytes"
    } else {
        "recursive options and id maps need mount_setattr (Linux 5.12)"
    };
    let what = format!("cannot mount {}", planned.mount.destination().display());
    b.refuse(Kind::Unsupported, what).because(reason)
}

fn legacy_file_system(b: &mut Builder, planned: &Planned, options: &Options, point: Point) {
    let source = planned.mount.source().as_deref().unwrap_or(Path::new(planned.kind));
    let (kind, source) = (b.text(planned.kind), b.text(source.as_os_str().as_encoded_bytes()));
    let data = options.joined();
    let data = if data.is_empty() { Text::default() } else { b.text(data) };
    // What will be filled or built upon becomes read-only afterwards.
    let late = is_dev(planned.mount) || planned.inherits();
    let flags = options.flags() & if late { !libc::MS_RDONLY } else { u64::MAX };
    let (target, in_proc) = (planned.target, planned.in_proc);
    if planned.inherits() {
        b.step(Op::Remember { target });
    }
    b.step(Op::LegacyMount { source, target, kind, flags, data, point, in_proc });
    inherit(b, planned, true);
    if late && !is_dev(planned.mount) && options.flags() & libc::MS_RDONLY != 0 {
        b.step(Op::Remount { target, flags: libc::MS_RDONLY, clear: 0 });
    }
    propagate(b, planned);
}

/// What goes onto one mount point of a cgroup mount.
enum Tree<'a> {
    /// A new mount of this type with these options (keys and values).
    New { kind: &'a str, options: Vec<(String, String)> },
    /// A bind of this path.
    Bind(String),
}

/// A mount of type "cgroup": whatever this machine has. On v2 one mount; else a tmpfs with one
/// directory for each hierarchy. With a private cgroup namespace the container sees its own cgroup
/// as the root of fresh mounts; else it gets binds of the host's.
fn cgroup(b: &mut Builder, create: &Create, namespaces: &Namespaces, planned: &Planned) {
    let private = !namespaces.is_shared("cgroup");
    let layout = &create.host.cgroups;
    let options = &planned.options;
    if layout.version == Version::V2 {
        let tree = if private {
            Tree::New { kind: "cgroup2", options: Vec::new() }
        } else {
            Tree::Bind(layout.hierarchies[0].mountpoint.to_string_lossy().into_owned())
        };
        return place(b, create, planned, tree, planned.target, options);
    }
    let base = Path::new("/").join(planned.mount.destination());
    let base = base.to_string_lossy();
    // It is built upon, and becomes read-only at the end.
    let top = Options { set: options.set & !MOUNT_ATTR_RDONLY, ..options.clone() };
    let mode = vec![("mode".to_owned(), "755".to_owned())];
    place(b, create, planned, Tree::New { kind: "tmpfs", options: mode }, planned.target, &top);
    let inner = Options { propagation: Vec::new(), ..options.clone() };
    for hierarchy in &layout.hierarchies {
        let Some(name) = hierarchy.mountpoint.file_name().map(|name| name.to_string_lossy().into_owned())
        else {
            continue;
        };
        let tree = if !private {
            let own =
                b.plan.cgroup.dirs().iter().find(|dir| dir.full_path().starts_with(&hierarchy.mountpoint));
            let source = own.map_or_else(|| hierarchy.mountpoint.clone(), |dir| dir.full_path());
            Tree::Bind(source.to_string_lossy().into_owned())
        } else if hierarchy.version == Version::V2 {
            Tree::New { kind: "cgroup2", options: Vec::new() }
        } else {
            Tree::New {
                kind: "cgroup",
                options: hierarchy.controllers.iter().flat_map(|name| v1_options(name)).collect(),
            }
        };
        let target = b.text(format!("{base}/{name}"));
        place(b, create, planned, tree, target, &inner);
        // Controllers that are mounted together are found under each of their names, too.
        for controller in
            hierarchy.controllers.iter().filter(|controller| **controller != name && name.contains(','))
        {
            let (content, path) = (b.text(&name), b.text(format!("{base}/{controller}")));
            b.step(Op::Link { content, path, replace: false });
        }
    }
    if options.set & MOUNT_ATTR_RDONLY != 0 {
        b.step(Op::Remount { target: planned.target, flags: libc::MS_RDONLY, clear: 0 });
    }
}

/// The options that mount a v1 hierarchy: its controllers, or, without any, its name.
fn v1_options(controller: &str) -> Vec<(String, String)> {
    match controller.split_once('=') {
        Some((key, value)) => vec![("none".to_owned(), String::new()), (key.to_owned(), value.to_owned())],
        None => vec![(controller.to_owned(), String::new())],
    }
}

/// Plans one mount of a cgroup mount.
fn place(b: &mut Builder, create: &Create, planned: &Planned, tree: Tree, target: Text, options: &Options) {
    let (point, in_proc) = (Point::Directory, planned.in_proc);
    if !create.host.calls.mount_setattr {
        let none = Text::default();
        let (source, kind, data, bind) = match &tree {
            Tree::New { kind, options } => {
                let data = Options { data: options.clone(), ..Options::default() }.joined();
                let data = if data.is_empty() { none } else { b.text(data) };
                (b.text("cgroup"), b.text(kind), data, 0)
            }
            Tree::Bind(path) => (b.text(path), none, none, libc::MS_BIND),
        };
        let flags = if bind == 0 { options.flags() } else { bind };
        b.step(Op::LegacyMount { source, target, kind, flags, data, point, in_proc });
        let clear = options.cleared_flags();
        if bind != 0 && options.flags() | clear != 0 {
            b.step(Op::Remount { target, flags: options.flags(), clear });
        }
        for flags in &options.propagation {
            b.step(Op::Remount { target, flags: *flags, clear: 0 });
        }
        return;
    }
    match tree {
        Tree::New { kind, options: data } => {
            let mut words = Vec::new();
            for (key, value) in &data {
                let value = if value.is_empty() { Text::default() } else { b.text(value) };
                words.extend([b.text(key), value]);
            }
            let (kind, source, words) = (b.text(kind), b.text("cgroup"), b.words(&words));
            b.step(Op::NewMount { kind, source, options: words, attributes: options.set });
            attributes(b, &Options { set: 0, clear: 0, ..options.clone() });
        }
        Tree::Bind(path) => {
            let source = b.text(path);
            b.step(Op::CloneMount { source, recursive: false });
            attributes(b, options);
        }
    }
    b.step(Op::Attach { target, point, in_proc });
}

/// maskedPaths and readonlyPaths. A path that is named twice is covered once.
pub(super) fn covers(b: &mut Builder, create: &Create) {
    let linux = create.spec.linux();
    let mount_api = create.host.calls.mount_setattr;
    let mut seen = std::collections::HashSet::new();
    for (index, path) in linux.readonly_paths.iter().flatten().enumerate() {
        if seen.insert(path) {
            let path = b.text(path);
            b.from(Origin::item("/linux/readonlyPaths", index)).step(Op::ReadonlyPath { path, mount_api });
        }
    }
    let mut seen = std::collections::HashSet::new();
    let label = create.mount_label().map(|label| {
        // mount(2) takes its data as one string.
        b.text(if mount_api { label.to_owned() } else { format!("context=\"{label}\"") })
    });
    let label = label.unwrap_or_default();
    for (index, path) in linux.masked_paths.iter().flatten().enumerate() {
        if seen.insert(path) {
            let path = b.text(path);
            b.from(Origin::item("/linux/maskedPaths", index)).step(Op::Mask { path, mount_api, label });
        }
    }
}
