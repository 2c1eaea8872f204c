//! `exec`: another process in a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use super::foreground::Foreground;
use super::kill::pidfd_of;
use super::launch::{Init, Launch};
use super::serve::{self, Duties};
use super::state::{State, Status};
use super::store;
use super::terminal::{self, DescriptorSocket};
use super::{ExecOptions, filtered, write_pid_file};
use crate::error::{Error, Kind, Result};
use crate::host::{self, Host};
use crate::plan::{self, Namespaces};
use crate::spec::{self, Spec};

/// Runs another process in the container: its exit code, or 0 when it is left to run by itself.
pub fn exec(options: &ExecOptions) -> Result<i32> {
    crate::seal::seal()?;
    host::check_inherited_fds(options.preserve_fds)?;
    let entry = store::open(&options.root, &options.id)?;
    let state = entry.state()?;
    let what = || format!("cannot exec in container {}", options.id);
    let refuse = |reason: &str| Err(Error::new(Kind::WrongStatus, what()).because(reason));
    let spec = Spec::parse(&entry.config()?)?;
    let process = options.process(spec.process.as_ref())?;
    let problems = spec::process_problems(&process);
    if !problems.is_empty() {
        return Err(spec::invalid("process.json", &problems));
    }
    match state.status(&entry) {
        Status::Stopped => return refuse("cannot exec in a stopped container: container not running"),
        Status::Creating => return refuse("it is still being created"),
        Status::Paused if !options.ignore_paused => {
            return refuse("cannot exec in a paused container (use --ignore-paused to override)");
        }
        _ => {}
    }
    let init = state.init.as_ref().map(pidfd_of).transpose()?.flatten();
    let Some(container) = init else {
        return refuse("cannot exec in a stopped container: container not running");
    };
    let pid = state.init.as_ref().map_or(0, |init| init.pid);

    let host = Host::read(false)?;
    let terminal = process.terminal;
    terminal::check(terminal, options.detach, options.console_socket.as_deref())?;
    let connect = |path: &Option<std::path::PathBuf>, name| {
        path.as_deref().map(|path| DescriptorSocket::connect(path, name)).transpose()
    };
    let cgroup =
        if options.cgroups.is_empty() { state.cgroup.clone() } else { state.cgroup.sub(&options.cgroups)? };
    let own_userns = same_userns(pid)?;
    let user = libc::CLONE_NEWUSER as u64;
    let kinds = Namespaces::of(&spec).own() & if own_userns { !user } else { u64::MAX };
    let plan = plan::exec(&plan::Exec {
        spec: &spec,
        process: &process,
        host: &host,
        cgroup,
        kinds,
        groups_denied: !own_userns && groups_denied(pid),
        preserve_fds: options.preserve_fds,
        reports: state.rdt.is_some(),
    })?;
    super::log_notes(&plan);
    let mut parent = Parent {
        state: &state,
        spec: &spec,
        console: connect(&options.console_socket, "console socket")?,
        pidfd_socket: connect(&options.pidfd_socket, "pidfd socket")?,
        terminal: None,
    };
    // Who is told where to go goes nowhere else.
    let follows = options.cgroups.is_empty();
    let elsewhere = if follows { host.cgroups.cgroup_of(pid).ok() } else { None };
    let foreground = if options.detach { None } else { Some(Foreground::begin(false)?) };
    let launch = Launch {
        plan: &plan,
        host: &host,
        start: None,
        container: Some(container.as_fd()),
        elsewhere: elsewhere.as_ref(),
    };
    let mut process = launch.launch()?;
    let served = serve::serve(&plan, &host, &mut process, &mut parent);
    process.log_steps(&plan);
    served?;
    if let Some(socket) = parent.pidfd_socket.take() {
        socket.send(process.pidfd.as_fd(), "pidfd")?;
    }
    if let Some(path) = &options.pid_file {
        write_pid_file(path, process.pid)?;
    }
    process.release();
    match foreground {
        Some(foreground) => foreground.wait(process.pid, parent.terminal, None).inspect(|code| {
            if *code == filtered::EXIT_CODE {
                filtered::warn(process.pid, spec.linux().seccomp.as_ref());
            }
        }),
        None => Ok(0),
    }
}

/// Whether the container's init is in our user namespace: then it cannot, and need not, be joined.
fn same_userns(pid: i32) -> Result<bool> {
    let of = |path: String| {
        std::fs::metadata(&path)
            .map_err(|e| Error::io("cannot look at the container's namespaces", &format!("stat {path}"), e))
    };
    let (ours, theirs) = (of("/proc/self/ns/user".to_owned())?, of(format!("/proc/{pid}/ns/user"))?);
    Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()))
}

/// Whether setgroups(2) is denied in the user namespace of the container (user_namespaces(7)).
fn groups_denied(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/setgroups")).is_ok_and(|text| text.starts_with(b"deny"))
}

/// The parent of a process that joins a container.
struct Parent<'a> {
    state: &'a State,
    spec: &'a Spec,
    console: Option<DescriptorSocket>,
    pidfd_socket: Option<DescriptorSocket>,
    terminal: Option<OwnedFd>,
}

impl Duties for Parent<'_> {
    fn hooks(&mut self, _: &Init) -> Result<()> {
        Ok(())
    }

    fn ready(&mut self, init: &Init) -> Result<()> {
        self.state.rdt.as_ref().map_or(Ok(()), |group| group.join(init.pid))
    }

    fn terminal(&mut self, master: OwnedFd) -> Result<()> {
        match self.console.take() {
            Some(socket) => socket.send(master.as_fd(), "/dev/ptmx"),
            None => {
                terminal::prepare(master.as_fd())?;
                self.terminal = Some(master);
                Ok(())
            }
        }
    }

    fn profile(&self) -> Option<&spec::Seccomp> {
        self.spec.linux().seccomp.as_ref()
    }

    fn listener(&mut self, init: &Init, listener: OwnedFd) -> Result<()> {
        let Some(seccomp) = &self.spec.linux().seccomp else { return Ok(()) };
        let path = seccomp.listener_path.as_deref().unwrap_or_default();
        let document = super::process_state(self.state, Status::Running, init.pid, seccomp);
        serve::send_listener(path, &document, listener.as_fd())
    }
}
