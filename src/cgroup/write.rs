//! The one writer of cgroup settings.
//!
//! It writes what it is given, or fails with the property, the file and the kernel's answer; it
//! never skips a setting because the kernel refused it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::file::{is_gone, open_at, open_dir, open_dir_at, read};
use super::{Cgroup, Dir, Missing, Setting, Version};
use crate::error::{Error, Kind, Result, describe};
use crate::spec::Resources;

impl Cgroup {
    /// Writes all settings. `document` is where their pointers point into: "config.json".
    ///
    /// The order of dependent values (quota and period, memory and swap, cpus of a parent) depends
    /// on what the cgroup has now: a setting that is refused is tried again when another one was
    /// accepted.
    ///
    /// # Errors
    ///
    /// `Unsupported` if a controller is missing, otherwise `Kernel`. What was written before stays:
    /// at creation the cgroup is removed then, and [`Cgroup::update`] undoes it.
    pub fn apply(&self, settings: &[Setting], document: &str) -> Result<()> {
        let mut writer = Writer { cgroup: self, dirs: Vec::new(), last: None };
        let mut pending: Vec<&Setting> = settings.iter().collect();
        loop {
            let before = pending.len();
            let mut first = None;
            pending.retain(|setting| match writer.write(setting) {
                Ok(()) => false,
                Err(failure) => {
                    first.get_or_insert((*setting, failure));
                    true
                }
            });
            match first {
                None => return Ok(()),
                Some((setting, failure)) if pending.len() == before => {
                    return Err(self.refused(setting, failure).at_in(document, &setting.pointer));
                }
                Some(_) => {}
            }
        }
    }

    /// As [`Cgroup::apply`], in a cgroup with processes: on failure what was there before comes back.
    pub fn update(&self, settings: &[Setting], document: &str) -> Result<()> {
        let before: Vec<Setting> = settings.iter().rev().filter_map(|setting| self.before(setting)).collect();
        self.apply(settings, document).map_err(|error| match self.apply(&before, document) {
            Ok(()) => error,
            Err(undo) => {
                let cause = format!("and then the old limits could not be restored: {undo}");
                Error::new(error.kind(), error.to_string()).because(cause)
            }
        })
    }

    /// `memory.checkBeforeUpdate`: refuses limits below the present use, which would start the OOM
    /// killer.
    pub fn check_usage(&self, resources: &Resources, document: &str, prefix: &str) -> Result<()> {
        let Some(memory) = resources.memory.as_ref().filter(|m| m.check_before_update() == Some(true)) else {
            return Ok(());
        };
        let Some(dir) = self.dir("memory") else {
            return Ok(());
        };
        let used = |file: &str| -> Result<i64> {
            let text = open_dir(&dir.full_path()).and_then(|fd| read(fd, file));
            let text =
                text.map_err(|errno| dir.cannot("check the memory use of", &format!("read {file}"), errno))?;
            Ok(text.trim().parse().unwrap_or(i64::MAX))
        };
        let rejected = |what: String, at: &str| {
            Err(Error::new(Kind::Kernel, what).at_in(document, format!("{prefix}/memory/{at}")))
        };
        if let Some(limit) = memory.limit().filter(|&limit| limit > 0) {
            let file = if dir.version == Version::V2 { "memory.current" } else { "memory.usage_in_bytes" };
            let usage = used(file)?;
            if usage > limit {
                return rejected(format!("rejecting memory limit {limit} < usage {usage}"), "limit");
            }
        }
        if let Some(swap) = memory.swap().filter(|&swap| swap > 0) {
            let usage = match dir.version {
                Version::V1 => used("memory.memsw.usage_in_bytes")?,
                Version::V2 => {
                    used("memory.current")?.saturating_add(used("memory.swap.current").unwrap_or(0))
                }
            };
            if usage > swap {
                return rejected(format!("rejecting memory+swap limit {swap} < usage {usage}"), "swap");
            }
        }
        Ok(())
    }

    /// The setting that undoes `setting`. None where there is nothing to undo.
    fn before(&self, setting: &Setting) -> Option<Setting> {
        let fd = open_dir(&self.dir(&setting.controller)?.full_path()).ok()?;
        let read_old = |file: &str, value: &str| previous(file, value, &read(&fd, file).ok()?);
        let (file, value) = match (read_old(&setting.file, &setting.value), &setting.missing) {
            (Some(value), _) => (setting.file.clone(), value),
            (None, Missing::Instead(file, value)) => ((*file).into(), read_old(file, value)?),
            (None, _) => return None,
        };
        Some(Setting { file, value, missing: Missing::Ignored, ..setting.clone() })
    }

    /// Words a failure to write `setting`.
    fn refused(&self, setting: &Setting, failure: Failure) -> Error {
        let Setting { controller, file, value, .. } = setting;
        let (call, errno) = match failure {
            Failure::NoHierarchy => {
                let what =
                    format!("cannot set {controller} limit: container could not join or create cgroup");
                let cause = if self.is_none() {
                    "it has no cgroup".to_owned()
                } else {
                    format!("no {controller} controller is mounted")
                };
                return Error::new(Kind::Unsupported, what).because(cause);
            }
            Failure::Kernel(call, errno) => (call, errno),
        };
        let what = format!("cannot set {controller} limit");
        let Some(dir) = self.dir(controller) else {
            return Error::kernel(what, call, errno);
        };
        let call = format!("{call} {value:?} to {}", dir.full_path().join(&**file).display());
        let error = Error::kernel(&what, &call, errno);
        if errno == Errno::ENOENT {
            let cause = dir.missing_controller(controller);
            return cause.map_or(error, |cause| {
                Error::new(Kind::Unsupported, what).because(format!("{call}: {}: {cause}", describe(errno)))
            });
        }
        match memory_use(dir, file) {
            Some(usage) if errno == Errno::EBUSY => error.because(usage),
            _ => error,
        }
    }
}

enum Failure {
    NoHierarchy,
    Kernel(&'static str, Errno),
}

/// Keeps the last file open: device rules are many lines for one file.
struct Writer<'a> {
    cgroup: &'a Cgroup,
    dirs: Vec<(&'a Dir, OwnedFd)>,
    last: Option<(&'a Dir, String, File)>,
}

impl Writer<'_> {
    fn write(&mut self, setting: &Setting) -> std::result::Result<(), Failure> {
        let Some(index) = self.dir(&setting.controller)? else {
            let asks_for_nothing = setting.missing == Missing::Ignored;
            return if asks_for_nothing { Ok(()) } else { Err(Failure::NoHierarchy) };
        };
        match (self.write_file(index, &setting.file, &setting.value), &setting.missing) {
            (Err(Failure::Kernel("open", Errno::ENOENT)), Missing::Ignored) => Ok(()),
            (Err(Failure::Kernel("open", Errno::ENOENT)), Missing::Instead(file, value)) => {
                self.write_file(index, file, value)
            }
            (result, _) => result,
        }
    }

    fn dir(&mut self, controller: &str) -> std::result::Result<Option<usize>, Failure> {
        let Some(dir) = self.cgroup.dir(controller) else {
            return Ok(None);
        };
        if let Some(index) = self.dirs.iter().position(|(known, _)| *known == dir) {
            return Ok(Some(index));
        }
        let fd = open_dir(&dir.full_path()).map_err(|errno| Failure::Kernel("open cgroup for", errno))?;
        self.dirs.push((dir, fd));
        Ok(Some(self.dirs.len() - 1))
    }

    fn write_file(&mut self, index: usize, file: &str, value: &str) -> std::result::Result<(), Failure> {
        let (dir, fd) = &self.dirs[index];
        if !matches!(&self.last, Some((last, name, _)) if last == dir && name == file) {
            let open = open_at(fd, file, OFlag::O_WRONLY).map_err(|errno| Failure::Kernel("open", errno))?;
            self.last = Some((dir, file.to_owned(), File::from(open)));
        }
        let Some((_, _, open)) = &mut self.last else {
            return Err(Failure::Kernel("open", Errno::EBADF));
        };
        // write_all: kernfs takes or refuses the whole value; a signal interrupts a memory limit's reclaim.
        open.write_all(value.as_bytes())
            .map_err(|error| Failure::Kernel("write", Errno::from_raw(error.raw_os_error().unwrap_or(0))))
    }
}

/// What to write to `file` to undo the writing of `value`, when the file now says `text`.
fn previous(file: &str, value: &str, text: &str) -> Option<String> {
    if file.starts_with("devices.") {
        return None;
    }
    if file == "memory.oom_control" {
        return super::file::value_of(text, "oom_kill_disable").map(str::to_owned);
    }
    let text = text.trim();
    // A file with one line for each device or interface.
    let keyed = file.starts_with("blkio.throttle.")
        || file.ends_with("_device")
        || matches!(file, "io.max" | "rdma.max" | "net_prio.ifpriomap")
        || (file.ends_with(".weight") && value.contains(':'));
    if !keyed {
        // io.weight and its like begin with the default.
        let first = text.lines().next().unwrap_or_default();
        return Some(first.strip_prefix("default ").unwrap_or(first).to_owned());
    }
    let key = value.split(' ').next().unwrap_or_default();
    let old = text.lines().find(|line| line.split(' ').next() == Some(key));
    old.map(str::to_owned).or_else(|| match file {
        "io.max" => Some(format!("{key} rbps=max wbps=max riops=max wiops=max")),
        _ if file.starts_with("blkio.throttle.") => Some(format!("{key} 0")),
        _ if file.ends_with(".weight") => Some(format!("{key} default")),
        _ => None,
    })
}

fn memory_use(dir: &Dir, file: &str) -> Option<String> {
    if file != "memory.limit_in_bytes" && file != "memory.memsw.limit_in_bytes" {
        return None;
    }
    let fd = open_dir(&dir.full_path()).ok()?;
    let number = |file: &str| Some(read(&fd, file).ok()?.trim().to_owned());
    let (now, peak) = (number("memory.usage_in_bytes")?, number("memory.max_usage_in_bytes")?);
    Some(format!("unable to set memory limit (current usage: {now}, peak usage: {peak})"))
}

impl Dir {
    /// Why `controller` has no files in this v2 cgroup.
    fn missing_controller(&self, controller: &str) -> Option<String> {
        if self.version == Version::V1 {
            return None;
        }
        let root = open_dir(&self.mountpoint).ok()?;
        let has = |fd: &OwnedFd, file: &str| {
            read(fd, file).is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
        };
        if !has(&root, "cgroup.controllers") {
            return Some(format!("this machine offers no {controller} controller in cgroup v2"));
        }
        let mut path = std::path::PathBuf::from(".");
        for component in self.relative().components() {
            let fd = open_dir_at(&root, &path).ok()?;
            if !has(&fd, "cgroup.subtree_control") {
                let place = self.mountpoint.join(&path);
                let place = place.components().collect::<std::path::PathBuf>();
                let busy = read(&fd, "cgroup.procs").is_ok_and(|procs| !procs.is_empty());
                let why = if busy && path != std::path::Path::new(".") {
                    ", which has processes of its own"
                } else {
                    ""
                };
                return Some(format!("controller {controller} is not enabled in {}{why}", place.display()));
            }
            path.push(component);
        }
        match open_dir(&self.full_path()) {
            Err(errno) if is_gone(errno) => Some("the cgroup is gone".to_owned()),
            _ => Some(format!("controller {controller} is enabled, but this kernel has no such file")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::previous;

    #[test]
    fn what_was_before() {
        for (file, value, text, expected) in [
            ("memory.max", "5", "max\n", Some("max")),
            ("cpu.max", "5 6", "max 100000\n", Some("max 100000")),
            ("io.weight", "5", "default 100\n8:0 7\n", Some("100")),
            ("io.bfq.weight", "8:0 5", "default 100\n8:0 7\n", Some("8:0 7")),
            ("io.bfq.weight", "8:16 5", "default 100\n8:0 7\n", Some("8:16 default")),
            ("io.max", "8:0 rbps=1", "", Some("8:0 rbps=max wbps=max riops=max wiops=max")),
            ("io.max", "8:0 rbps=1", "8:16 rbps=1\n8:0 rbps=2 wbps=max\n", Some("8:0 rbps=2 wbps=max")),
            ("blkio.throttle.read_bps_device", "8:0 1", "", Some("8:0 0")),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", Some("0")),
            ("devices.allow", "c 1:3 rwm", "", None),
            ("rdma.max", "mlx5_0 hca_handle=1", "mlx5_1 hca_handle=2\n", None),
        ] {
            assert_eq!(previous(file, value, text).as_deref(), expected, "{file} {value}");
        }
    }
}
