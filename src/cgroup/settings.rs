//! `linux.resources` as a list of files to write: which file, what value, and where it was asked
//! for. Pure; [`v1`](super::v1) and [`v2`](super::v2) know the files.
//!
//! Every value is checked as far as that is possible without the kernel: a name that becomes part
//! of a file name or of a line is never taken as it comes. What a version of cgroups cannot do is
//! a [`Problem`], unless the value asks for nothing.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#control-groups>

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use super::layout::{Layout, Version};
use super::{v1, v2};
use crate::spec::{HugepageLimit, LinuxRdma, Problem, Resources};

/// One write to one cgroup file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Whose file it is: decides in which hierarchy it is written.
    pub controller: Cow<'static, str>,
    pub file: Cow<'static, str>,
    pub value: String,
    /// JSON pointer of the property.
    pub pointer: String,
    pub missing: Missing,
}

/// What it means that the file of a [`Setting`] does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The container cannot have what it asks for.
    Fails,
    /// Nothing: the value asks for no limit.
    Ignored,
    /// Another file, with its own scale, does the same.
    Instead(&'static str, String),
}

/// Lowers `resources`, without `devices`, for the machine that `layout` describes. `prefix` is the
/// JSON pointer of `resources` in its document ("/linux/resources", or "").
///
/// # Errors
///
/// Every value that is wrong or cannot be had on this version of cgroups.
pub fn settings(resources: &Resources, layout: &Layout, prefix: &str) -> Result<Vec<Setting>, Vec<Problem>> {
    let mut out = Lowering::new(prefix);
    if layout.version == Version::V2 {
        v2::lower(resources, &|_| true, &mut out);
        v2::unified(resources, &mut out);
    } else {
        let unified = |controller: &str| {
            let named = |h: &super::Hierarchy| h.controllers.iter().any(|name| name == controller);
            layout.hierarchies.iter().any(|h| h.version == Version::V2 && named(h))
        };
        // The one controller that has another name on v2.
        let v1 = |name: &str| !unified(if name == "blkio" { "io" } else { name });
        v1::lower(resources, &v1, &mut out);
        v2::lower(resources, &unified, &mut out);
        if resources.unified.as_ref().is_some_and(|unified| !unified.is_empty()) {
            out.problem("/unified", "invalid configuration: cannot use unified on cgroup v1");
        }
    }
    out.finish()
}

/// The result in the making.
pub(super) struct Lowering<'a> {
    prefix: &'a str,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

/// A number of the specification: 0 is how Go's engines say nothing, -1 is no limit.
pub(super) enum Limit {
    Unset,
    Max,
    Of(i64),
}

impl<'a> Lowering<'a> {
    pub(super) fn new(prefix: &'a str) -> Lowering<'a> {
        Lowering { prefix, settings: Vec::new(), problems: Vec::new() }
    }

    pub(super) fn finish(self) -> Result<Vec<Setting>, Vec<Problem>> {
        if self.problems.is_empty() { Ok(self.settings) } else { Err(self.problems) }
    }

    pub(super) fn set(
        &mut self,
        controller: &'static str,
        file: &'static str,
        value: impl Display,
        at: &str,
    ) {
        self.push(controller.into(), file.into(), value, at, Missing::Fails);
    }

    /// A value that asks for no limit.
    pub(super) fn lift(
        &mut self,
        controller: &'static str,
        file: &'static str,
        value: impl Display,
        at: &str,
    ) {
        self.push(controller.into(), file.into(), value, at, Missing::Ignored);
    }

    pub(super) fn push(
        &mut self,
        controller: Cow<'static, str>,
        file: Cow<'static, str>,
        value: impl Display,
        at: &str,
        missing: Missing,
    ) {
        let pointer = format!("{}{at}", self.prefix);
        self.settings.push(Setting { controller, file, value: value.to_string(), pointer, missing });
    }

    pub(super) fn problem(&mut self, at: &str, message: impl Into<String>) {
        self.problems.push(Problem { pointer: format!("{}{at}", self.prefix), message: message.into() });
    }

    pub(super) fn limit(&mut self, value: Option<i64>, at: &str) -> Limit {
        match value {
            None | Some(0) => Limit::Unset,
            Some(-1) => Limit::Max,
            Some(value) if value > 0 => Limit::Of(value),
            Some(value) => {
                self.problem(at, format!("must be -1 (no limit) or positive, got {value}"));
                Limit::Unset
            }
        }
    }

    /// `idle` and `swappiness`: a number in a range.
    pub(super) fn in_range(&mut self, value: i64, range: std::ops::RangeInclusive<i64>, at: &str) -> bool {
        let inside = range.contains(&value);
        if !inside {
            self.problem(at, format!("must be from {} to {}, got {value}", range.start(), range.end()));
        }
        inside
    }

    /// A list such as `0-3,7`. The kernel judges the numbers; here it only must be one line.
    pub(super) fn cpu_list<'v>(&mut self, value: &'v Option<String>, at: &str) -> Option<&'v str> {
        let value = value.as_deref().map(str::trim).filter(|value| !value.is_empty())?;
        let fits = |c: char| c.is_ascii_alphanumeric() || ",-:/ ".contains(c);
        if value.chars().all(fits) {
            return Some(value);
        }
        self.problem(at, format!("must be a list such as \"0-3,7\", got {value:?}"));
        None
    }

    /// The swap limit of the specification includes memory; whether it can be one.
    pub(super) fn swap_fits(&mut self, limit: Option<i64>, swap: Option<i64>) -> bool {
        let (limit, swap) = (limit.unwrap_or(0), swap.unwrap_or(0));
        let message = match (limit, swap) {
            (_, ..=0) | (-1, _) => return true,
            (0, _) => "unable to set swap limit without memory limit".to_owned(),
            _ if swap < limit => format!("memory+swap limit should be >= memory limit {limit}, got {swap}"),
            _ => return true,
        };
        self.problem("/memory/swap", message);
        false
    }

    /// `pids.max` is the same file on both versions.
    pub(super) fn pids(&mut self, resources: &Resources) {
        match resources.pids.as_ref().and_then(|pids| pids.limit) {
            None => {}
            Some(-1) => self.lift("pids", "pids.max", "max", "/pids/limit"),
            // With 0 the kernel lets no first process in; with 1 that one cannot fork: the same
            // limit for the container, and also what systemd accepts.
            Some(0) => self.set("pids", "pids.max", 1, "/pids/limit"),
            Some(limit) if limit > 0 => self.set("pids", "pids.max", limit, "/pids/limit"),
            Some(limit) => {
                self.problem("/pids/limit", format!("must be -1 (no limit) or not negative, got {limit}"))
            }
        }
    }

    /// `rdma.max` is the same file on both versions.
    pub(super) fn rdma(&mut self, limits: &Option<BTreeMap<String, LinuxRdma>>) {
        for (device, limit) in limits.iter().flatten() {
            let at = format!("/rdma/{}", escape(device));
            if !is_word(device) {
                self.problem(&at, "must be the name of a device");
                continue;
            }
            let mut value = device.clone();
            for (name, number) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
                if let Some(number) = number {
                    value += &format!(" {name}={number}");
                }
            }
            if value != *device {
                self.set("rdma", "rdma.max", value, &at);
            }
        }
    }

    /// The limit of each page size, and of its reservations (Linux 5.7): without the second a
    /// container that reserves what it may not use gets SIGBUS instead of an error.
    pub(super) fn hugepages(&mut self, limits: &Option<Vec<HugepageLimit>>, suffix: &str) {
        for (index, limit) in limits.iter().flatten().enumerate() {
            if !is_page_size(&limit.page_size) {
                let at = format!("/hugepageLimits/{index}/pageSize");
                self.problem(&at, format!("must be a size such as \"2MB\", got {:?}", limit.page_size));
                continue;
            }
            let at = format!("/hugepageLimits/{index}");
            for (kind, missing) in [("", Missing::Fails), (".rsvd", Missing::Ignored)] {
                let file = format!("hugetlb.{}{kind}.{suffix}", limit.page_size);
                self.push("hugetlb".into(), file.into(), limit.limit, &at, missing);
            }
        }
    }
}

/// `<n>KB`, `<n>MB` or `<n>GB`, as the specification demands and the kernel names its files.
fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| {
        !number.is_empty() && !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// One word on a line of a cgroup file.
pub(super) fn is_word(text: &str) -> bool {
    let separates = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    !text.is_empty() && text != "." && text != ".." && !text.contains(separates)
}

/// A key as a token of a JSON pointer (RFC 6901).
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
