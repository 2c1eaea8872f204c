//! `pause` and `resume`: all processes of a container stand still, and go on.

use std::path::Path;

use super::state::Status;
use super::store;
use crate::error::{Error, Kind, Result};

/// Freezes all processes of a container that was created or runs. If they do not all freeze in time
/// none does.
pub fn pause(root: &Path, id: &str) -> Result<()> {
    let entry = store::open(root, id)?;
    let _lock = entry.lock(super::PATIENCE)?;
    let state = entry.state()?;
    match state.status(&entry) {
        Status::Created | Status::Running => state.cgroup.freeze(),
        status => {
            let what = format!("cannot pause container {id} that is {status}");
            Err(Error::new(Kind::WrongStatus, what).because("container not running"))
        }
    }
}

/// Lets the processes of a paused container go on.
pub fn resume(root: &Path, id: &str) -> Result<()> {
    let entry = store::open(root, id)?;
    let _lock = entry.lock(super::PATIENCE)?;
    let state = entry.state()?;
    match state.status(&entry) {
        Status::Paused => state.cgroup.thaw(),
        status => {
            let what = format!("cannot resume container {id} that is {status}");
            Err(Error::new(Kind::WrongStatus, what).because("container not paused"))
        }
    }
}
