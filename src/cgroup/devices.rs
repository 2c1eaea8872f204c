//! Which devices the container may use: `linux.resources.devices` as lines for the v1 `devices`
//! controller, or as the eBPF program that version 2 wants. Pure.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#device-whitelist>.
//! The rules apply in their order, each to the accesses it names: the last that matches decides.
//! Before them everything is forbidden; after them come the [`DEFAULTS`], as with runc, so that no
//! configuration takes /dev/null from a container. Version 1 can express almost all of that; what it
//! cannot is a [`Problem`], not an approximation.

use super::settings::{Lowering, Setting};
use super::{Layout, Version};
use crate::spec::{DeviceRule, Problem};

const READ: u8 = 1;
const WRITE: u8 = 2;
const MKNOD: u8 = 4;
const ALL: u8 = READ | WRITE | MKNOD;

/// What runc allows every container.
const DEFAULTS: [Rule; 11] = [
    allow(Kind::Char, None, None, MKNOD),
    allow(Kind::Block, None, None, MKNOD),
    allow(Kind::Char, Some(1), Some(3), ALL),    // /dev/null
    allow(Kind::Char, Some(1), Some(5), ALL),    // /dev/zero
    allow(Kind::Char, Some(1), Some(7), ALL),    // /dev/full
    allow(Kind::Char, Some(1), Some(8), ALL),    // /dev/random
    allow(Kind::Char, Some(1), Some(9), ALL),    // /dev/urandom
    allow(Kind::Char, Some(5), Some(0), ALL),    // /dev/tty
    allow(Kind::Char, Some(5), Some(2), ALL),    // /dev/ptmx
    allow(Kind::Char, Some(136), None, ALL),     // /dev/pts/*
    allow(Kind::Char, Some(10), Some(200), ALL), // /dev/net/tun
];

const fn allow(kind: Kind, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow: true, kind: Some(kind), major, minor, access }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

/// One rule; None is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

/// How the container is kept from devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// It is not: the rules allow everything.
    Unrestricted,
    /// Lines for devices.allow and devices.deny.
    Files(Vec<Setting>),
    /// The instructions of a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
    Program(Vec<u64>),
}

/// Lowers the device rules for the machine that `layout` describes. `prefix` as for
/// [`settings`](super::settings()).
pub fn devices(rules: Option<&[DeviceRule]>, layout: &Layout, prefix: &str) -> Result<Devices, Vec<Problem>> {
    let mut out = Lowering::new(prefix);
    let own = rules.unwrap_or_default();
    let rules = parse(own, &mut out);
    let v1 = layout.hierarchies.iter().any(|hierarchy| {
        hierarchy.version == Version::V1 && hierarchy.controllers.iter().any(|name| name == "devices")
    });
    if v1 {
        files(&rules, own.len(), &mut out);
        return out.finish().map(Devices::Files);
    }
    out.finish()?;
    Ok(super::devices_bpf::compile(&rules).map_or(Devices::Unrestricted, Devices::Program))
}

/// The rules with the defaults behind them.
fn parse(rules: &[DeviceRule], out: &mut Lowering) -> Vec<Rule> {
    let mut parsed = Vec::with_capacity(rules.len() + DEFAULTS.len());
    for (index, rule) in rules.iter().enumerate() {
        let kind = match rule.kind.as_deref().unwrap_or("a") {
            "" | "a" => None,
            "b" => Some(Kind::Block),
            "c" | "u" => Some(Kind::Char),
            other => {
                out.problem(&format!("/devices/{index}/type"), format!("must be a, b or c, got {other:?}"));
                continue;
            }
        };
        let mut number = |value: Option<i64>, name: &str| match value {
            None | Some(-1) => None,
            Some(value) => u32::try_from(value).map(Some).unwrap_or_else(|_| {
                let message = format!("must be -1 (any) or a device number, got {value}");
                out.problem(&format!("/devices/{index}/{name}"), message);
                None
            }),
        };
        let (major, minor) = (number(rule.major, "major"), number(rule.minor, "minor"));
        let mut access = 0;
        for letter in rule.access.as_deref().unwrap_or_default().chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                other => {
                    let message = format!("must be of the letters r, w and m, got {other:?}");
                    out.problem(&format!("/devices/{index}/access"), message);
                    0
                }
            };
        }
        let access = if access == 0 { ALL } else { access };
        parsed.push(Rule { allow: rule.allow, kind, major, minor, access });
    }
    parsed.extend(DEFAULTS);
    parsed
}

impl Rule {
    /// It speaks of every access to every device.
    pub(super) fn is_everything(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = Kind> {
        let wanted = self.kind;
        [Kind::Block, Kind::Char].into_iter().filter(move |kind| wanted.is_none_or(|wanted| wanted == *kind))
    }

    fn matches(&self, kind: Kind, major: Option<u32>, minor: Option<u32>) -> bool {
        self.kind.is_none_or(|own| own == kind)
            && self.major.is_none_or(|own| Some(own) == major)
            && self.minor.is_none_or(|own| Some(own) == minor)
    }
}

/// The accesses that `rules` allow to a device. None is a number that no rule mentions. The
/// definition that both versions follow.
pub(super) fn allowed(rules: &[Rule], kind: Kind, major: Option<u32>, minor: Option<u32>) -> u8 {
    rules
        .iter()
        .filter(|rule| rule.matches(kind, major, minor))
        .fold(0, |mask, rule| if rule.allow { mask | rule.access } else { mask & !rule.access })
}

/// What the v1 controller keeps: a default, and the devices for which the opposite holds.
struct Exception {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

/// The first `own` rules are the configuration's.
fn files(rules: &[Rule], own: usize, out: &mut Lowering) {
    let mut open = false;
    let mut exceptions: Vec<Exception> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        if rule.is_everything() {
            open = rule.allow;
            exceptions.clear();
            continue;
        }
        for kind in rule.kinds() {
            if rule.allow != open {
                add(
                    &mut exceptions,
                    Exception { kind, major: rule.major, minor: rule.minor, access: rule.access },
                );
            } else if !take_back(&mut exceptions, kind, rule) {
                let verb = if rule.allow { "allow" } else { "forbid" };
                let message = format!("cgroup v1 cannot {verb} a part of what a rule before speaks of");
                let at = if index < own { format!("/devices/{index}") } else { "/devices".to_owned() };
                out.problem(&at, message);
            }
        }
    }
    let (default, other) =
        if open { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    out.set("devices", default, "a", "/devices");
    for exception in &exceptions {
        // To open for reading and writing, one line must allow both.
        let wider = |e: &&Exception| {
            e.kind == exception.kind
                && e.major.is_none_or(|major| Some(major) == exception.major)
                && e.minor.is_none_or(|minor| Some(minor) == exception.minor)
        };
        let access = exceptions.iter().filter(wider).fold(0, |access, e| access | e.access);
        let kind = if exception.kind == Kind::Block { 'b' } else { 'c' };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let line =
            format!("{kind} {}:{} {}", number(exception.major), number(exception.minor), letters(access));
        out.set("devices", other, line, "/devices");
    }
}

fn add(exceptions: &mut Vec<Exception>, new: Exception) {
    let same = |e: &&mut Exception| (e.kind, e.major, e.minor) == (new.kind, new.major, new.minor);
    match exceptions.iter_mut().find(same) {
        Some(known) => known.access |= new.access,
        None => exceptions.push(new),
    }
}

/// False if something is left that overlaps with the rule: the controller has exceptions, but no
/// exceptions of exceptions.
fn take_back(exceptions: &mut Vec<Exception>, kind: Kind, rule: &Rule) -> bool {
    let meets = |own: Option<u32>, other: Option<u32>| own.is_none() || other.is_none() || own == other;
    let mut whole = true;
    for exception in exceptions.iter_mut().filter(|exception| exception.kind == kind) {
        if rule.matches(kind, exception.major, exception.minor) {
            exception.access &= !rule.access;
        } else if meets(rule.major, exception.major) && meets(rule.minor, exception.minor) {
            whole &= exception.access & rule.access == 0;
        }
    }
    exceptions.retain(|exception| exception.access != 0);
    whole
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .into_iter()
        .filter(|(bit, _)| access & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1() -> Layout {
        let devices = super::super::Hierarchy {
            version: Version::V1,
            controllers: vec!["devices".to_owned()],
            mountpoint: "/sys/fs/cgroup/devices".into(),
            root: "/".to_owned(),
            own: "/".to_owned(),
        };
        Layout { version: Version::V1, hierarchies: vec![devices] }
    }

    fn rules(json: serde_json::Value) -> Vec<DeviceRule> {
        serde_json::from_value(json).expect("rules")
    }

    fn lines(json: serde_json::Value) -> Result<Vec<String>, Vec<Problem>> {
        match devices(Some(&rules(json)), &v1(), "/linux/resources")? {
            Devices::Files(settings) => {
                Ok(settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    const DEFAULT_LINES: [&str; 11] = [
        "devices.allow=c *:* m",
        "devices.allow=b *:* m",
        "devices.allow=c 1:3 rwm",
        "devices.allow=c 1:5 rwm",
        "devices.allow=c 1:7 rwm",
        "devices.allow=c 1:8 rwm",
        "devices.allow=c 1:9 rwm",
        "devices.allow=c 5:0 rwm",
        "devices.allow=c 5:2 rwm",
        "devices.allow=c 136:* rwm",
        "devices.allow=c 10:200 rwm",
    ];

    #[test]
    fn v1_lines() {
        let with_defaults = |first: &[&str]| -> Vec<String> {
            first.iter().chain(&DEFAULT_LINES).map(|&line| line.to_owned()).collect()
        };
        assert_eq!(lines(serde_json::json!([])), Ok(with_defaults(&["devices.deny=a"])));
        assert_eq!(
            lines(serde_json::json!([{"allow": false, "access": "rwm"}])),
            Ok(with_defaults(&["devices.deny=a"]))
        );
        assert_eq!(
            lines(serde_json::json!([
                {"allow": true, "type": "b", "major": 8, "access": "rw"},
                {"allow": false, "type": "b", "access": "w"},
                {"allow": true, "major": 9, "minor": 9, "access": "r"},
            ])),
            Ok(with_defaults(&[
                "devices.deny=a",
                // mknod by the default rule for all devices.
                "devices.allow=b 8:* rm",
                "devices.allow=b 9:9 rm",
                "devices.allow=c 9:9 rm"
            ]))
        );
        assert_eq!(
            lines(serde_json::json!([{"allow": true}, {"allow": false, "type": "b", "major": 8}])),
            Ok(vec!["devices.allow=a".to_owned(), "devices.deny=b 8:* rw".to_owned()])
        );
    }

    #[test]
    fn what_v1_cannot_express() {
        for wrong in [
            serde_json::json!([{"allow": true, "type": "c", "major": 4}, {"allow": false, "type": "c", "major": 4, "minor": 1}]),
            serde_json::json!([{"allow": true, "type": "c", "major": 4}, {"allow": false, "type": "c", "minor": 1}]),
            serde_json::json!([{"allow": true}, {"allow": false, "type": "c"}]),
        ] {
            let problems = lines(wrong.clone()).expect_err("not expressible");
            assert!(problems[0].message.starts_with("cgroup v1 cannot "), "{wrong}: {problems:?}");
            let rules = rules(wrong);
            assert!(devices(Some(&rules), &Layout::unified("/", "/"), "").is_ok());
        }
    }

    #[test]
    fn wrong_rules() {
        let problems = lines(serde_json::json!([
            {"type": "p"}, {"major": -2}, {"minor": 4294967296i64}, {"access": "rx"}
        ]))
        .expect_err("wrong");
        let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            [
                "/linux/resources/devices/0/type",
                "/linux/resources/devices/1/major",
                "/linux/resources/devices/2/minor",
                "/linux/resources/devices/3/access"
            ]
        );
    }

    #[test]
    fn everything_allowed_needs_nothing() {
        let all = rules(serde_json::json!([{"allow": false}, {"allow": true, "access": "rwm"}]));
        assert_eq!(devices(Some(&all), &Layout::unified("/", "/"), ""), Ok(Devices::Unrestricted));
        assert_eq!(lines(serde_json::json!([{"allow": true}])), Ok(vec!["devices.allow=a".to_owned()]));
    }
}
