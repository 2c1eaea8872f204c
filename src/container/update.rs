//! `update`: other limits for a container that exists.
//!
//! A change is merged into what the container was last asked to be held to, since values depend on
//! each other, and only what the change touches is written: what others have set stays.

use std::path::Path;

use serde_json::Value;

use super::state::{State, Status};
use super::store::{self, Entry};
use crate::cgroup::{self, Layout, Setting};
use crate::error::{Error, Kind, Result};
use crate::spec::{self, Resources, Spec};

/// What the document of a change is called in errors.
const DOCUMENT: &str = "resources";

/// Where 0, or an empty text, is how Go's engines say nothing.
const UNSET: [&str; 12] = [
    "/memory/limit",
    "/memory/reservation",
    "/memory/swap",
    "/memory/kernel",
    "/memory/kernelTCP",
    "/cpu/shares",
    "/cpu/quota",
    "/cpu/period",
    "/cpu/realtimeRuntime",
    "/cpu/realtimePeriod",
    "/cpu/cpus",
    "/cpu/mems",
];

/// Changes the limits of a container: those that `change` says. If one cannot be set none is changed.
///
/// # Errors
/// `WrongStatus` for a container that has stopped; `InvalidSpec` with all that is wrong in the change;
/// what the kernel refuses.
pub fn update(root: &Path, id: &str, change: &Resources) -> Result<()> {
    let entry = store::open(root, id)?;
    let _lock = entry.lock(super::PATIENCE)?;
    let mut state = entry.state()?;
    if matches!(state.status(&entry), Status::Stopped | Status::Creating) {
        let what = format!("cannot update container {id}");
        return Err(Error::new(Kind::WrongStatus, what).because("container not running"));
    }
    let problems = spec::resources_problems(change);
    if !problems.is_empty() {
        return Err(spec::invalid(DOCUMENT, &problems));
    }
    let layout = Layout::read()?;
    let before = stored(&state, &entry)?;
    let (change, after) = merged(&before, change)?;
    let settings = affected(&before, &after, &change, &layout)?;

    state.cgroup.check_usage(&usage_check(&change, &after)?, DOCUMENT, "")?;
    let devices = new_devices(&before, &after, &layout)?;
    state.cgroup.update_unit(&settings)?;
    if let Err(error) = state.cgroup.update(&settings, DOCUMENT) {
        let old = lowered(&before, &layout)?;
        let old: Vec<Setting> =
            old.into_iter().filter(|old| settings.iter().any(|new| new.file == old.file)).collect();
        if let Err(more) = state.cgroup.update_unit(&old) {
            tracing::warn!("{more}");
        }
        return Err(error);
    }
    if let Some(devices) = devices {
        state.cgroup.restrict(&devices, DOCUMENT, "/devices")?;
    }
    state.resources = Some(after);
    entry.write_state(&state)
}

/// What the container was last asked to be held to.
fn stored(state: &State, entry: &Entry) -> Result<Resources> {
    if let Some(resources) = &state.resources {
        return Ok(resources.clone());
    }
    let spec = entry.config().and_then(|bytes| Spec::parse(&bytes))?;
    Ok(spec.linux().resources.clone().unwrap_or_default())
}

/// The change as JSON without what says nothing, and all resources with it.
fn merged(before: &Resources, change: &Resources) -> Result<(Value, Resources)> {
    let internal = |e| Error::new(Kind::Internal, "cannot merge resources").because(e);
    let mut change = serde_json::to_value(change).map_err(internal)?;
    for pointer in UNSET.iter().chain(&["/blockIO/weight"]) {
        if change.pointer(pointer).is_some_and(|value| value == 0 || value == "") {
            remove(&mut change, pointer);
        }
    }
    // Without a limit of memory, and not a word about swap, there shall be no limit of both together.
    if change.pointer("/memory/limit").is_some_and(|limit| limit == -1)
        && change.pointer("/memory/swap").is_none()
    {
        change["memory"]["swap"] = (-1).into();
    }
    let mut all = serde_json::to_value(before).map_err(internal)?;
    merge(&mut all, &change);
    settle_idle(&mut all, &change);
    Ok((change, serde_json::from_value(all).map_err(internal)?))
}

/// Objects are merged, everything else is replaced.
fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

/// An idle group has no weight: a new weight ends the idleness, unless that is new itself.
fn settle_idle(all: &mut Value, change: &Value) {
    for (idle, weight, awake) in [
        ("/cpu/idle", "/cpu/shares", Value::from(0)),
        ("/unified/cpu.idle", "/unified/cpu.weight", Value::from("0")),
    ] {
        let is_idle = all.pointer(idle).is_some_and(|idle| *idle == 1 || *idle == "1");
        if !is_idle || change.pointer(weight).is_none() {
            continue;
        }
        if change.pointer(idle).is_some() {
            let weight_name = if weight == "/cpu/shares" { "cpu.shares" } else { "cpu.weight" };
            tracing::warn!("unable to apply both {weight_name} and cpu.idle, ignoring {weight_name}");
            remove(all, weight);
        } else if let Some(idle) = all.pointer_mut(idle) {
            *idle = awake;
        }
    }
}

fn remove(document: &mut Value, pointer: &str) {
    if let Some((parent, key)) = pointer.rsplit_once('/')
        && let Some(Value::Object(parent)) = document.pointer_mut(parent)
    {
        parent.remove(key);
    }
}

fn lowered(resources: &Resources, layout: &Layout) -> Result<Vec<Setting>> {
    cgroup::settings(resources, layout, "").map_err(|problems| spec::invalid(DOCUMENT, &problems))
}

/// The settings that the change asks for, and those that follow from it.
fn affected(before: &Resources, after: &Resources, change: &Value, layout: &Layout) -> Result<Vec<Setting>> {
    let old = lowered(before, layout)?;
    let was_so = |new: &Setting| {
        old.iter()
            .any(|old| (&old.controller, &old.file, &old.value) == (&new.controller, &new.file, &new.value))
    };
    let asked = |pointer: &str| change.pointer(pointer).is_some_and(|value| !value.is_null());
    let mut settings = lowered(after, layout)?;
    settings.retain(|new| {
        // One property of systemd's is made of both.
        let pair = ["/cpu/quota", "/cpu/period"];
        let other = pair.contains(&&*new.pointer) && pair.into_iter().any(asked);
        asked(&new.pointer) || other || !was_so(new)
    });
    Ok(settings)
}

/// What `memory.checkBeforeUpdate` is about: the limits that change.
fn usage_check(change: &Value, after: &Resources) -> Result<Resources> {
    let memory = change.get("memory").cloned().unwrap_or_default();
    let mut checked = serde_json::json!({ "memory": memory });
    let check = after.memory.as_ref().and_then(spec::LinuxMemory::check_before_update);
    checked["memory"]["checkBeforeUpdate"] = check.into();
    serde_json::from_value(checked)
        .map_err(|e| Error::new(Kind::Internal, "cannot check the memory use").because(e))
}

/// The device rules, if there is one that the container did not have. An engine sends all the rules it
/// knows of with every change; what others (a GPU's hook, the editor of a config.json) have added to
/// those must not get lost, so fewer rules change nothing.
fn new_devices(before: &Resources, after: &Resources, layout: &Layout) -> Result<Option<cgroup::Devices>> {
    let rules = |resources: &Resources| {
        let rules = resources.devices.as_deref().unwrap_or_default();
        rules.iter().map(|rule| serde_json::json!(rule)).collect::<Vec<_>>()
    };
    let known = rules(before);
    if rules(after).iter().all(|rule| known.contains(rule)) {
        return Ok(None);
    }
    cgroup::devices(after.devices.as_deref(), layout, "")
        .map(Some)
        .map_err(|problems| spec::invalid(DOCUMENT, &problems))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resources(document: Value) -> Resources {
        serde_json::from_value(document).unwrap()
    }

    /// The files that a change writes on version 2.
    fn written(before: Value, change: Value) -> Vec<String> {
        let layout = Layout::unified("/sys/fs/cgroup", "/");
        let before = resources(before);
        let (change, after) = merged(&before, &resources(change)).unwrap();
        let settings = affected(&before, &after, &change, &layout).unwrap();
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    #[test]
    fn only_what_changes_is_written() {
        let before = json!({ "memory": { "limit": 100 }, "cpu": { "quota": 5, "period": 10 }, "pids": { "limit": 9 } });
        for (change, expected) in [
            (json!({}), vec![]),
            (json!({ "pids": { "limit": 8 } }), vec!["pids.max=8"]),
            (json!({ "pids": { "limit": 9 } }), vec!["pids.max=9"]),
            (json!({ "cpu": { "period": 20 } }), vec!["cpu.max=5 20"]),
            (json!({ "cpu": { "quota": -1 } }), vec!["cpu.max=max 10"]),
            (json!({ "memory": { "swap": 150 } }), vec!["memory.swap.max=50"]),
            (json!({ "memory": { "limit": -1 } }), vec!["memory.swap.max=max", "memory.max=max"]),
            (json!({ "unified": { "memory.high": "7" } }), vec!["memory.high=7"]),
        ] {
            assert_eq!(written(before.clone(), change.clone()), expected, "{change}");
        }
    }

    #[test]
    fn values_that_depend_on_each_other_follow() {
        let before = json!({ "memory": { "limit": 100, "swap": 150 } });
        assert_eq!(
            written(before, json!({ "memory": { "limit": 120 } })),
            ["memory.swap.max=30", "memory.max=120"]
        );
        let idle = json!({ "cpu": { "idle": 1, "shares": 1024 } });
        assert_eq!(
            written(idle.clone(), json!({ "cpu": { "shares": 1024 } })),
            ["cpu.idle=0", "cpu.weight=100"]
        );
        assert_eq!(written(idle, json!({ "cpu": { "shares": 2, "idle": 1 } })), ["cpu.idle=1"]);
        let idle = json!({ "unified": { "cpu.idle": "1" } });
        assert_eq!(
            written(idle.clone(), json!({ "unified": { "cpu.weight": "8" } })),
            ["cpu.idle=0", "cpu.weight=8"]
        );
        assert_eq!(
            written(idle, json!({ "unified": { "cpu.weight": "8", "cpu.idle": "1" } })),
            ["cpu.idle=1"]
        );
    }

    #[test]
    fn nothing_said_changes_nothing() {
        let before = json!({ "memory": { "limit": 100, "swap": 150 }, "cpu": { "shares": 7, "cpus": "0" } });
        let silence = json!({
            "memory": { "limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": 0 },
            "cpu": { "shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0,
                "cpus": "", "mems": "" },
            "blockIO": { "weight": 0 }, "pids": {},
        });
        assert_eq!(written(before.clone(), silence.clone()), [] as [&str; 0]);
        let (_, after) = merged(&resources(before.clone()), &resources(silence)).unwrap();
        let after = serde_json::to_value(after).unwrap();
        assert_eq!(after["memory"]["limit"], 100);
        assert_eq!(after["cpu"]["shares"], 7);
    }

    #[test]
    fn fewer_devices_than_there_are_change_nothing() {
        let rule = |major: i64| json!({ "allow": true, "type": "c", "major": major, "access": "rw" });
        let layout = Layout::unified("/sys/fs/cgroup", "/");
        let before = resources(json!({ "devices": [rule(1), rule(195)] }));
        let is_new = |devices: Value| {
            let (_, after) = merged(&before, &resources(json!({ "devices": devices }))).unwrap();
            new_devices(&before, &after, &layout).unwrap().is_some()
        };
        assert!(!is_new(json!([rule(1)])));
        assert!(!is_new(json!([rule(1), rule(195)])));
        assert!(is_new(json!([rule(1), rule(5)])));
    }
}
