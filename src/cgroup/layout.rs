//! What cgroup file systems this machine offers, read once and then a plain value.
//!
//! Reads; never creates or changes anything. On a pure v2 machine /proc/self/mountinfo is not
//! opened: it grows with the number of containers. On v1 it is opened only where the usual place
//! `/sys/fs/cgroup/<controllers>` is not the root of that hierarchy (a container without a private
//! cgroup namespace, unusual mount points). See cgroups(7) and proc_pid_mountinfo(5).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::stat;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use serde::{Deserialize, Serialize};

use super::Cgroup;
use crate::error::{Error, Kind, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// Where systemd, and everybody after it, mounts cgroup2 beside v1 hierarchies.
const UNIFIED: &str = "/sys/fs/cgroup/unified";
/// The inode number of the root of every kernfs (fs/kernfs/dir.c, kernfs_create_root).
const ROOT_INODE: u64 = 1;

/// The interface of one hierarchy: cgroups(7) "version 1" or "version 2".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    V1,
    V2,
}

/// All hierarchies: on v2 exactly one; on v1 one for each set of controllers mounted together, and
/// on a hybrid machine the cgroup2 hierarchy after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// V2 where the unified hierarchy is the only one.
    pub version: Version,
    pub hierarchies: Vec<Hierarchy>,
}

/// One mounted hierarchy, as the runtime's own process sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    pub version: Version,
    /// v1: what is mounted, `["cpu", "cpuacct"]`, or `["name=systemd"]` for a hierarchy without
    /// controllers. v2: the controllers of its root, empty on a pure v2 machine, where they are
    /// read from `cgroup.controllers` when a cgroup is created.
    pub controllers: Vec<String>,
    pub mountpoint: PathBuf,
    /// The cgroup that is visible at `mountpoint`: `/` but for bind mounts of a sub-tree.
    pub root: String,
    /// The runtime's own cgroup, as /proc/self/cgroup says.
    pub own: String,
}

impl Layout {
    /// Looks at /sys/fs/cgroup, /proc/self/cgroup and, only if need be, /proc/self/mountinfo.
    ///
    /// Without any cgroup file system the value has no hierarchies: whether that is an error
    /// depends on what the container asks for.
    pub fn read() -> Result<Layout> {
        let own = read_text("/proc/self/cgroup")?;
        if filesystem(Path::new(ROOT))? == Some(CGROUP2_SUPER_MAGIC) {
            let own = parse_membership(&own).into_iter().find(|(controllers, _)| controllers.is_empty());
            return Ok(Layout::unified(ROOT, own.map_or("/", |(_, path)| path)));
        }
        let mut layout = Layout { version: Version::V1, hierarchies: Vec::new() };
        let mut mounts = None;
        for (controllers, own) in parse_membership(&own) {
            if let Some(hierarchy) = usual_place(&controllers, own)? {
                layout.hierarchies.push(hierarchy);
                continue;
            }
            if mounts.is_none() {
                mounts = Some(read_text("/proc/self/mountinfo")?);
            }
            let mounts = mounts.as_deref().unwrap_or_default();
            layout.hierarchies.extend(find_mount(mounts, &controllers, own, Hierarchy::is_reachable));
        }
        for hierarchy in &mut layout.hierarchies {
            if hierarchy.version == Version::V2 {
                let offered = read_text(hierarchy.mountpoint.join("cgroup.controllers"))?;
                hierarchy.controllers = offered.split_whitespace().map(str::to_owned).collect();
            }
        }
        // Last, because `hierarchies` is also the order of creation and of removal.
        layout.hierarchies.sort_by_key(|hierarchy| hierarchy.version == Version::V2);
        Ok(layout)
    }

    /// A pure v2 layout with `own` as the runtime's cgroup.
    pub fn unified(mountpoint: impl Into<PathBuf>, own: &str) -> Layout {
        Layout {
            version: Version::V2,
            hierarchies: vec![Hierarchy {
                version: Version::V2,
                controllers: Vec::new(),
                mountpoint: mountpoint.into(),
                root: "/".to_owned(),
                own: own.to_owned(),
            }],
        }
    }

    /// v1 hierarchies and a cgroup2 hierarchy beside them.
    pub fn is_hybrid(&self) -> bool {
        self.version == Version::V1 && self.hierarchies.iter().any(|h| h.version == Version::V2)
    }

    /// The cgroup in which process `pid` is now: where `exec` goes when the container's init was
    /// moved away from where we created it.
    pub fn cgroup_of(&self, pid: i32) -> Result<Cgroup> {
        let file = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&file)
            .map_err(|e| Error::io(format!("cannot find the cgroup of process {pid}"), "open", e))?;
        let membership = parse_membership(&text);
        Ok(Cgroup::new(self.hierarchies.iter().filter_map(|hierarchy| {
            let (_, path) = membership.iter().find(|(controllers, _)| hierarchy.is_named(controllers))?;
            Some(hierarchy.dir(hierarchy.visible(path)))
        })))
    }
}

impl Hierarchy {
    /// The part of cgroup `path` below what is mounted, with a leading slash; `/` for a path outside.
    pub(super) fn visible<'a>(&self, path: &'a str) -> &'a str {
        let below = match self.root.as_str() {
            "/" => path,
            root => match path.strip_prefix(root) {
                Some(below) if below.is_empty() || below.starts_with('/') => below,
                _ => "/",
            },
        };
        // "/../x" is how a cgroup outside of our cgroup namespace looks.
        if below.is_empty() || below.starts_with("/..") { "/" } else { below }
    }

    pub(super) fn dir(&self, path: impl Into<String>) -> super::Dir {
        super::Dir {
            version: self.version,
            controllers: self.controllers.clone(),
            mountpoint: self.mountpoint.clone(),
            path: path.into(),
        }
    }

    /// Whether it is what its path leads to: mountinfo also tells of mounts that others cover.
    fn is_reachable(&self) -> bool {
        let magic = match self.version {
            Version::V1 => CGROUP_SUPER_MAGIC,
            Version::V2 => CGROUP2_SUPER_MAGIC,
        };
        filesystem(&self.mountpoint).is_ok_and(|found| found == Some(magic))
    }

    fn is_named(&self, controllers: &[&str]) -> bool {
        match self.version {
            Version::V1 => self.controllers == controllers,
            Version::V2 => controllers.is_empty(),
        }
    }
}

/// The lines of /proc/PID/cgroup: (controllers, path). The unified hierarchy has no controllers.
fn parse_membership(text: &str) -> Vec<(Vec<&str>, &str)> {
    text.lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            Some((controllers.split(',').filter(|name| !name.is_empty()).collect(), path))
        })
        .collect()
}

/// The hierarchy at `/sys/fs/cgroup/<controllers>`, if its whole tree is mounted there.
fn usual_place(controllers: &[&str], own: &str) -> Result<Option<Hierarchy>> {
    let (version, mountpoint, magic) = match controllers {
        [] => (Version::V2, PathBuf::from(UNIFIED), CGROUP2_SUPER_MAGIC),
        names => {
            let name = names.join(",");
            let name = name.strip_prefix("name=").unwrap_or(&name);
            (Version::V1, Path::new(ROOT).join(name), CGROUP_SUPER_MAGIC)
        }
    };
    let whole = || stat(&mountpoint).is_ok_and(|stat| stat.st_ino == ROOT_INODE);
    if filesystem(&mountpoint)? != Some(magic) || !whole() {
        return Ok(None);
    }
    Ok(Some(Hierarchy {
        version,
        controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        mountpoint,
        root: "/".to_owned(),
        own: own.to_owned(),
    }))
}

/// The first mount of the hierarchy in the text of a mountinfo file that `usable` accepts.
fn find_mount(
    mountinfo: &str,
    controllers: &[&str],
    own: &str,
    usable: fn(&Hierarchy) -> bool,
) -> Option<Hierarchy> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, mountpoint) = (unescape(mount.next()?), unescape(mount.next()?));
        let mut filesystem = filesystem.split(' ');
        let version = match filesystem.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options: Vec<&str> = filesystem.nth(1)?.split(',').collect();
        let wanted = match version {
            Version::V1 => {
                !controllers.is_empty() && controllers.iter().all(|controller| options.contains(controller))
            }
            Version::V2 => controllers.is_empty(),
        };
        let hierarchy = Hierarchy {
            version,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
            mountpoint: mountpoint.into(),
            root,
            own: own.to_owned(),
        };
        (wanted && usable(&hierarchy)).then_some(hierarchy)
    })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    if text.contains("\\134") {
        text = text.replace("\\134", "\\");
    }
    text
}

fn filesystem(path: &Path) -> Result<Option<FsType>> {
    match statfs(path) {
        Ok(stat) => Ok(Some(stat.filesystem_type())),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
        Err(errno) => {
            Err(Error::kernel(format!("cannot look for cgroups at {}", path.display()), "statfs", errno))
        }
    }
}

fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|e| {
        let kind = if e.kind() == ErrorKind::NotFound { Kind::Unsupported } else { Kind::Kernel };
        Error::io(format!("cannot read the cgroup layout from {}", path.display()), "open", e).of_kind(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_CONTAINER: &str = "\
811 800 0:31 /docker/c1 /sys/fs/cgroup/cpu,cpuacct ro,nosuid master:9 - cgroup cgroup rw,cpu,cpuacct
812 800 0:32 /docker/c1 /sys/fs/cgroup/sys\\040temd ro,nosuid master:9 - cgroup cgroup rw,xattr,name=systemd
813 800 0:33 / /sys/fs/cgroup/unified ro - cgroup2 cgroup rw,nsdelegate
814 800 0:34 / /proc rw - proc proc rw";

    #[test]
    fn membership_is_parsed() {
        assert_eq!(
            parse_membership("12:cpu,cpuacct:/a\n3:name=systemd:/b:c\n0::/d\n"),
            [(vec!["cpu", "cpuacct"], "/a"), (vec!["name=systemd"], "/b:c"), (vec![], "/d")]
        );
    }

    #[test]
    fn bind_mounts_of_a_subtree_are_found() {
        let find = |controllers: &[&str], own| find_mount(IN_CONTAINER, controllers, own, |_| true);
        let cpu = find(&["cpu", "cpuacct"], "/docker/c1/sub").expect("cpu");
        assert_eq!(cpu.mountpoint, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!((cpu.root.as_str(), cpu.visible(&cpu.own)), ("/docker/c1", "/sub"));
        assert_eq!(cpu.visible("/docker/c1"), "/");
        assert_eq!(cpu.visible("/docker/c10"), "/");
        let systemd = find(&["name=systemd"], "/").expect("systemd");
        assert_eq!(systemd.mountpoint, Path::new("/sys/fs/cgroup/sys temd"));
        let unified = find(&[], "/../x").expect("unified");
        assert_eq!((unified.version, unified.visible(&unified.own)), (Version::V2, "/"));
        assert_eq!(find(&["memory"], "/"), None);
        let covered = |hierarchy: &Hierarchy| hierarchy.version != Version::V2;
        assert_eq!(find_mount(IN_CONTAINER, &[], "/", covered), None);
    }

    #[test]
    fn this_machine_is_read() {
        let layout = Layout::read().expect("layout");
        for hierarchy in &layout.hierarchies {
            let own = hierarchy.dir(hierarchy.visible(&hierarchy.own)).full_path();
            assert!(own.join("cgroup.procs").exists(), "{}", own.display());
        }
        if layout.version == Version::V2 {
            assert_eq!(layout.hierarchies.len(), 1);
        }
    }
}
