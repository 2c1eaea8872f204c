//! From a plan to a running init process: opens what the plan wants open, lends the init its program,
//! and clones.

use std::cell::Cell;
use std::ffi::c_char;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use corten_init::program::{Hook, Op, Program, Slot, Text};
use corten_init::sys::{self, Side};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::idmap;
use crate::cgroup::systemd::Hold;
use crate::cgroup::{self, Cgroup};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::{Open, Plan};

/// The init process, and what binds us to it.
pub struct Init {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub socket: OwnedFd,
    /// The step it is at, then when each step began.
    progress: &'static [AtomicU64],
    /// Files that startContainer hooks read the state from; written once the pid is known.
    pub hook_state: Option<OwnedFd>,
    /// It is not in the cgroup and cannot go there by itself: [`Cgroup::attach`] can.
    pub outside: bool,
    /// What keeps the cgroup's unit alive as long as it may be outside.
    pub hold: Option<Hold>,
    /// How many processes the OOM killer had killed in the cgroup before.
    pub oom_kills: u64,
    /// It is ours to end and to reap: nobody else has heard of it yet.
    unfinished: bool,
}

impl Init {
    /// The number of the step it was last seen at.
    pub fn step(&self) -> usize {
        (self.progress[0].load(Ordering::Relaxed) & 0xffff) as usize
    }

    /// Logs every step that was begun, with its place in config.json and how long it took.
    pub fn log_steps(&self, plan: &Plan) {
        let times: Vec<_> = self.progress[1..].iter().map(|time| time.load(Ordering::Relaxed)).collect();
        for (index, began) in times.iter().enumerate().filter(|(_, began)| **began > 0) {
            let ended = times.get(index + 1).copied().filter(|ended| *ended > 0).unwrap_or_else(sys::now);
            let origin = plan.steps[index].origin.to_string();
            let origin = if origin.is_empty() { origin } else { format!(" (config.json#{origin})") };
            let took = (ended - began) / 1000;
            tracing::debug!("step {index}: {}{origin}: {took} us", crate::plan::describe(plan, index));
        }
    }

    /// From now on it lives on when this value is dropped.
    pub fn release(&mut self) {
        self.unfinished = false;
    }

    /// The container goes on in another child of ours; the process so far ends by itself.
    pub fn replace(&mut self, pidfd: OwnedFd) -> Result<()> {
        let what = "cannot follow the init process";
        let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let info = std::fs::read_to_string(&path).map_err(|e| Error::io(what, &format!("read {path}"), e))?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        let pid = pid.filter(|pid| *pid > 0).ok_or_else(|| Error::kernel(what, "pidfd", Errno::ESRCH))?;
        self.pidfd = pidfd;
        let before = std::mem::replace(&mut self.pid, pid);
        sys::wait(before, libc::__WALL).map_err(|errno| kernel(what, "wait4", errno))?;
        Ok(())
    }

    /// Waits until it has ended, and reaps it: the wait status.
    pub fn reap(&mut self) -> Result<i32> {
        self.unfinished = false;
        let status = sys::wait(self.pid, libc::__WALL);
        let status =
            status.map_err(|errno| kernel("cannot wait for the container's process", "wait4", errno))?;
        Ok(status.unwrap_or(0))
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if self.unfinished {
            // Both fail only if it is gone already.
            let _ = sys::pidfd_send_signal(self.pidfd.as_raw_fd(), libc::SIGKILL, 0, 0);
            let _ = sys::wait(self.pid, libc::__WALL);
        }
    }
}

/// A kernel's answer as an error.
pub fn kernel(what: impl Into<String>, call: &str, errno: sys::Errno) -> Error {
    Error::kernel(what, call, Errno::from_raw(errno.0))
}

/// A pidfd of our child, which keeps its pid until we reap it.
fn pidfd_of(pid: i32, what: &str) -> Result<OwnedFd> {
    let gone = || Error::kernel(what, "pidfd_open", Errno::ESRCH);
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(gone)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|errno| Error::kernel(what, "pidfd_open", Errno::from_raw(errno.raw_os_error())))
}

/// What a launch needs besides the plan.
pub struct Launch<'a> {
    pub plan: &'a Plan,
    pub host: &'a Host,
    /// The socket on which the container will wait for `start`.
    pub start: Option<OwnedFd>,
    /// The init of the container that `exec` joins.
    pub container: Option<BorrowedFd<'a>>,
    /// Where the container's processes are if not in the plan's cgroup: it may have moved them below,
    /// and then nobody may be put in between (cgroups(7), "no internal processes").
    pub elsewhere: Option<&'a Cgroup>,
}

impl Launch<'_> {
    /// Starts the init process. It runs until its first need of us.
    pub fn launch(self) -> Result<Init> {
        let plan = self.plan;
        let what = "cannot start the init process";
        if self.host.ignored_signals & (1 << (libc::SIGCHLD - 1)) != 0 {
            // Children of whoever ignores it leave no wait status behind.
            sys::default_signal(libc::SIGCHLD).map_err(|errno| kernel(what, "sigaction", errno))?;
        }
        let entry = plan.cgroup.entry()?;
        let opened = self.open(&entry)?;
        let (ours, its) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| Error::kernel(what, "socketpair", errno))?;
        let timed = if tracing::enabled!(tracing::Level::DEBUG) { plan.steps.len() } else { 0 };
        let progress = sys::shared_words(1 + timed).map_err(|errno| kernel(what, "mmap", errno))?;
        let hook_state = if plan.hooks.is_empty() { None } else { Some(memory_file("state")?) };
        let hook_output = if plan.hooks.is_empty() { None } else { Some(memory_file("output")?) };

        let first_extra = usize::from(Slot::FIRST_OPEN) + plan.opens.len();
        let slots = vec![Cell::new(-1); first_extra + 2];
        slots[usize::from(Slot::SYNC.0)].set(its.as_raw_fd());
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        slots[usize::from(Slot::START.0)].set(number(&self.start));
        for (index, fd) in opened.iter().enumerate() {
            slots[usize::from(Slot::FIRST_OPEN) + index].set(number(fd));
        }
        slots[first_extra].set(number(&hook_state));
        slots[first_extra + 1].set(number(&hook_output));

        let pointer = |text: &Text| plan.text.as_ptr().wrapping_add(text.at as usize).cast::<c_char>();
        let array = |texts: &[Text]| texts.iter().map(pointer).chain([std::ptr::null()]).collect::<Vec<_>>();
        let argv = array(&plan.argv);
        let mut envp = array(&plan.envp);
        let home: Vec<Cell<u8>> = b"HOME=/\0".iter().copied().chain([0; HOME_MAX]).map(Cell::new).collect();
        if plan.home {
            envp.insert(envp.len() - 1, home.as_ptr().cast::<c_char>());
        }
        let arrays: Vec<_> = plan.hooks.iter().map(|hook| (array(&hook.argv), array(&hook.envp))).collect();
        let hooks: Vec<_> = plan
            .hooks
            .iter()
            .zip(&arrays)
            .map(|(hook, (argv, envp))| Hook {
                path: hook.path,
                argv,
                envp,
                state: Slot(first_extra as u16),
                output: Slot(first_extra as u16 + 1),
                timeout: hook.timeout,
            })
            .collect();
        let steps: Vec<Op> = plan.steps.iter().map(|step| step.op).collect();
        let program = Program {
            steps: &steps,
            text: &plan.text,
            words: &plan.words,
            slots: &slots,
            argv: &argv,
            envp: &envp,
            home: &home,
            filter: &plan.filter,
            hooks: &hooks,
            late: &plan.late,
            preserve: plan.preserve,
            progress: &progress[0],
            times: &progress[1..],
        };
        if !plan.initial_affinity.is_empty() {
            sys::sched_setaffinity(0, &plan.initial_affinity).map_err(|errno| {
                kernel("cannot set the initial CPU affinity", "sched_setaffinity", errno)
                    .at("/process/execCPUAffinity/initial")
            })?;
        }
        // A new container's cgroup has no past.
        let oom_kills = if self.container.is_some() { plan.cgroup.oom_kills() } else { 0 };
        let (pid, pidfd, outside) = self.clone(&program, &entry)?;
        Ok(Init {
            pid,
            pidfd,
            socket: ours,
            progress,
            hook_state,
            outside,
            hold: None,
            oom_kills,
            unfinished: true,
        })
    }

    /// Clones, in the child runs the program, in the parent returns the pid, a pidfd, and whether the
    /// child needs help to enter the cgroup.
    fn clone(&self, program: &Program, entry: &cgroup::Entry) -> Result<(i32, OwnedFd, bool)> {
        let what = "cannot clone the init process";
        let place = self.plan.pid_namespace.map(|slot| program.slot(slot));
        let own = match place {
            Some(namespace) => {
                let origin =
                    self.plan.pid_namespace.and_then(|slot| self.plan.need(slot)).map(|need| need.origin);
                let pid = libc::CLONE_NEWPID as u64;
                let own = File::open("/proc/self/ns/pid").map_err(|e| Error::io(what, "open", e))?;
                sys::setns(namespace, pid).map_err(|errno| {
                    kernel("cannot join the pid namespace", "setns", errno)
                        .at(origin.unwrap_or_default().to_string())
                })?;
                Some(own)
            }
            None => None,
        };
        // Whoever is in that pid namespace sees our child from its first instant, while it still has all
        // of our privileges and the host's root (CVE-2016-9962): it is born closed to their eyes.
        let dumpable =
            |yes: u64| sys::prctl(libc::PR_SET_DUMPABLE, yes).map_err(|errno| kernel(what, "prctl", errno));
        if own.is_some() {
            dumpable(0)?;
        }
        let kinds = self.plan.kinds;
        let clone = |cgroup| match sys::clone3(kinds | sys::CLONE_CLEAR_SIGHAND, cgroup) {
            // Linux before 5.5: our few handlers go with execve(2).
            Err(sys::Errno(libc::EINVAL)) => sys::clone3(kinds, cgroup),
            answer => answer,
        };
        let mut outside = false;
        // Open in the child as well, until it has written to it.
        let mut procs = None;
        let mut side = clone(entry.into_cgroup.as_ref().map(AsRawFd::as_raw_fd));
        if let (Err(errno), true) = (side, entry.into_cgroup.is_some()) {
            let by_user = self.plan.cgroup.unit().is_some_and(|unit| unit.user);
            match errno.0 {
                // Linux before 5.7; a threaded cgroup; a cgroup with controllers for its children; one
                // that is full (pids.max counts forks alone, and a scope is held by a process of ours).
                libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP | libc::EBUSY | libc::E2BIG | libc::EAGAIN => {
                    procs = self.unified(program, errno.0 == libc::EBUSY)?;
                    side = clone(None);
                }
                // We are in another session than the unit.
                libc::EACCES | libc::EPERM if by_user => {
                    outside = true;
                    side = clone(None);
                }
                _ => {}
            }
        }
        let failed = |errno: sys::Errno| match errno.0 {
            libc::ENOSYS => kernel(what, "clone3", errno)
                .because("Linux 5.3 is needed, and a sandbox around us that lets the call through"),
            _ => kernel(what, "clone3", errno),
        };
        match side.map_err(failed)? {
            Side::Child => corten_init::run(program),
            Side::Parent { pid, .. } => {
                drop(procs);
                if let Some(own) = own {
                    dumpable(1)?;
                    sys::setns(own.as_raw_fd(), libc::CLONE_NEWPID as u64)
                        .map_err(|errno| kernel(what, "setns", errno))?;
                }
                Ok((pid, pidfd_of(pid, what)?, outside))
            }
        }
    }

    /// Lets the child join the cgroup2 by itself: `cgroup.procs` in its slot.
    fn unified(&self, program: &Program, busy: bool) -> Result<Option<OwnedFd>> {
        let cgroup = self.elsewhere.filter(|_| busy).unwrap_or(&self.plan.cgroup);
        let Some(dir) = cgroup.unified() else { return Ok(None) };
        let path = dir.full_path().join("cgroup.procs");
        let what = format!("cannot open {}", path.display());
        let file = File::options().write(true).open(path).map_err(|e| Error::io(what, "open", e))?;
        let procs = OwnedFd::from(file);
        if let Some(index) = self.plan.opens.iter().position(|need| need.open == Open::Unified) {
            program.set(Slot(Slot::FIRST_OPEN + index as u16), procs.as_raw_fd());
        }
        Ok(Some(procs))
    }

    fn open(&self, entry: &cgroup::Entry) -> Result<Vec<Option<OwnedFd>>> {
        let open = |need: &crate::plan::Need| {
            self.open_one(&need.open, entry).map_err(|error| error.at(need.origin.to_string()))
        };
        self.plan.opens.iter().map(open).collect()
    }

    fn open_one(&self, open: &Open, entry: &cgroup::Entry) -> Result<Option<OwnedFd>> {
        let duplicate = |fd: BorrowedFd| {
            fd.try_clone_to_owned()
                .map(Some)
                .map_err(|e| Error::io("cannot start the init process", "fcntl", e))
        };
        match open {
            Open::Namespace { path } => {
                let what = || format!("cannot open namespace {path}");
                File::open(path).map(|file| Some(file.into())).map_err(|e| Error::io(what(), "open", e))
            }
            Open::Init => self.container.map_or(Ok(None), duplicate),
            Open::Tasks(index) => {
                entry.tasks.get(*index).map_or(Ok(None), |fd| duplicate(std::os::fd::AsFd::as_fd(fd)))
            }
            Open::Unified => Ok(None),
            Open::Tree { source, recursive, map, map_recursive } => {
                idmap::tree(source, *recursive, map.as_ref(), *map_recursive, self.host).map(Some)
            }
            Open::Userns(map) => idmap::userns(map, self.host).map(Some),
        }
    }
}

/// The longest home directory that is taken from a passwd file.
const HOME_MAX: usize = 1024;

fn memory_file(name: &str) -> Result<OwnedFd> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC)
        .map_err(|errno| Error::kernel("cannot prepare hooks", "memfd_create", errno))
}
