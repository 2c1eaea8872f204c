//! `ps`: which processes a container has.

use std::path::Path;

use super::state::Status;
use super::store;
use crate::error::{Error, Kind, Result};

/// The pids of all the container's processes as we number them; none of one that has stopped.
///
/// # Errors
/// `Unsupported` if it has no cgroup of its own to list them.
pub fn processes(root: &Path, id: &str) -> Result<Vec<i32>> {
    let entry = store::open(root, id)?;
    let state = entry.state()?;
    if state.status(&entry) == Status::Stopped {
        return Ok(Vec::new());
    }
    if state.cgroup.is_none() {
        let what = format!("cannot list the processes of container {id}");
        return Err(Error::new(Kind::Unsupported, what).because("it has no cgroup of its own"));
    }
    state.cgroup.pids()
}
