//! One `exec` into a running container: the flag form, or the process.json form.

use serde_json::Value;

use crate::container::Container;
use crate::invocation::{Invocation, Output, Running};
use crate::view::View;

/// An `exec` under construction.
#[derive(Debug)]
pub struct Exec<'a> {
    container: &'a Container,
    flags: Vec<String>,
    args: Vec<String>,
    edit: Option<fn(Invocation) -> Invocation>,
}

impl<'a> Exec<'a> {
    pub(crate) fn new(container: &'a Container, args: &[&str]) -> Exec<'a> {
        Exec {
            container,
            flags: Vec::new(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
            edit: None,
        }
    }

    /// One more flag.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// A flag and its value.
    #[must_use]
    pub fn with(self, flag: &str, value: impl Into<String>) -> Self {
        self.flag(flag).flag(value)
    }

    /// The process.json form.
    #[must_use]
    pub fn process(self, process: &Value) -> Self {
        let path = self.container.bundle.dir().join(crate::rootfs::unique("process"));
        std::fs::write(&path, process.to_string()).expect("write process.json");
        self.with("--process", path.to_string_lossy())
    }

    /// Any other change of the runtime's invocation.
    #[must_use]
    pub fn invoke_with(mut self, edit: fn(Invocation) -> Invocation) -> Self {
        self.edit = Some(edit);
        self
    }

    /// The whole invocation.
    pub fn call(self) -> Invocation {
        let call = self.container.bundle.runtime().arg("exec").args(&self.flags).arg(self.container.id());
        let call = call.args(&self.args);
        match self.edit {
            Some(edit) => edit(call),
            None => call,
        }
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        let dir = self.container.bundle.dir();
        self.call().run(dir)
    }

    /// Starts it.
    #[track_caller]
    pub fn spawn(self) -> Running {
        let dir = self.container.bundle.dir();
        self.call().spawn(dir)
    }

    /// Runs it; its program is the probe, whose view is returned.
    #[track_caller]
    pub fn look(self) -> View {
        View::parse(&self.run().ok().stdout)
    }
}
