//! A bundle under construction: a minimal valid config.json, and changes to it by JSON pointer.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::container::{Container, assert_nothing_left};
use crate::invocation::{Invocation, Output};
use crate::reports::Reports;
use crate::rootfs::{Scratch, beside_the_suite, fill_rootfs, unique};
use crate::runtime::Runtime;
use crate::view::View;

/// A bundle in a directory of its own, with a root file system, and the flags it will be created with.
#[derive(Debug)]
pub struct Bundle {
    /// What will be written to config.json.
    pub config: Value,
    id: String,
    scratch: Scratch,
    global_flags: Vec<String>,
    flags: Vec<String>,
    edits: Vec<fn(Invocation) -> Invocation>,
    files: Vec<(u32, PathBuf)>,
    env: Vec<(String, String)>,
    root: Option<PathBuf>,
    without: Vec<String>,
}

impl Bundle {
    /// A bundle whose process is the probe, as root with Docker's usual capabilities, in new pid, ipc, uts
    /// and mount namespaces, with proc, a tmpfs on /dev and devpts.
    pub fn new() -> Bundle {
        let scratch = Scratch::new();
        fill_rootfs(&scratch.path().join("rootfs"));
        std::fs::create_dir(scratch.path().join("state")).expect("a state root");
        let capabilities = [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_FSETID",
            "CAP_KILL",
            "CAP_MKNOD",
            "CAP_NET_BIND_SERVICE",
            "CAP_NET_RAW",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SYS_CHROOT",
        ];
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["/probe"],
                "env": ["PATH=/usr/bin:/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                },
                "noNewPrivileges": true,
            },
            "root": { "path": "rootfs" },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            ],
            "linux": {
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                ],
            },
        });
        Bundle {
            config,
            id: unique("it"),
            scratch,
            global_flags: Vec::new(),
            flags: Vec::new(),
            edits: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            root: None,
            without: Vec::new(),
        }
    }

    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Another id.
    #[must_use]
    pub fn with_id(mut self, id: &str) -> Self {
        self.id = id.to_owned();
        self
    }

    /// The bundle directory.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The root file system, or a path inside it.
    pub fn rootfs(&self, inside: &str) -> PathBuf {
        self.dir().join("rootfs").join(inside.trim_start_matches('/'))
    }

    /// The state root, empty as long as there is no container.
    pub fn state_root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(|| self.dir().join("state"))
    }

    /// Another state root, shared with other bundles.
    #[must_use]
    pub fn in_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// The argument vector.
    #[must_use]
    pub fn args<S: AsRef<str>>(self, args: impl IntoIterator<Item = S>) -> Self {
        let args: Vec<Value> = args.into_iter().map(|a| a.as_ref().into()).collect();
        self.set("/process/args", Value::Array(args))
    }

    /// A shell script as the process.
    #[must_use]
    pub fn script(self, script: &str) -> Self {
        self.args(["/bin/sh", "-c", script])
    }

    /// A process that waits for ever and ends on SIGTERM.
    #[must_use]
    pub fn sleeper(self) -> Self {
        self.script("trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")
    }

    /// One more variable "NAME=VALUE" of the process's environment.
    #[must_use]
    pub fn env(self, variable: &str) -> Self {
        self.push("/process/env", variable.into())
    }

    /// Sets the value at a JSON pointer; objects on the way are made.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        *place(&mut self.config, pointer) = value.into();
        self
    }

    /// Appends to the array at a JSON pointer; it is made when missing.
    #[must_use]
    pub fn push(mut self, pointer: &str, value: Value) -> Self {
        let array = place(&mut self.config, pointer);
        if array.is_null() {
            *array = json!([]);
        }
        array.as_array_mut().unwrap_or_else(|| panic!("{pointer} is no array")).push(value);
        self
    }

    /// Takes the value at a JSON pointer away.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Self {
        let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
        match place(&mut self.config, parent) {
            Value::Object(object) => drop(object.remove(key)),
            Value::Array(array) => drop(array.remove(key.parse().expect("an index"))),
            other => panic!("{parent} is {other}"),
        }
        self
    }

    /// One more mount.
    #[must_use]
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        self.push(
            "/mounts",
            json!({ "destination": destination, "type": kind, "source": source, "options": options }),
        )
    }

    /// One more namespace, new.
    #[must_use]
    pub fn namespace(self, kind: &str) -> Self {
        self.push("/linux/namespaces", json!({ "type": kind }))
    }

    /// Joins this namespace instead of a new one of the same type.
    #[must_use]
    pub fn join(self, kind: &str, path: &str) -> Self {
        self.without_namespace(kind).push("/linux/namespaces", json!({ "type": kind, "path": path }))
    }

    /// Stays in the runtime's namespace of this type.
    #[must_use]
    pub fn without_namespace(mut self, kind: &str) -> Self {
        let list = self.config.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut);
        list.expect("a namespace list").retain(|n| n["type"] != kind);
        self
    }

    /// A new user namespace that maps `size` ids from 0 to `host`, with a rootfs that belongs to it.
    #[must_use]
    pub fn userns(self, host: u32, size: u32) -> Self {
        let map = json!([{ "containerID": 0, "hostID": host, "size": size }]);
        let give = |path: &Path| std::os::unix::fs::lchown(path, Some(host), Some(host)).expect("chown");
        give(&self.rootfs(""));
        for entry in std::fs::read_dir(self.rootfs("")).expect("the rootfs").flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                give(&entry.path());
            }
        }
        self.namespace("user").set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map)
    }

    /// A hook of this kind: a shell script, with the state on its standard input.
    #[must_use]
    pub fn hook(self, kind: &str, script: &str) -> Self {
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/sbin:/usr/bin:/bin"] });
        self.push(&format!("/hooks/{kind}"), hook)
    }

    /// A flag before the command.
    #[must_use]
    pub fn global_flag(mut self, flag: impl Into<String>) -> Self {
        self.global_flags.push(flag.into());
        self
    }

    /// A flag of `create` or `run`.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// An environment variable of the runtime itself.
    #[must_use]
    pub fn runtime_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The runtime finds every one of these system calls, separated by commas, answered with ENOSYS (as
    /// by an older kernel) or EPERM (as by an older sandbox). So does the container; and neither can gain
    /// privileges by executing something.
    #[must_use]
    pub fn without_calls(mut self, errno: &str, calls: &str) -> Self {
        self.without = vec![errno.to_owned(), calls.to_owned()];
        self
    }

    /// A file or directory that the runtime has open under this descriptor (3 to 9).
    #[must_use]
    pub fn file(mut self, fd: u32, path: impl AsRef<Path>) -> Self {
        self.files.push((fd, path.as_ref().to_owned()));
        self
    }

    /// Any other change of the runtime's invocation.
    #[must_use]
    pub fn invoke_with(mut self, edit: fn(Invocation) -> Invocation) -> Self {
        self.edits.push(edit);
        self
    }

    /// A fifo in the rootfs that the container reports through.
    pub fn reports(&self, inside: &str) -> Reports {
        Reports::new(&self.rootfs(inside))
    }

    /// Writes config.json.
    pub fn write(&self) {
        let text = serde_json::to_vec_pretty(&self.config).expect("JSON");
        std::fs::write(self.dir().join("config.json"), text).expect("write config.json");
    }

    /// The runtime with its global flags.
    pub fn runtime(&self) -> Invocation {
        let mut call = Invocation::new(&Runtime::get().path).arg("--root").arg(self.state_root());
        for (name, value) in &self.env {
            call = call.env(name, value);
        }
        let call = call.args(&self.global_flags);
        let before: Vec<_> = self.without.iter().map(String::as_str).collect();
        match before.as_slice() {
            [] => call,
            before => call.under(&beside_the_suite("corten-without-calls").to_string_lossy(), before),
        }
    }

    /// `create` or `run` with all flags, config.json written.
    pub fn call(&self, command: &str) -> Invocation {
        self.write();
        let mut call = self.runtime().arg(command).arg("--bundle").arg(self.dir());
        for (fd, path) in &self.files {
            call = call.file(*fd, path);
        }
        call = self.edits.iter().fold(call, |call, edit| edit(call));
        call.args(&self.flags).arg(&self.id)
    }

    /// `create`, which must succeed.
    #[track_caller]
    pub fn create(self) -> Container {
        let running = self.call("create").spawn(self.dir());
        let (out, err) = (running.stdout_path(), running.stderr_path());
        let output = running.wait();
        let container = Container::new(self, out, err, output.clone());
        output.ok();
        container
    }

    /// `create` and `start`, which must succeed.
    #[track_caller]
    pub fn start(self) -> Container {
        let container = self.create();
        container.start().ok();
        container
    }

    /// `create`, which must fail and leave nothing.
    #[track_caller]
    pub fn create_fails(self) -> Output {
        self.fails("create")
    }

    /// `run`, which must fail and leave nothing.
    #[track_caller]
    pub fn run_fails(self) -> Output {
        self.fails("run")
    }

    #[track_caller]
    fn fails(self, command: &str) -> Output {
        let output = self.call(command).run(self.dir());
        let container = Container::new(self, PathBuf::new(), PathBuf::new(), output.clone());
        let output = output.failed();
        assert_nothing_left(&container.bundle);
        output
    }

    /// `create` and `start`, one of which must fail; nothing is left after `delete --force`.
    #[track_caller]
    pub fn start_fails(self) -> Output {
        let output = self.call("create").run(self.dir());
        let container = Container::new(self, PathBuf::new(), PathBuf::new(), output.clone());
        if output.status != 0 {
            assert_nothing_left(&container.bundle);
            return output.failed();
        }
        let output = container.start().failed();
        container.delete_force().ok();
        assert_nothing_left(&container.bundle);
        output
    }

    /// `run` in the foreground, to its end.
    #[track_caller]
    pub fn run(self) -> Output {
        let output = self.call("run").run(self.dir());
        drop(Container::new(self, PathBuf::new(), PathBuf::new(), output.clone()));
        output
    }

    /// Runs the probe with these attempts and returns what it saw.
    #[track_caller]
    pub fn probe<S: AsRef<str>>(self, attempts: impl IntoIterator<Item = S>) -> View {
        let mut args = vec!["/probe".to_owned()];
        args.extend(attempts.into_iter().map(|a| a.as_ref().to_owned()));
        View::parse(&self.args(args).run().ok().stdout)
    }

    /// Runs the probe without attempts.
    #[track_caller]
    pub fn look(self) -> View {
        self.probe::<&str>([])
    }
}

impl Default for Bundle {
    fn default() -> Self {
        Bundle::new()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        crate::host::sweep_cgroups(&self.id);
    }
}

/// The value at a JSON pointer, made of objects where it is missing.
fn place<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(value, |value, key| {
        let key = key.replace("~1", "/").replace("~0", "~");
        match value {
            Value::Array(array) => &mut array[key.parse::<usize>().expect("an index")],
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                &mut other[key]
            }
        }
    })
}
