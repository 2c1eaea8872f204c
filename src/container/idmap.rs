//! User namespaces and their id maps.
use crate::error::{Error, Kind, Result};
use crate::{host::Host, plan::IdMap};
use std::os::fd::OwnedFd;
/// Writes both maps of the user namespace that `pid` is in.
pub fn write_maps(pid: i32, map: &IdMap, _: &Host) -> Result<()> {
    let write = |file: &str, lines: String| {
        std::fs::write(format!("/proc/{pid}/{file}"), lines)
            .map_err(|e| Error::io(format!("cannot write {file}"), "write", e))
    };
    write("uid_map", IdMap::lines(&map.uids))?;
    write("gid_map", IdMap::lines(&map.gids))
}
/// A detached copy of a mount tree.
pub fn tree(source: &str, recursive: bool, map: Option<&IdMap>, _: bool, _: &Host) -> Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags as F, open_tree};
    if map.is_some() {
        return Err(
            Error::new(Kind::Unsupported, "cannot map the ids of a mount").because("not supported yet")
        );
    }
    let flags =
        F::OPEN_TREE_CLONE | F::OPEN_TREE_CLOEXEC | if recursive { F::AT_RECURSIVE } else { F::empty() };
    open_tree(rustix::fs::CWD, source, flags)
        .map_err(|e| Error::io(format!("cannot open {source}"), "open_tree", e.into()))
}
/// A user namespace with an id map.
pub fn userns(_: &IdMap, _: &Host) -> Result<OwnedFd> {
    Err(Error::new(Kind::Unsupported, "cannot map the ids of a mount").because("not supported yet"))
}
