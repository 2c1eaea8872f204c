//! `create` and `run`: from a bundle to a container.
//!
//! Everything that can be refused is refused before anything is made. From then on, what was made is
//! on record before it is made, so that `delete --force` finds it after a kill at any instant, and a
//! failure takes back whatever there is.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_init::sys;

use super::foreground::Foreground;
use super::launch::{Init, Launch};
use super::notify::{self, Notify};
use super::serve::{self, Duties};
use super::state::{Process, State, Status};
use super::store::{self, Entry};
use super::terminal::{self, DescriptorSocket};
use super::{CreateOptions, Rootless, filtered, hooks::Occasion, inside, write_pid_file};
use crate::bundle::Bundle;
use crate::cgroup::systemd::Hold;
use crate::cgroup::{self, Cgroup};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::host::{self, Host};
use crate::plan::{self, Namespaces, Plan};
use crate::rdt;
use crate::spec::{self, Hook, Hooks, Spec};

/// A bundle that was read, checked and planned; nothing has been made yet.
pub struct Prepared {
    bundle: Bundle,
    rootfs: PathBuf,
    host: Host,
    plan: Plan,
    limits: Limits,
}

/// What the cgroup will hold the container to.
struct Limits {
    settings: Vec<cgroup::Setting>,
    devices: cgroup::Devices,
    /// What annotations say of its systemd unit.
    properties: Vec<cgroup::systemd::Property>,
}

/// Reads, checks and plans. `waits`: the container is to wait for `start`.
pub fn prepare(options: &CreateOptions, waits: bool) -> Result<Prepared> {
    store::check_id(&options.id)?;
    let listen_fds = super::listen_fds();
    host::check_inherited_fds(options.preserve_fds.saturating_add(listen_fds))?;
    let bundle = Bundle::read(&options.bundle)?;
    let problems = spec::problems(&bundle.spec);
    if !problems.is_empty() {
        return Err(spec::invalid("config.json", &problems));
    }
    let rootfs = rootfs(&bundle)?;
    let host = Host::read(options.no_pivot)?;
    let resources = bundle.spec.linux().resources.as_ref();
    let invalid = |problems: Vec<spec::Problem>| spec::invalid("config.json", &problems);
    let settings = resources.map_or(Ok(Vec::new()), |resources| {
        cgroup::settings(resources, &host.cgroups, "/linux/resources").map_err(invalid)
    })?;
    let cgroup = place(&bundle.spec, &host, options, &settings)?;
    let rules = resources.and_then(|resources| resources.devices.as_deref());
    let devices = cgroup::devices(rules, &host.cgroups, "/linux/resources").map_err(invalid)?;
    let properties = match (cgroup.unit(), &bundle.spec.annotations) {
        (Some(_), Some(annotations)) => cgroup::systemd::annotations(annotations).map_err(invalid)?,
        _ => Vec::new(),
    };
    let notify = if notify::is_wanted() { Some(notify_directory(options)?) } else { None };
    let plan = plan::create(&plan::Create {
        spec: &bundle.spec,
        host: &host,
        id: &options.id,
        bundle: &bundle.path,
        rootfs: &rootfs,
        cgroup,
        no_pivot: options.no_pivot,
        no_new_keyring: options.no_new_keyring,
        preserve_fds: options.preserve_fds,
        listen_fds,
        notify: notify.as_deref(),
        waits,
    })?;
    Ok(Prepared { bundle, rootfs, host, plan, limits: Limits { settings, devices, properties } })
}

/// What the container will see as [`plan::NOTIFY_DIRECTORY`].
fn notify_directory(options: &CreateOptions) -> Result<PathBuf> {
    let path = options.root.join(&options.id).join(store::NOTIFY);
    std::path::absolute(path).map_err(|e| Error::io("cannot find the state root", "getcwd", e))
}

fn place(spec: &Spec, host: &Host, options: &CreateOptions, settings: &[cgroup::Setting]) -> Result<Cgroup> {
    let path = spec.linux().cgroups_path.as_deref();
    if !options.systemd_cgroup {
        return cgroup::path::place(&host.cgroups, path, &options.id);
    }
    let user = is_rootless(options, host);
    match cgroup::systemd::place(&host.cgroups, path, &options.id, user) {
        Err(error) if user && can_do_without(spec, settings) => {
            tracing::debug!("running without a cgroup of its own: {error}");
            Ok(Cgroup::none())
        }
        answer => answer,
    }
}

/// Whether the container asks for no cgroup: a user who cannot have one may then do without.
fn can_do_without(spec: &Spec, settings: &[cgroup::Setting]) -> bool {
    settings.is_empty() && spec.linux().cgroups_path.is_none()
}

fn is_rootless(options: &CreateOptions, host: &Host) -> bool {
    match options.rootless {
        Rootless::True => true,
        Rootless::False => false,
        Rootless::Auto => host.is_rootless(),
    }
}

/// The plan that `create` would carry out.
pub fn plan(options: &CreateOptions) -> Result<Plan> {
    prepare(options, true).map(|prepared| prepared.plan)
}

fn rootfs(bundle: &Bundle) -> Result<PathBuf> {
    let path = bundle.rootfs();
    let what = || format!("cannot use root file system {}", path.display());
    let real = path.canonicalize().map_err(|e| Error::io(what(), "realpath", e).at("/root/path"))?;
    if !real.is_dir() {
        return Err(Error::kernel(what(), "open", nix::errno::Errno::ENOTDIR).at("/root/path"));
    }
    if real == Path::new("/") {
        return Err(Error::new(Kind::InvalidSpec, what()).because("it is the host's root").at("/root/path"));
    }
    Ok(real)
}

/// Creates a container that waits for `start`.
pub fn create(options: &CreateOptions) -> Result<()> {
    crate::seal::seal()?;
    Made::make(options, true).map(drop)
}

/// Creates a container and starts it. In the foreground, waits for its end: the exit code. Detached: 0.
pub fn run(options: &CreateOptions) -> Result<i32> {
    crate::seal::seal()?;
    let foreground = if options.detach { None } else { Some(Foreground::begin(!options.no_subreaper)?) };
    let (made, init) = Made::make(options, false)?;
    let Made { entry, _lock: lock, state, hooks, terminal, notify } = made;
    let poststart = hooks.as_ref().and_then(|hooks| hooks.poststart().as_deref()).unwrap_or_default();
    let told = Told { init: None, ..occasion(&state, Status::Running, &init, "poststart") };
    if let Err(error) = told.run_all(poststart) {
        // runtime-spec 1.3: a poststart hook that fails stops the container.
        super::delete::destroy(&entry, &state, hooks.as_ref())?;
        return Err(error);
    }
    drop(lock);
    let Some(foreground) = foreground else {
        if let Some(notify) = notify {
            notify.wait(init.pidfd.as_fd(), init.pid)?;
        }
        return Ok(0);
    };
    let code = foreground.wait(init.pid, terminal, notify);
    if code.as_ref().is_ok_and(|code| *code == filtered::EXIT_CODE) {
        // Only now, as the answer is needed almost never.
        let spec = entry.config().and_then(|bytes| Spec::parse(&bytes));
        filtered::warn(init.pid, spec.as_ref().ok().and_then(|spec| spec.linux().seccomp.as_ref()));
    }
    if !options.keep {
        match entry.lock(super::PATIENCE) {
            Ok(_lock) => super::delete::destroy(&entry, &state, hooks.as_ref())?,
            // Somebody deleted it while it ran, or after.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    code
}

/// The state of a hook at some occasion, kept for as long as the hooks run.
struct Told<'a> {
    document: Vec<u8>,
    kind: &'static str,
    directory: &'a Path,
    /// The hooks make sense only while it lives.
    init: Option<&'a Init>,
}

impl Told<'_> {
    fn run_all(&self, hooks: &[Hook]) -> Result<()> {
        let occasion = Occasion {
            kind: self.kind,
            state: &self.document,
            directory: self.directory,
            container: self.init.map(|init| init.pidfd.as_fd()),
        };
        occasion.run_all(hooks)
    }
}

fn occasion<'a>(state: &'a State, status: Status, init: &'a Init, kind: &'static str) -> Told<'a> {
    Told { document: state.hook_document(status, init.pid), kind, directory: &state.bundle, init: Some(init) }
}

/// A container in the making.
struct Made {
    entry: Entry,
    _lock: store::Lock,
    state: State,
    hooks: Option<Hooks>,
    terminal: Option<OwnedFd>,
    /// Where its program will say that it is ready, if we let it run and somebody wants to know.
    notify: Option<Notify>,
}

impl Made {
    /// Makes a container up to where it waits for `start`, or runs. What fails is taken back.
    fn make(options: &CreateOptions, waits: bool) -> Result<(Made, Init)> {
        let prepared = prepare(options, waits)?;
        let spec = &prepared.bundle.spec;
        let wants_terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
        terminal::check(wants_terminal, options.detach, options.console_socket.as_deref())?;
        let connect = |path: &Option<PathBuf>, name| {
            path.as_deref().map(|path| DescriptorSocket::connect(path, name)).transpose()
        };
        let sockets = [
            connect(&options.console_socket, "console socket")?,
            connect(&options.pidfd_socket, "pidfd socket")?,
        ];
        let rdt = prepared.plan.rdt.as_ref().map(rdt::Group::locate).transpose()?;
        super::log_notes(&prepared.plan);
        let (entry, lock) = store::create(&options.root, &options.id)?;
        let state = State {
            oci_version: spec.version.clone(),
            id: options.id.clone(),
            bundle: prepared.bundle.path.clone(),
            rootfs: prepared.rootfs.clone(),
            created: clock::now(),
            annotations: spec.annotations.clone().unwrap_or_default(),
            owner: prepared.host.uid,
            creator: None,
            init: None,
            cgroup: Cgroup::none(),
            resources: None,
            rdt,
        };
        let hooks = spec.hooks.clone();
        let mut made = Made { entry, _lock: lock, state, hooks, terminal: None, notify: None };
        match made.build(options, prepared, sockets, waits) {
            Ok(init) => Ok((made, init)),
            Err(error) => {
                if let Err(more) = super::delete::destroy(&made.entry, &made.state, made.hooks.as_ref()) {
                    tracing::warn!("{more}");
                }
                Err(error)
            }
        }
    }

    fn build(
        &mut self,
        options: &CreateOptions,
        prepared: Prepared,
        [console, pidfd_socket]: [Option<DescriptorSocket>; 2],
        waits: bool,
    ) -> Result<Init> {
        let Prepared { bundle, host, mut plan, limits, .. } = prepared;
        // What others run in is not ours to record, and so never ours to kill.
        plan.cgroup.check_unused()?;
        self.state.cgroup = plan.cgroup.clone();
        self.state.creator = Some(Process::of(sys::getpid())?);
        self.entry.write_state(&self.state)?;
        self.entry.write_config(&bundle.config)?;
        let hold = make_cgroup(&mut plan, &bundle.spec, &host, &limits, options).inspect_err(|error| {
            if error.kind() == Kind::AlreadyExists {
                // Somebody came in between; what takes this attempt back must not end them.
                self.state.cgroup = Cgroup::none();
            }
        })?;
        self.state.cgroup = plan.cgroup.clone();
        if let (Some(group), Some(class)) = (&mut self.state.rdt, &plan.rdt) {
            group.make(class)?;
        }
        if notify::is_wanted() {
            self.entry.make_notify()?;
        }
        let start = if waits { Some(self.entry.listen_start()?) } else { None };
        self.notify = if waits { None } else { Notify::listen(&self.entry)? };
        let launch = Launch { plan: &plan, host: &host, start, container: None, elsewhere: None };
        let mut init = launch.launch()?;
        init.hold = hold;
        let mut duties = Parent { made: self, spec: &bundle.spec, options, console, pidfd_socket };
        let served = serve::serve(&plan, &host, &mut init, &mut duties);
        init.log_steps(&plan);
        served?;
        init.release();
        Ok(init)
    }
}

/// Makes the cgroup and sets its limits: what keeps its unit alive. A user who may not and asks for
/// nothing gets none.
fn make_cgroup(
    plan: &mut Plan,
    spec: &Spec,
    host: &Host,
    limits: &Limits,
    options: &CreateOptions,
) -> Result<Option<Hold>> {
    let rootless = is_rootless(options, host);
    let made = match plan.cgroup.unit() {
        Some(_) => plan.cgroup.start_unit(&limits.settings, &limits.properties).map(Some),
        None => plan.cgroup.create().map(|()| None),
    };
    let hold = match made {
        Err(error) if rootless && can_do_without(spec, &limits.settings) => {
            tracing::debug!("running without a cgroup of its own: {error}");
            plan.cgroup = Cgroup::none();
            return Ok(None);
        }
        answer => answer?,
    };
    plan.cgroup.apply(&limits.settings, "config.json")?;
    // In a user namespace no device can be made, and an ordinary user may not restrict what he cannot use.
    match plan.cgroup.restrict(&limits.devices, "config.json", "/linux/resources/devices") {
        Err(error) if rootless => tracing::debug!("devices are not restricted: {error}"),
        answer => answer?,
    }
    let owner = plan
        .id_map
        .as_ref()
        .and_then(|map| map.uids.iter().find(|ids| ids.container_id() == 0).map(|ids| ids.host_id()));
    if let (Some(uid), true, true) =
        (owner, Namespaces::of(spec).is_new("cgroup"), spec.mounts.iter().flatten().any(writable_cgroup))
    {
        plan.cgroup.chown(uid)?;
    }
    Ok(hold)
}

/// Whether the container may write to the cgroup file system it sees: only then is its cgroup its own
/// (config-linux.md, "Cgroup ownership").
fn writable_cgroup(mount: &spec::Mount) -> bool {
    let is_cgroup = mount.typ().as_deref() == Some("cgroup") || mount.typ().as_deref() == Some("cgroup2");
    let readonly = mount.options().iter().flatten().any(|option| option == "ro");
    is_cgroup && !readonly
}

/// The parent of a container in the making.
struct Parent<'a> {
    made: &'a mut Made,
    spec: &'a Spec,
    options: &'a CreateOptions,
    console: Option<DescriptorSocket>,
    pidfd_socket: Option<DescriptorSocket>,
}

impl Parent<'_> {
    fn hooks_of(&self, kind: fn(&Hooks) -> &Option<Vec<Hook>>) -> Vec<Hook> {
        self.spec.hooks.as_ref().and_then(|hooks| kind(hooks).clone()).unwrap_or_default()
    }
}

impl Duties for Parent<'_> {
    fn hooks(&mut self, init: &Init) -> Result<()> {
        let state = &self.made.state;
        let told = |kind| occasion(state, Status::Creating, init, kind);
        // Engines still use prestart, which runs with the namespaces there and before everything else.
        told("prestart").run_all(&self.hooks_of(Hooks::prestart))?;
        told("createRuntime").run_all(&self.hooks_of(Hooks::create_runtime))?;
        let inner = self.hooks_of(Hooks::create_container);
        if inner.is_empty() {
            return Ok(());
        }
        let pid = inner_pid(init.pid)?;
        let document = state.hook_document(Status::Creating, pid);
        let told = Told { document, ..told("createContainer") };
        let kinds = Namespaces::of(self.spec).own();
        inside::inside(init.pidfd.as_fd(), kinds, || told.run_all(&inner))
    }

    fn ready(&mut self, init: &Init) -> Result<()> {
        let made = &mut *self.made;
        if let Some(file) = &init.hook_state {
            let document = made.state.hook_document(Status::Created, inner_pid(init.pid)?);
            let mut file = std::fs::File::from(
                file.try_clone().map_err(|e| Error::io("cannot prepare hooks", "fcntl", e))?,
            );
            std::io::Write::write_all(&mut file, &document)
                .and_then(|()| std::io::Seek::rewind(&mut file))
                .map_err(|e| Error::io("cannot prepare hooks", "write", e))?;
        }
        if let Some(group) = &made.state.rdt {
            group.join(init.pid)?;
        }
        made.state.init = Some(Process::of(init.pid)?);
        made.entry.write_state(&made.state)?;
        if let Some(socket) = self.pidfd_socket.take() {
            socket.send(init.pidfd.as_fd(), "pidfd")?;
        }
        match &self.options.pid_file {
            Some(path) => write_pid_file(path, init.pid),
            None => Ok(()),
        }
    }

    fn terminal(&mut self, master: OwnedFd) -> Result<()> {
        match self.console.take() {
            Some(socket) => socket.send(master.as_fd(), "/dev/ptmx"),
            None => {
                terminal::prepare(master.as_fd())?;
                self.made.terminal = Some(master);
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
        let document = super::process_state(&self.made.state, Status::Creating, init.pid, seccomp);
        serve::send_listener(path, &document, listener.as_fd())
    }
}

/// The pid of a process in its own pid namespace, as it sees itself.
fn inner_pid(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path)
        .map_err(|e| Error::io("cannot look at the init process", &format!("read {path}"), e))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    Ok(line.and_then(|line| line.split_ascii_whitespace().last()?.parse().ok()).unwrap_or(pid))
}
