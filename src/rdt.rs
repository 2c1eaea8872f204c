//! Intel's Resource Director Technology: a class of service (a share of the cache and of the memory's
//! bandwidth) and a monitoring group, as directories of the resctrl file system.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#intelrdt> and the kernel's
//! filesystems/resctrl.rst. Without `linux.intelRdt` nothing here is called. A directory that was there
//! before us is used and never changed or removed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::spec::IntelRdt;

const POINTER: &str = "/linux/intelRdt";

/// What the container asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// The directory below the file system's root; empty: the default class, which is the root itself.
    name: String,
    /// config.json names the class: it may be somebody else's.
    named: bool,
    /// Lines for `schemata`.
    lines: Vec<String>,
    /// The name of its monitoring group.
    monitor: Option<String>,
}

impl Class {
    /// The class that `rdt` asks for, for the container `id`.
    pub fn of(rdt: &IntelRdt, id: &str) -> Class {
        let named = rdt.clos_id.as_deref().filter(|name| !name.is_empty());
        let monitors = [rdt.enable_monitoring, rdt.enable_cmt, rdt.enable_mbm].contains(&Some(true));
        Class {
            name: named.unwrap_or(id).trim_matches('/').to_owned(),
            named: named.is_some(),
            lines: lines(rdt),
            monitor: monitors.then(|| id.to_owned()),
        }
    }

    /// The class by its name.
    pub fn name(&self) -> String {
        match self.name.as_str() {
            "" => "the default RDT class".to_owned(),
            name => format!("the RDT class {name}"),
        }
    }

    /// The class in words, with all that is asked of it.
    pub fn describe(&self) -> String {
        let class = self.name();
        let lines =
            if self.lines.is_empty() { String::new() } else { format!(" ({})", self.lines.join(" ")) };
        let monitor = if self.monitor.is_some() { " with a monitoring group" } else { "" };
        format!("{class}{lines}{monitor}")
    }

    fn what(&self) -> String {
        format!("cannot use {}", self.describe())
    }
}

/// The resource that a line of `schemata` is about: "L3".
fn resource(line: &str) -> &str {
    line.split(':').next().unwrap_or(line).trim()
}

/// The lines for `schemata`. Those of `schemata` count before the older properties; the bandwidth has a
/// property of its own, before the lines of `l3CacheSchema` that are about it. The kernel takes no
/// resource twice.
fn lines(rdt: &IntelRdt) -> Vec<String> {
    let whole = |text: &str| !text.trim().is_empty();
    let mut lines: Vec<&str> =
        rdt.schemata.iter().flatten().map(String::as_str).filter(|line| whole(line)).collect();
    let given: Vec<&str> = lines.iter().map(|line| resource(line)).collect();
    let bandwidth = rdt.mem_bw_schema.as_deref().filter(|line| whole(line));
    let cache = rdt.l3_cache_schema.as_deref().unwrap_or_default().lines();
    let cache = cache.filter(|line| whole(line) && (bandwidth.is_none() || resource(line) != "MB"));
    lines.extend(cache.chain(bandwidth).filter(|line| !given.contains(&resource(line))));
    lines.into_iter().map(|line| line.trim().to_owned()).collect()
}

/// Whether everything that `wanted` says of a resource holds in `schemata`, the content of that file.
fn holds(wanted: &str, schemata: &str) -> bool {
    let values = |line: &str| -> Vec<(String, String)> {
        let (resource, values) = line.split_once(':').unwrap_or((line, ""));
        let pair = |value: &str| {
            let (domain, value) = value.split_once('=')?;
            let (domain, value) = (domain.trim().to_owned(), value.trim());
            // Bit masks are hexadecimal with any number of zeroes before them.
            let mask = u64::from_str_radix(value, 16).ok().filter(|_| resource.trim() != "MB");
            Some((domain, mask.map_or_else(|| value.to_owned(), |mask| format!("{mask:x}"))))
        };
        values.split(';').filter_map(pair).collect()
    };
    let has = schemata.lines().find(|line| resource(line) == resource(wanted)).map(values);
    has.is_some_and(|has| values(wanted).iter().all(|value| has.contains(value)))
}

/// Where a container's processes are put, and what of it is ours to remove. Kept in `state.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The directory of the class.
    class: PathBuf,
    /// The directory of the monitoring group.
    monitor: Option<PathBuf>,
    /// The class did not exist before.
    owns_class: bool,
    /// Others may have come to use the class since.
    shared: bool,
    /// The monitoring group did not exist before.
    owns_monitor: bool,
}

impl Group {
    /// Finds where the class is, and proves that it can be had, without making anything.
    ///
    /// # Errors
    /// `Unsupported` without a mounted resctrl; `InvalidSpec` if a class that exists says something else
    /// than config.json, or one that should exist does not.
    pub fn locate(class: &Class) -> Result<Group> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|e| Error::io(class.what(), "open /proc/self/mountinfo", e))?;
        let Some(root) = mounted(&mounts) else {
            return Err(Error::new(Kind::Unsupported, class.what()).at(POINTER).because(
                "no resctrl file system is mounted, usually on /sys/fs/resctrl: the processor may lack Intel RDT, or the kernel",
            ));
        };
        Group::locate_in(Path::new(root), class)
    }

    fn locate_in(root: &Path, class: &Class) -> Result<Group> {
        let path = root.join(&class.name);
        let schemata = match std::fs::read_to_string(path.join("schemata")) {
            Ok(schemata) => Some(schemata),
            Err(cause) if cause.kind() == ErrorKind::NotFound => None,
            Err(cause) => {
                return Err(Error::io(class.what(), "open schemata", cause).at(POINTER));
            }
        };
        let refuse = |reason: String| Error::new(Kind::InvalidSpec, class.what()).because(reason);
        match &schemata {
            Some(schemata) => {
                if let Some(line) = class.lines.iter().find(|line| !holds(line, schemata)) {
                    let has: Vec<_> = schemata.lines().map(str::trim).collect();
                    let reason = format!("it exists and has not {line:?} but {:?}", has.join(" "));
                    return Err(refuse(reason).at(POINTER));
                }
            }
            None if class.named && class.lines.is_empty() => {
                let reason = "it does not exist, and without schemata it is not made".to_owned();
                return Err(refuse(reason).at(format!("{POINTER}/closID")));
            }
            None => {}
        }
        let monitor = class.monitor.as_ref().map(|name| path.join("mon_groups").join(name));
        Ok(Group {
            owns_class: schemata.is_none(),
            shared: class.named,
            owns_monitor: monitor.as_ref().is_some_and(|path| !path.exists()),
            class: path,
            monitor,
        })
    }

    /// Makes what is missing. The group is on record by then.
    pub fn make(&mut self, class: &Class) -> Result<()> {
        let failed = |group: &Group, call: &str, cause| group.failed(class.what(), call, cause).at(POINTER);
        if self.owns_class {
            // Should somebody have come in between it is not ours to remove.
            std::fs::create_dir(&self.class).map_err(|cause| {
                self.owns_class = false;
                failed(self, "mkdir", cause)
            })?;
            if !class.lines.is_empty() {
                // The kernel takes the lines of one write together, or none of them.
                let text = class.lines.join("\n") + "\n";
                std::fs::write(self.class.join("schemata"), text)
                    .map_err(|cause| failed(self, "write schemata", cause))?;
            }
        }
        if let Some(monitor) = self.monitor.clone().filter(|_| self.owns_monitor) {
            std::fs::create_dir(monitor).map_err(|cause| {
                self.owns_monitor = false;
                failed(self, "mkdir mon_groups", cause)
            })?;
        }
        Ok(())
    }

    /// Puts a process with one thread into the class; what it starts later is in it, too.
    pub fn join(&self, pid: i32) -> Result<()> {
        // The class first: a monitoring group takes only processes of its own class.
        for directory in [Some(&self.class), self.monitor.as_ref()].into_iter().flatten() {
            std::fs::write(directory.join("tasks"), pid.to_string()).map_err(|cause| {
                let what = format!("cannot put process {pid} into {}", directory.display());
                self.failed(what, "write tasks", cause).at(POINTER)
            })?;
        }
        Ok(())
    }

    /// Removes what was made for the container. A class that config.json named stays as long as anybody
    /// is in it. What is gone is no error.
    pub fn remove(&self) -> Result<()> {
        if let Some(monitor) = self.monitor.as_ref().filter(|_| self.owns_monitor) {
            self.remove_one(monitor)?;
        }
        if self.owns_class && !(self.shared && self.is_used()) {
            self.remove_one(&self.class)?;
        }
        Ok(())
    }

    fn is_used(&self) -> bool {
        std::fs::read(self.class.join("tasks")).is_ok_and(|tasks| !tasks.is_empty())
    }

    fn remove_one(&self, directory: &Path) -> Result<()> {
        match std::fs::remove_dir(directory) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(self.failed(format!("cannot remove {}", directory.display()), "rmdir", cause))
            }
            _ => Ok(()),
        }
    }

    /// An error with what resctrl itself says about the last failure.
    fn failed(&self, what: String, call: &str, cause: std::io::Error) -> Error {
        let error = Error::io(what, call, cause);
        let root =
            if self.class.join("info").exists() { Some(self.class.as_path()) } else { self.class.parent() };
        let status = root.and_then(|root| std::fs::read_to_string(root.join("info/last_cmd_status")).ok());
        match status.as_deref().map(str::trim).filter(|status| !matches!(*status, "" | "ok")) {
            Some(status) => error.because(status),
            None => error,
        }
    }
}

/// The mount point of the resctrl file system in a text of proc_pid_mountinfo(5).
fn mounted(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system.strip_prefix("resctrl ").and_then(|_| mount.split(' ').nth(4))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rdt(document: serde_json::Value) -> IntelRdt {
        serde_json::from_value(document).unwrap()
    }

    fn class(document: serde_json::Value) -> Class {
        Class::of(&rdt(document), "box")
    }

    /// A directory that looks like a resctrl file system, with one class, "gold".
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let root = std::env::temp_dir().join(format!("corten-rdt-{name}-{}", std::process::id()));
            let tree = Tree(root);
            for directory in ["info", "mon_groups", "gold/mon_groups"] {
                std::fs::create_dir_all(tree.0.join(directory)).unwrap();
            }
            tree.put("schemata", "    L3:0=fff;1=fff\n    MB:0=100;1=100\n");
            tree.put("gold/schemata", "    L3:0=00f;1=ff0\n    MB:0=50;1=100\n");
            tree.put("gold/tasks", "7\n");
            tree
        }

        fn put(&self, path: &str, text: &str) {
            std::fs::write(self.0.join(path), text).unwrap();
        }

        fn get(&self, path: &str) -> String {
            std::fs::read_to_string(self.0.join(path)).unwrap()
        }

        /// What the kernel does by itself: the files of a group go with it.
        fn empty(&self, directory: &str) {
            for file in ["schemata", "tasks", "mon_groups"] {
                let path = self.0.join(directory).join(file);
                std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).ok();
            }
        }

        fn locate(&self, class: &Class) -> Result<Group> {
            Group::locate_in(&self.0, class)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn the_mount_is_found_by_its_type() {
        let mounts = "36 35 0:31 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n\
                      40 35 0:35 / /sys/fs/resctrl rw,relatime - resctrl resctrl rw,mba_MBps\n";
        assert_eq!(mounted(mounts), Some("/sys/fs/resctrl"));
        assert_eq!(mounted("36 35 0:31 / /resctrl rw - tmpfs resctrl rw\n"), None);
    }

    #[test]
    fn no_resource_is_written_twice() {
        let all = rdt(serde_json::json!({
            "schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=ff\nMB:0=10\nL2:0=3", "memBwSchema": "MB:0=20"
        }));
        assert_eq!(lines(&all), ["L3:0=f", "L2:0=3", "MB:0=20"]);
        let old = rdt(serde_json::json!({ "l3CacheSchema": "L3:0=ff\nMB:0=10\n" }));
        assert_eq!(lines(&old), ["L3:0=ff", "MB:0=10"]);
    }

    #[test]
    fn a_class_of_its_own_is_made_joined_and_removed() {
        let tree = Tree::new("own");
        let class = class(serde_json::json!({ "schemata": ["L3:0=f", "MB:0=20"], "enableMonitoring": true }));
        let mut group = tree.locate(&class).unwrap();
        assert!(!tree.0.join("box").exists(), "locating makes nothing");
        // The kernel makes the subdirectory with the class.
        let monitored = group.make(&class).unwrap_err();
        assert!(monitored.to_string().contains("mkdir mon_groups"), "{monitored}");
        assert_eq!(tree.get("box/schemata"), "L3:0=f\nMB:0=20\n");
        std::fs::create_dir_all(tree.0.join("box/mon_groups/box")).unwrap();
        group.join(42).unwrap();
        assert_eq!((tree.get("box/tasks"), tree.get("box/mon_groups/box/tasks")), ("42".into(), "42".into()));
        group.owns_monitor = true;
        tree.empty("box/mon_groups/box");
        group.remove().unwrap_err();
        assert!(!tree.0.join("box/mon_groups/box").exists());
        tree.empty("box");
        group.remove().unwrap();
        assert!(!tree.0.join("box").exists());
        group.remove().expect("what is gone is no error");
    }

    #[test]
    fn a_class_that_exists_must_say_the_same_and_stays() {
        let tree = Tree::new("existing");
        let gold = class(serde_json::json!({ "closID": "gold", "schemata": ["L3:0=f;1=0ff0"] }));
        let mut group = tree.locate(&gold).unwrap();
        group.make(&gold).unwrap();
        assert_eq!(tree.get("gold/schemata"), "    L3:0=00f;1=ff0\n    MB:0=50;1=100\n");
        group.join(43).unwrap();
        group.remove().unwrap();
        assert!(tree.0.join("gold").exists());
        let other = class(serde_json::json!({ "closID": "gold", "memBwSchema": "MB:0=60" }));
        assert_eq!(
            tree.locate(&other).unwrap_err().to_string(),
            "cannot use the RDT class gold (MB:0=60) (config.json#/linux/intelRdt): it exists and has not \
             \"MB:0=60\" but \"L3:0=00f;1=ff0 MB:0=50;1=100\""
        );
        let unknown = class(serde_json::json!({ "closID": "silver" }));
        let error = tree.locate(&unknown).unwrap_err();
        assert!(error.to_string().contains("it does not exist"), "{error}");
    }

    #[test]
    fn a_named_class_of_ours_stays_while_others_use_it() {
        let tree = Tree::new("named");
        let silver = class(serde_json::json!({ "closID": "silver", "schemata": ["L3:0=f"] }));
        let mut group = tree.locate(&silver).unwrap();
        group.make(&silver).unwrap();
        tree.put("silver/tasks", "8\n");
        group.remove().unwrap();
        assert!(tree.0.join("silver").exists());
        tree.empty("silver");
        group.remove().unwrap();
        assert!(!tree.0.join("silver").exists());
    }

    #[test]
    fn the_default_class_is_the_root_and_never_ours() {
        let tree = Tree::new("default");
        let default = class(serde_json::json!({ "closID": "/", "enableMonitoring": true }));
        assert_eq!(default.describe(), "the default RDT class with a monitoring group");
        let mut group = tree.locate(&default).unwrap();
        group.make(&default).unwrap();
        group.join(44).unwrap();
        assert_eq!((tree.get("tasks"), tree.get("mon_groups/box/tasks")), ("44".into(), "44".into()));
        tree.empty("mon_groups/box");
        group.remove().unwrap();
        assert!(tree.0.exists() && !tree.0.join("mon_groups/box").exists());
    }

    #[test]
    fn the_kernels_own_words_are_told() {
        let tree = Tree::new("words");
        tree.put("info/last_cmd_status", "Out of CLOSIDs\n");
        let class = class(serde_json::json!({}));
        let mut group = tree.locate(&class).unwrap();
        std::fs::create_dir(tree.0.join("box")).unwrap();
        let error = group.make(&class).unwrap_err().to_string();
        assert!(error.ends_with("mkdir: file exists: Out of CLOSIDs"), "{error}");
    }
}
