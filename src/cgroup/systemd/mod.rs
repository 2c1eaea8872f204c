//! The systemd driver: the container's cgroup is the one of a transient scope (or slice), which
//! systemd makes, accounts for and removes (`--systemd-cgroup`).
//!
//! systemd owns the cgroup tree of such a machine and delegates one scope to the container
//! (`Delegate=yes`, <https://systemd.io/CGROUP_DELEGATION>): the directories are placed here, made by
//! [`Cgroup::start_unit`], and then used like any others. This module talks to systemd only; it
//! writes no cgroup file.

mod dbus;
mod hold;
mod message;
mod place;
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use dbus::Connection;
pub use hold::Hold;
use message::Body;
pub use message::{Property, Value};

use super::{Cgroup, Layout, Setting, Version};
use crate::error::{Error, Kind, Result};
use crate::spec::Problem;

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// The unit of a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `docker-abc.scope`.
    pub name: String,
    /// `system.slice`.
    pub slice: String,
    /// It is a unit of our user's systemd, not of the system's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
}

/// Places the cgroup of a container whose `cgroupsPath` is `slice:prefix:name`, in the system's
/// systemd or, with `user`, in that of our own user, which is asked where its own cgroup is.
pub fn place(layout: &Layout, cgroups_path: Option<&str>, id: &str, user: bool) -> Result<Cgroup> {
    let manager = if user {
        let mut systemd = Connection::open(true)?;
        systemd
            .property("ControlGroup")
            .map_err(|failure| failure.during("cannot ask systemd for its cgroup".to_owned()))?
    } else {
        "/".to_owned()
    };
    place::place(layout, cgroups_path, id, user, &manager)
}

/// What `org.systemd.property.*` annotations ask for: for [`Cgroup::start_unit`]. Pure.
///
/// # Errors
///
/// Each annotation that is not on the list of harmless properties, or has a wrong value.
pub fn annotations(
    annotations: &BTreeMap<String, String>,
) -> std::result::Result<Vec<Property>, Vec<Problem>> {
    properties::annotations(annotations)
}

impl Cgroup {
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Has systemd make the cgroup, and then does what [`Cgroup::create`] does. `settings` are
    /// told to systemd, and are still to be applied.
    ///
    /// A scope without processes ends at once: the answer holds one in it, and is dropped when the
    /// container's own process has entered.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if there is such a unit; `Unsupported` if systemd cannot be reached.
    pub fn start_unit(&self, settings: &[Setting], extra: &[Property]) -> Result<Hold> {
        let unit = self.unit.as_ref().ok_or_else(|| Error::new(Kind::Internal, "the cgroup is no unit's"))?;
        let hold = Hold::new()?;
        let mut systemd = Connection::open(unit.user)?;
        let version = if self.is_pure_v2() { Version::V2 } else { Version::V1 };
        let mut all = unit.properties(version, hold.pid());
        all.extend(properties::resources(settings, version, version_of(&mut systemd)));
        for property in extra {
            all.retain(|known| known.name != property.name);
            all.push(property.clone());
        }
        unit.start(&mut systemd, &all)?;
        self.create_dirs()?;
        // Where systemd knows the hierarchy, the process is there already.
        self.attach(hold.pid())?;
        Ok(hold)
    }

    /// Tells systemd of changed limits, before [`Cgroup::update`] writes them. Nothing without a unit.
    pub fn update_unit(&self, settings: &[Setting]) -> Result<()> {
        let Some(unit) = &self.unit else {
            return Ok(());
        };
        let version = if self.is_pure_v2() { Version::V2 } else { Version::V1 };
        let mut systemd = Connection::open(unit.user)?;
        let properties = properties::resources(settings, version, version_of(&mut systemd));
        if properties.is_empty() {
            return Ok(());
        }
        // Not persistent: the unit ends with the container.
        let body = Body::default().text(&unit.name).bool(true).properties(&properties);
        let what = || format!("cannot set properties of systemd unit {}", unit.name);
        systemd.manager("SetUnitProperties", body).map(drop).map_err(|failure| failure.during(what()))
    }
}

impl Unit {
    fn properties(&self, version: Version, pid: i32) -> Vec<Property> {
        let property = |name: &'static str, value| Property { name: name.into(), value };
        let container = self.name.rsplit_once('.').map_or(&*self.name, |(name, _)| name);
        let mut all = vec![
            property("Description", Value::Text(format!("corten container {container}"))),
            property("MemoryAccounting", Value::Bool(true)),
            property("CPUAccounting", Value::Bool(true)),
            property("TasksAccounting", Value::Bool(true)),
            property(
                if version == Version::V2 { "IOAccounting" } else { "BlockIOAccounting" },
                Value::Bool(true),
            ),
            // The defaults would stop the container in the middle of a shutdown.
            property("DefaultDependencies", Value::Bool(false)),
        ];
        if self.name.ends_with(".slice") {
            all.push(property("Wants", Value::Texts(vec![self.slice.clone()])));
        } else {
            all.push(property("Slice", Value::Text(self.slice.clone())));
            all.push(property("Delegate", Value::Bool(true)));
            all.push(property("PIDs", Value::Pids(vec![pid.unsigned_abs()])));
        }
        all
    }

    fn start(&self, systemd: &mut Connection, properties: &[Property]) -> Result<()> {
        let what = || format!("cannot start systemd unit {}", self.name);
        let attempt = |systemd: &mut Connection| {
            let body = Body::default().text(&self.name).text("replace").properties(properties).no_units();
            systemd.job("StartTransientUnit", body)
        };
        let mut result = attempt(systemd);
        if result.as_ref().is_err_and(|failure| failure.is(UNIT_EXISTS)) {
            // One that failed, and that nobody reset; one that runs is not reset by it.
            self.reset(systemd);
            result = attempt(systemd);
        }
        match result {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                self.reset(systemd);
                Err(Error::new(Kind::Internal, what()).because(format!("the job ended as {result:?}")))
            }
            Err(failure) => {
                let exists = failure.is(UNIT_EXISTS);
                let error = failure.during(what());
                Err(if exists { error.of_kind(Kind::AlreadyExists) } else { error })
            }
        }
    }

    /// Stops what is left of the unit, and makes systemd forget a failure. A unit that is gone is
    /// no error.
    pub(super) fn stop(&self) -> Result<()> {
        let mut systemd = Connection::open(self.user)?;
        let body = Body::default().text(&self.name).text("replace");
        match systemd.job("StopUnit", body) {
            Ok(_) => self.reset(&mut systemd),
            Err(failure) if failure.is("org.freedesktop.systemd1.NoSuchUnit") => {}
            Err(failure) => return Err(failure.during(format!("cannot stop systemd unit {}", self.name))),
        }
        Ok(())
    }

    fn reset(&self, systemd: &mut Connection) {
        // It fails where there is nothing to reset.
        let _ = systemd.manager("ResetFailedUnit", Body::default().text(&self.name));
    }

    /// Has systemd move a process into the unit's cgroup, where we may not.
    pub(super) fn attach(&self, pid: i32) -> Result<()> {
        let mut systemd = Connection::open(self.user)?;
        let body = Body::default().text(&self.name).text("/").pids(&[pid.unsigned_abs()]);
        let what = || format!("cannot join systemd unit {}: adding pid {pid} to cgroups", self.name);
        systemd.manager("AttachProcessesToUnit", body).map(drop).map_err(|failure| failure.during(what()))
    }
}

/// The number in systemd's version, `257.4-1` or `v246`; 0 if it does not tell.
fn version_of(systemd: &mut Connection) -> u32 {
    let text = systemd.property("Version").unwrap_or_default();
    let digits: String = text.trim_start_matches('v').chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}
