//! `events`: what a container uses, and when it runs out of memory.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::state::{State, Status};
use super::store;
use crate::cgroup::{OomEvent, Stats};
use crate::error::{Error, Kind, Result};

/// One line of `events`. Names and order are runc's.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<Stats>>,
}

/// Tells `receiver` of events: without an interval, of what the container uses now; else of that after
/// each interval, and of the OOM killer whenever it was at work, until the container's cgroup is empty.
///
/// # Errors
/// The container does not run, or has no cgroup; the receiver's own.
pub fn events(
    root: &Path,
    id: &str,
    interval: Option<Duration>,
    receiver: &mut dyn FnMut(&Event) -> Result<()>,
) -> Result<()> {
    let entry = store::open(root, id)?;
    let state = entry.state()?;
    if matches!(state.status(&entry), Status::Stopped | Status::Creating) {
        return Err(Error::new(Kind::WrongStatus, format!("container with id {id} is not running")));
    }
    if state.cgroup.is_none() {
        let what = format!("cannot tell what container {id} uses");
        return Err(Error::new(Kind::Unsupported, what).because("it has no cgroup of its own"));
    }
    let Some(interval) = interval else {
        return receiver(&stats(&state)?);
    };
    let mut watch = state.cgroup.watch_oom()?;
    let mut next = Instant::now() + interval;
    loop {
        match watch.wait(next.saturating_duration_since(Instant::now()))? {
            OomEvent::Oom => receiver(&Event { kind: "oom", id: &state.id, data: None })?,
            OomEvent::Gone => return Ok(()),
            OomEvent::Timeout => {
                next = Instant::now() + interval;
                // It may have ended just now, which the next round notices.
                match stats(&state) {
                    Ok(event) => receiver(&event)?,
                    Err(error) => tracing::debug!("{error}"),
                }
            }
        }
    }
}

fn stats(state: &State) -> Result<Event<'_>> {
    Ok(Event { kind: "stats", id: &state.id, data: Some(Box::new(state.cgroup.stats()?)) })
}
