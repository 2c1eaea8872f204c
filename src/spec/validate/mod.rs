//! Every rule of the specification that can be checked without looking at the host, and the few
//! that keep a value from becoming a path or a line it must not be. All violations are found at
//! once; each is one line that says where it is and what would be right.
//!
//! This module must not repair, default or interpret anything, and it must not refuse what runc
//! accepts and Linux can do. Seccomp's names are checked where they are compiled, unknown
//! capabilities are warned about, not refused.

mod linux;
mod list;
mod mounts;
mod process;
mod resources;
mod scheduling;
mod sysctl;

use std::fmt::{self, Display};

pub use list::{cpu_list, id_list, node_list};
pub use process::RLIMITS;
pub use scheduling::{MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES};
pub use sysctl::sysctl_path;

use super::{Hook, Process, Resources, Spec};

/// One violated rule: where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer (RFC 6901) into the document.
    pub pointer: String,
    pub message: String,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// All violations in `spec`, in the order in which the specification's types list the properties.
/// Empty: it is valid.
pub fn problems(spec: &Spec) -> Vec<Problem> {
    let mut report = Report::default();
    document(spec, &mut report);
    report.problems
}

/// All violations in a process document (`exec --process`); pointers are relative to it.
pub fn process_problems(process: &Process) -> Vec<Problem> {
    let mut report = Report::default();
    process::check(process, &mut report);
    report.problems
}

/// All violations in a resources document (`update --resources`); pointers are relative to it.
pub fn resources_problems(resources: &Resources) -> Vec<Problem> {
    let mut report = Report::default();
    resources::check(resources, &mut report);
    report.problems
}

/// The violations found so far.
#[derive(Default)]
struct Report {
    problems: Vec<Problem>,
    /// Put before each pointer: where in the document the checked part stands.
    prefix: &'static str,
}

impl Report {
    fn add(&mut self, pointer: impl Display, message: impl Display) {
        self.problems
            .push(Problem { pointer: format!("{}{pointer}", self.prefix), message: message.to_string() });
    }

    /// Runs `check` on the part of the document that stands at `prefix`.
    fn below(&mut self, prefix: &'static str, check: impl FnOnce(&mut Report)) {
        let outer = std::mem::replace(&mut self.prefix, prefix);
        check(self);
        self.prefix = outer;
    }

    /// The kernel would see the text end at its first NUL byte.
    fn text(&mut self, pointer: impl Display, text: &str) -> bool {
        let whole = !text.contains('\0');
        if !whole {
            self.add(pointer, "must not contain a NUL byte");
        }
        whole
    }

    /// As [`Report::text`], for what becomes a line of a file.
    fn line(&mut self, pointer: impl Display, text: &str) -> bool {
        let single = !text.contains('\n');
        if !single {
            self.add(&pointer, "must not contain a line break");
        }
        self.text(pointer, text) && single
    }

    /// For what becomes the name of one file or directory below a directory that is not the container's.
    fn name(&mut self, pointer: impl Display, name: &str) -> bool {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            self.add(pointer, format_args!("must be the name of one file, got {name:?}"));
            return false;
        }
        self.line(pointer, name)
    }

    fn absolute(&mut self, pointer: impl Display, path: &str) {
        if !path.starts_with('/') {
            self.add(&pointer, format_args!("must be an absolute path, got {path:?}"));
        }
        self.text(pointer, path);
    }

    fn variables(&mut self, pointer: impl Display, variables: &[String]) {
        for (i, variable) in variables.iter().enumerate() {
            match variable.split_once('=') {
                Some((name, _)) if !name.is_empty() => {
                    self.text(format_args!("{pointer}/{i}"), variable);
                }
                _ => self
                    .add(format_args!("{pointer}/{i}"), format_args!("must be NAME=VALUE, got {variable:?}")),
            }
        }
    }
}

/// A key as a JSON pointer's token. A problem is one line, so control characters are shown as JSON
/// writes them.
pub(super) fn escape(key: &str) -> String {
    let mut token = String::with_capacity(key.len());
    for c in key.chars() {
        match c {
            '~' => token.push_str("~0"),
            '/' => token.push_str("~1"),
            c if c.is_control() => token.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => token.push(c),
        }
    }
    token
}

/// Two or more names as a sentence lists them.
fn one_of(names: &[&str]) -> String {
    format!("must be one of {}", names.join(", "))
}

fn document(spec: &Spec, report: &mut Report) {
    version(&spec.version, report);
    match &spec.process {
        Some(process) => report.below("/process", |report| process::check(process, report)),
        None => report.add("/process", "is required"),
    }
    match &spec.root {
        None => report.add("/root", "is required"),
        Some(root) if root.path.as_os_str().is_empty() => report.add("/root/path", "must not be empty"),
        Some(root) => {
            report.text("/root/path", &root.path.to_string_lossy());
        }
    }
    uts_name("/hostname", spec.hostname.as_deref(), spec, report);
    uts_name("/domainname", spec.domainname.as_deref(), spec, report);
    mounts::check(spec, report);
    hooks(spec, report);
    if spec.annotations.as_ref().is_some_and(|annotations| annotations.contains_key("")) {
        report.add("/annotations/", "must not have an empty key");
    }
    linux::check(spec, report);
}

/// Semantic Versioning 2.0.0; the specification promises compatibility within one major version.
fn version(version: &str, report: &mut Report) {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let rest = &version[core.len()..];
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|c| c.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let identifiers = |text: &str| {
        text.split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-'))
    };
    let (pre_release, build) = match rest.split_once('+') {
        Some((before, after)) => (before, Some(after)),
        None => (rest, None),
    };
    let valid = core.split('.').count() == 3
        && core.split('.').all(number)
        && pre_release.strip_prefix('-').is_none_or(identifiers)
        && build.is_none_or(identifiers);
    if version.is_empty() {
        report.add("/ociVersion", "is required");
    } else if !valid {
        report.add(
            "/ociVersion",
            format_args!("must be a semantic version such as \"1.3.0\", got {version:?}"),
        );
    } else if !core.starts_with("1.") {
        report.add("/ociVersion", format_args!("must have the major version 1, got {version:?}"));
    }
}

/// sethostname(2) and setdomainname(2) change the uts namespace, and take 64 bytes.
fn uts_name(pointer: &str, name: Option<&str>, spec: &Spec, report: &mut Report) {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return };
    if spec.linux().namespace("uts").is_none() {
        report.add(pointer, "needs a uts namespace");
    }
    if name.len() > 64 {
        report.add(pointer, format_args!("must be at most 64 bytes long, got {}", name.len()));
    }
    report.text(pointer, name);
}

fn hooks(spec: &Spec, report: &mut Report) {
    let Some(hooks) = &spec.hooks else { return };
    #[allow(deprecated)] // engines still write prestart hooks
    let prestart = hooks.prestart();
    let lists = [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (name, list) in lists {
        for (i, one) in list.iter().flatten().enumerate() {
            hook(&format!("/hooks/{name}/{i}"), one, report);
        }
    }
}

fn hook(at: &str, hook: &Hook, report: &mut Report) {
    report.absolute(format_args!("{at}/path"), &hook.path().to_string_lossy());
    for (i, arg) in hook.args().iter().flatten().enumerate() {
        report.text(format_args!("{at}/args/{i}"), arg);
    }
    report.variables(format_args!("{at}/env"), hook.env().as_deref().unwrap_or_default());
    if let Some(timeout) = hook.timeout().filter(|timeout| *timeout <= 0) {
        report
            .add(format_args!("{at}/timeout"), format_args!("must be greater than 0 seconds, got {timeout}"));
    }
}
