//! Id maps: of the container's user namespace, and of mounts (user_namespaces(7), mount_setattr(2)).
//!
//! Whether a map is wise is not decided here: the plan says which, the kernel or newuidmap(1) says
//! whether we may.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};

use corten_init::sys::{self, MountAttr, Side};
use nix::errno::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::error::{Error, Kind, Result};
use crate::host::{CAP_SETGID, Host};
use crate::plan::IdMap;
use crate::spec::LinuxIdMapping;

const CAP_SETUID: u32 = 7;

/// Gives the user namespace that the process `pid` has just made its maps.
///
/// With CAP_SETUID and CAP_SETGID we write them ourselves. So does an ordinary user who maps nobody
/// but himself, which denies setgroups(2) in the namespace. Everything else is up to newuidmap(1) and
/// newgidmap(1), which ask /etc/subuid and /etc/subgid.
///
/// # Errors
/// The kernel or those programs refuse, or there are no such programs.
pub fn write_maps(pid: i32, map: &IdMap, host: &Host) -> Result<()> {
    match Way::of(map, host) {
        Way::Direct => {}
        Way::Oneself => {
            write(pid, "setgroups", "deny").map_err(|cause| {
                Error::io("cannot deny setgroups in the user namespace", "write /proc/PID/setgroups", cause)
            })?;
        }
        Way::Programs => {
            ask(pid, &map.uids, &USERS)?;
            return ask(pid, &map.gids, &GROUPS);
        }
    }
    store(pid, &map.uids, &USERS)?;
    store(pid, &map.gids, &GROUPS)
}

/// Who writes the maps.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Oneself,
    Programs,
}

impl Way {
    fn of(map: &IdMap, host: &Host) -> Way {
        let is_only = |mappings: &[LinuxIdMapping], id| matches!(mappings, [only] if (only.host_id(), only.size()) == (id, 1));
        if host.has(CAP_SETUID) && host.has(CAP_SETGID) {
            Way::Direct
        } else if is_only(&map.uids, host.uid) && is_only(&map.gids, host.gid) {
            Way::Oneself
        } else {
            Way::Programs
        }
    }
}

/// What differs between the two maps.
struct Ids {
    whose: &'static str,
    file: &'static str,
    program: &'static str,
    allowance: &'static str,
    pointer: &'static str,
}

const USERS: Ids = Ids {
    whose: "users",
    file: "uid_map",
    program: "newuidmap",
    allowance: "/etc/subuid",
    pointer: "/linux/uidMappings",
};

const GROUPS: Ids = Ids {
    whose: "groups",
    file: "gid_map",
    program: "newgidmap",
    allowance: "/etc/subgid",
    pointer: "/linux/gidMappings",
};

impl Ids {
    /// What could not be done, with the mappings as "inside-outside-count" of the kernel's own notation.
    fn what(&self, mappings: &[LinuxIdMapping]) -> String {
        let lines = IdMap::lines(mappings);
        let mut ranges = lines.trim_end().replace('\n', ", ");
        if let Some((end, _)) = ranges.char_indices().nth(80) {
            ranges.truncate(end);
            ranges.push_str(" ...");
        }
        format!("cannot map {} of the user namespace as {ranges:?}", self.whose)
    }
}

/// Writes a file of /proc/PID at once: the kernel takes a map in one write(2) or not at all.
fn write(pid: i32, file: &str, text: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(format!("/proc/{pid}/{file}"))?;
    match file.write(text.as_bytes())? {
        written if written == text.len() => Ok(()),
        _ => Err(ErrorKind::WriteZero.into()),
    }
}

fn store(pid: i32, mappings: &[LinuxIdMapping], ids: &Ids) -> Result<()> {
    // The kernel refuses an empty write; a namespace may well lack a map.
    if mappings.is_empty() {
        return Ok(());
    }
    write(pid, ids.file, &IdMap::lines(mappings)).map_err(|cause| {
        let why = match cause.raw_os_error() {
            Some(libc::EPERM) => {
                Some("each id must be mapped in our own user namespace, and id 0 of it asks for CAP_SETFCAP")
            }
            Some(libc::EINVAL) => {
                Some("the ranges must not overlap, must not be empty, must be at most 340, and fit in a page")
            }
            _ => None,
        };
        let error = Error::io(ids.what(mappings), &format!("write /proc/PID/{}", ids.file), cause);
        let error = why.into_iter().fold(error, |error, why| error.because(why));
        error.at(ids.pointer)
    })
}

/// Lets newuidmap(1) or newgidmap(1) write a map.
fn ask(pid: i32, mappings: &[LinuxIdMapping], ids: &Ids) -> Result<()> {
    if mappings.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(ids.program);
    command.arg(pid.to_string());
    for mapping in mappings {
        command.args([mapping.container_id(), mapping.host_id(), mapping.size()].map(|id| id.to_string()));
    }
    let output = command.stdin(Stdio::null()).output().map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => Error::new(Kind::Unsupported, ids.what(mappings))
            .at(ids.pointer)
            .because(format!("there is no {} in PATH (package \"uidmap\" or \"shadow-utils\")", ids.program)),
        _ => Error::io(ids.what(mappings), &format!("execve {}", ids.program), cause).at(ids.pointer),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = text.trim().replace('\n', "; ");
    let reason = if text.is_empty() { format!("{} failed: {}", ids.program, output.status) } else { text };
    Err(Error::new(Kind::Kernel, ids.what(mappings))
        .at(ids.pointer)
        .because(format!("{reason} (is the range ours in {}?)", ids.allowance)))
}

/// A user namespace with that map and nobody in it, for `MOUNT_ATTR_IDMAP`.
///
/// # Errors
/// No namespace can be made (the limit of user namespaces, a sandbox around us), or as [`write_maps`].
pub fn userns(map: &IdMap, host: &Host) -> Result<OwnedFd> {
    const WHAT: &str = "cannot make a user namespace for an id-mapped mount";
    let (reader, writer) = std::io::pipe().map_err(|cause| Error::io(WHAT, "pipe2", cause))?;
    let side = sys::clone3(libc::CLONE_NEWUSER as u64, None);
    match side.map_err(|errno| Error::kernel(WHAT, "clone3", Errno::from_raw(errno.0)))? {
        Side::Child => {
            // End of file: the parent is done, or dead.
            sys::close(writer.as_raw_fd());
            let _ = sys::read(reader.as_raw_fd(), &mut [0]);
            sys::exit(0)
        }
        Side::Parent { pid, .. } => {
            let path = format!("/proc/{pid}/ns/user");
            let made = write_maps(pid, map, host).and_then(|()| {
                File::open(&path).map_err(|cause| Error::io(WHAT, "open /proc/PID/ns/user", cause))
            });
            drop(writer);
            while let Err(rustix::io::Errno::INTR) = waitpid(Pid::from_raw(pid), WaitOptions::empty()) {}
            made.map(OwnedFd::from)
        }
    }
}

/// A copy of the mount at `source` that is not attached anywhere, of those below it, too, if
/// `recursive`, and id-mapped by `map` (all of it, if `map_recursive`).
///
/// # Errors
/// There is no `source`, its file system cannot be id-mapped, or as [`userns`].
pub fn tree(
    source: &str,
    recursive: bool,
    map: Option<&IdMap>,
    map_recursive: bool,
    host: &Host,
) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    let tree = open_tree(rustix::fs::CWD, source, flags).map_err(|errno| {
        let errno = Errno::from_raw(errno.raw_os_error());
        Error::kernel(format!("cannot bind {source}"), "open_tree", errno)
    })?;
    let Some(map) = map else { return Ok(tree) };
    let userns = userns(map, host)?;
    let attr =
        MountAttr { set: libc::MOUNT_ATTR_IDMAP, userns: userns.as_raw_fd() as u64, ..Default::default() };
    match sys::mount_setattr(tree.as_raw_fd(), map_recursive, &attr) {
        Ok(()) => Ok(tree),
        Err(sys::Errno(errno)) => {
            let errno = Errno::from_raw(errno);
            let error = Error::kernel(format!("cannot id-map the mount of {source}"), "mount_setattr", errno);
            let kind = file_system(source).unwrap_or_else(|| "that file system".to_owned());
            let below = if map_recursive { ", or one that is mounted below it," } else { "" };
            Err(match errno {
                Errno::EINVAL => error
                    .because(format!("{kind}{below} cannot be id-mapped by this kernel"))
                    .of_kind(Kind::Unsupported),
                Errno::EPERM => error.because(format!(
                    "{kind}{below} belongs to another user namespace, or the mount is id-mapped already"
                )),
                Errno::ENOSYS => error.because("Linux 5.12 is needed").of_kind(Kind::Unsupported),
                _ => error,
            })
        }
    }
}

/// The type of the file system that holds `path`, as the kernel's list of mounts calls it.
fn file_system(path: &str) -> Option<String> {
    let file = File::options().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let id: i32 = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()?;
    let mounts = procfs::process::Process::myself().and_then(|process| process.mountinfo()).ok()?;
    mounts.into_iter().find(|mount| mount.mnt_id == id).map(|mount| mount.fs_type)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, statat};

    use super::*;
    use crate::container::inside::tests::{Container, alone};

    fn mappings(ranges: &[[u32; 3]]) -> Vec<LinuxIdMapping> {
        let mapping = |[inside, outside, size]: [u32; 3]| {
            serde_json::from_value(
                serde_json::json!({ "containerID": inside, "hostID": outside, "size": size }),
            )
            .unwrap()
        };
        ranges.iter().copied().map(mapping).collect()
    }

    fn map(uids: &[[u32; 3]], gids: &[[u32; 3]]) -> IdMap {
        IdMap { uids: mappings(uids), gids: mappings(gids) }
    }

    fn host() -> Host {
        Host::read(false).unwrap()
    }

    fn ordinary() -> Host {
        Host { uid: 1000, gid: 1001, capabilities: 0, ..host() }
    }

    #[test]
    fn who_writes_depends_on_who_we_are() {
        let oneself = map(&[[0, 1000, 1]], &[[5, 1001, 1]]);
        let more = map(&[[0, 1000, 1], [1, 100_000, 65536]], &[[0, 1001, 1]]);
        let another = map(&[[0, 1000, 1]], &[[0, 1000, 1]]);
        assert_eq!(Way::of(&oneself, &host()), Way::Direct);
        assert_eq!(Way::of(&oneself, &ordinary()), Way::Oneself);
        assert_eq!(Way::of(&more, &ordinary()), Way::Programs);
        assert_eq!(Way::of(&another, &ordinary()), Way::Programs);
    }

    /// The maps of a user namespace that nobody is in, as somebody who joins it sees them.
    fn maps_of(userns: &OwnedFd) -> [String; 3] {
        ["uid_map", "gid_map", "setgroups"].map(|file| {
            let output = Command::new("nsenter")
                .args([
                    "--preserve-credentials",
                    "--user=/proc/self/fd/0",
                    "cat",
                    &format!("/proc/self/{file}"),
                ])
                .stdin(userns.try_clone().unwrap())
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn root_maps_anybody_at_once() {
        let many: Vec<_> = (0..340).map(|index| [index * 2, 1000 + index, 1]).collect();
        let userns = userns(&map(&many, &[[0, 100_000, 10], [10, 5, 1]]), &host()).unwrap();
        let [uids, gids, setgroups] = maps_of(&userns);
        assert_eq!(uids.split(' ').count(), 340 * 3);
        assert_eq!(gids, "0 100000 10 10 5 1");
        assert_eq!(setgroups, "allow");
    }

    #[test]
    fn a_refused_map_is_explained() {
        let error = userns(&map(&[[0, 100_000, 10], [5, 200_000, 10]], &[[0, 0, 1]]), &host()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot map users of the user namespace as \"0 100000 10, 5 200000 10\" \
             (config.json#/linux/uidMappings): write /proc/PID/uid_map: invalid argument: the ranges must \
             not overlap, must not be empty, must be at most 340, and fit in a page"
        );
    }

    #[test]
    fn an_ordinary_user_maps_himself() {
        if !alone("idmap::tests::an_ordinary_user_maps_himself", None) {
            return;
        }
        rustix::thread::set_thread_res_gid(id(1001), id(1001), id(1001)).unwrap();
        rustix::thread::set_thread_res_uid(uid(1000), uid(1000), uid(1000)).unwrap();
        sys::prctl(libc::PR_SET_DUMPABLE, 1).unwrap();
        let host = host();
        assert_eq!((host.uid, host.capabilities), (1000, 0));
        let userns = userns(&map(&[[0, 1000, 1]], &[[0, 1001, 1]]), &host).unwrap();
        assert_eq!(maps_of(&userns), ["0 1000 1", "0 1001 1", "deny"]);
    }

    fn uid(raw: u32) -> rustix::fs::Uid {
        rustix::fs::Uid::from_raw(raw)
    }

    fn id(raw: u32) -> rustix::fs::Gid {
        rustix::fs::Gid::from_raw(raw)
    }

    /// A directory that is gone at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("corten-idmap-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn program(&self, name: &str, script: &str) {
            let path = self.0.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn programs_write_what_we_may_not() {
        let scratch = Scratch::new("programs");
        // What the real programs do when /etc/subuid allows it, and what they say when it does not.
        scratch.program("newuidmap", "pid=$1; shift; echo \"$@\" > /proc/$pid/uid_map");
        scratch.program("newgidmap", "echo \"newgidmap: $2 $3 $4 not allowed\" >&2; exit 1");
        if alone("idmap::tests::programs_write_what_we_may_not", Some(&scratch.0)) {
            let path = std::env::var("PATH").unwrap();
            let container = Container::new(&["-n", "--user"], None);
            let map = map(&[[0, 100_000, 65536]], &[[0, 200_000, 65536]]);
            let error = write_maps(container.pid(), &map, &ordinary()).unwrap_err();
            assert_eq!(
                error.to_string(),
                "cannot map groups of the user namespace as \"0 200000 65536\" \
                 (config.json#/linux/gidMappings): newgidmap: 0 200000 65536 not allowed (is the range ours in \
                 /etc/subgid?)"
            );
            let written = std::fs::read_to_string(format!("/proc/{}/uid_map", container.pid())).unwrap();
            assert!(written.split_whitespace().eq(["0", "100000", "65536"]), "{written}");

            std::fs::remove_file(Path::new(&path).join("newuidmap")).unwrap();
            let error = write_maps(container.pid(), &map, &ordinary()).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(
                error
                    .to_string()
                    .ends_with("there is no newuidmap in PATH (package \"uidmap\" or \"shadow-utils\")"),
                "{error}"
            );
        }
    }

    #[test]
    fn mounts_show_mapped_owners() {
        let scratch = Scratch::new("mount");
        let file = scratch.0.join("file");
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(7), Some(8)).unwrap();
        let source = scratch.0.to_str().unwrap();
        let owners = |tree: OwnedFd| {
            let stat = statat(&tree, c"file", AtFlags::empty()).unwrap();
            (stat.st_uid, stat.st_gid)
        };
        let map = map(&[[0, 100_000, 10]], &[[0, 200_000, 10]]);
        assert_eq!(owners(tree(source, false, Some(&map), false, &host()).unwrap()), (100_007, 200_008));
        assert_eq!(owners(tree(source, true, Some(&map), true, &host()).unwrap()), (100_007, 200_008));
        assert_eq!(owners(tree(source, true, None, false, &host()).unwrap()), (7, 8));
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), 7);

        let error = tree("/proc", false, Some(&map), false, &host()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot id-map the mount of /proc: mount_setattr: invalid argument: proc cannot be id-mapped by \
             this kernel"
        );
        assert_eq!(error.kind(), Kind::Unsupported);
        let error = tree("/not-there", false, Some(&map), false, &host()).unwrap_err();
        assert_eq!(error.to_string(), "cannot bind /not-there: open_tree: no such file or directory");
    }
}
