//! The interpreter: one step after the other, until `execve` or the first fault.

use core::ffi::CStr;
use core::sync::atomic::Ordering;

use crate::program::{Called, Fault, Op, Program, Slot};
use crate::sys::{self, Side};
use crate::wire::{GO, HEAD, LONGEST, Message, Report};
use crate::{devices, exec, mounts, paths, process, terminal};

/// Performs `program` in a process that was just cloned for it. Never returns.
pub fn run(program: &Program) -> ! {
    close_others(program);
    let _ = sys::unblock_signals();
    let mut state = State {
        program,
        executable: None,
        in_directory: false,
        started_at: None,
        said: mounts::Said::NOTHING,
    };
    for (step, op) in program.steps.iter().enumerate() {
        program.progress.store(step as u64, Ordering::Relaxed);
        if let Some(time) = program.times.get(step) {
            time.store(sys::now(), Ordering::Relaxed);
        }
        if let Err(fault) = state.perform(step as u32, op) {
            state.fail(step as u32, fault, &state.said.bytes[..state.said.length]);
        }
    }
    // A program ends with Exec, which does not return.
    sys::exit(255)
}

/// Closes what the clone gave us of the parent: the log, the lock on the container, whatever else. Only
/// stdio, the container's own descriptors and the program's slots stay.
fn close_others(program: &Program) {
    let mut next = 3 + program.preserve;
    loop {
        let above = |cell: &core::cell::Cell<i32>| u32::try_from(cell.get()).ok().filter(|fd| *fd >= next);
        let kept = program.slots.iter().filter_map(above).min();
        match kept {
            Some(fd) => {
                if fd > next {
                    close_between(next, fd - 1);
                }
                next = fd + 1;
            }
            None => {
                close_between(next, u32::MAX);
                return;
            }
        }
    }
}

fn close_between(first: u32, last: u32) {
    /// No limit on open files is as high where close_range(2) is missing (Linux before 5.9).
    const HIGHEST: u32 = 1 << 16;
    if sys::close_range(first, last, 0).is_err() {
        for fd in first..=last.min(HIGHEST) {
            sys::close(fd as i32);
        }
    }
}

/// What the interpreter remembers between steps.
struct State<'p> {
    program: &'p Program<'p>,
    executable: Option<&'p CStr>,
    in_directory: bool,
    /// The step at which `start` came.
    started_at: Option<u32>,
    /// More about the step that failed.
    said: mounts::Said,
}

impl<'p> State<'p> {
    fn perform(&mut self, step: u32, op: &Op) -> Result<(), Fault> {
        let program = self.program;
        let text = |text| program.text(text);
        match *op {
            Op::JoinCgroup(tasks) if program.slot(tasks) < 0 => Ok(()),
            Op::JoinCgroup(tasks) => {
                let joined = sys::write(program.slot(tasks), b"0").called("write").map(drop);
                program.close(tasks);
                joined
            }
            Op::Join { namespace, kinds } => {
                let joined = sys::setns(program.slot(namespace), kinds).called("setns");
                program.close(namespace);
                joined
            }
            Op::Unshare { kinds } => sys::unshare(kinds).called("unshare"),
            Op::Fork { kinds } => self.fork(kinds),
            Op::Sync(what) => self.ask(&Message::Sync { step, what }, &[]),
            Op::BecomeRoot { mapped } => match process::user(0, 0) {
                Err(fault) if !mapped && fault.errno.0 == libc::EINVAL => Ok(()),
                answer => answer,
            },
            Op::DefaultSignals { ignored } => (1..=64)
                .filter(|signal| ignored & (1 << (signal - 1)) != 0)
                .try_for_each(sys::default_signal)
                .called("sigaction"),
            Op::Dumpable(yes) => sys::prctl(libc::PR_SET_DUMPABLE, u64::from(yes)).called("prctl").map(drop),
            Op::Session => sys::setsid().called("setsid"),
            Op::LoopbackUp => sys::loopback_up().called("ioctl"),
            Op::Hostname(name) => sys::sethostname(text(name)).called("sethostname"),
            Op::Domainname(name) => sys::setdomainname(text(name)).called("setdomainname"),
            Op::OpenProc => process::open_proc(program),

            Op::Propagation { flags } => sys::mount(None, c"/", None, flags, None).called("mount"),
            Op::PrivateParent { path } => mounts::private_parent(text(path)),
            Op::OpenRoot { path, mount_api } => {
                mounts::open_root(text(path), mount_api).map(|fd| program.set(Slot::ROOT, fd))
            }
            Op::UseRoot { path } => {
                let flags = libc::O_PATH | libc::O_DIRECTORY;
                sys::open(text(path), flags).called("open").map(|fd| program.set(Slot::ROOT, fd))
            }
            Op::CloneMount { source, recursive } => {
                mounts::clone(text(source), recursive).map(|fd| program.set(Slot::MOUNT, fd))
            }
            Op::TakeMount { tree } => {
                program.set(Slot::MOUNT, program.slot(tree));
                program.set(tree, -1);
                Ok(())
            }
            Op::NewMount { kind, source, options, attributes } => {
                mounts::create(program, kind, source, options, attributes, &mut self.said)
                    .map(|fd| program.set(Slot::MOUNT, fd))
            }
            Op::SetMount { attr, recursive } => {
                sys::mount_setattr(program.slot(Slot::MOUNT), recursive, &attr).called("mount_setattr")
            }
            Op::MapMount { userns, recursive } => {
                let userns = program.slot(userns) as u64;
                let attr = sys::MountAttr { set: libc::MOUNT_ATTR_IDMAP, userns, ..Default::default() };
                sys::mount_setattr(program.slot(Slot::MOUNT), recursive, &attr).called("mount_setattr")
            }
            Op::Remember { target } => mounts::remember(program, target),
            Op::CopyUp { target, covered } => {
                let Some((new, old)) = mounts::new_and_old(program, target, covered)? else { return Ok(()) };
                let copied = self.ask(&Message::CopyUp { step }, &[new, old]);
                sys::close(new);
                sys::close(old);
                copied
            }
            Op::KeepMode { target, covered } => mounts::keep_mode(program, target, covered),
            Op::Attach { target, point, in_proc } => mounts::attach(program, target, point, in_proc),
            Op::Remount { target, flags, clear } => mounts::remount(program, target, flags, clear),
            Op::LegacyMount { .. } => mounts::legacy(program, *op),

            Op::MakeDirectory { path, mode } => {
                let how = paths::Walk::directory(mode);
                paths::resolve(program.slot(Slot::ROOT), text(path), how).map(sys::close)
            }
            Op::MakeNode { path, mode, device, uid, gid } => {
                devices::make(program, path, mode, device, (uid, gid))
            }
            Op::BindNode { source, path, mode, device, mount_api } => {
                devices::bind(program, source, path, mode, device, mount_api)
            }
            Op::Link { content, path, replace } => devices::link(program, content, path, replace),
            Op::LinkIfPresent { content, path } => match sys::open(text(content), libc::O_PATH) {
                Ok(found) => {
                    sys::close(found);
                    devices::link(program, content, path, false)
                }
                Err(_) => Ok(()),
            },
            Op::Mask { path, mount_api, label } => mounts::mask(program, path, mount_api, label),
            Op::ReadonlyPath { path, mount_api } => mounts::readonly(program, path, mount_api),
            Op::SetRoot { attr, mount_api } => mounts::set_root(program, &attr, mount_api),
            Op::PivotRoot => mounts::pivot(program),
            Op::Discard { path } => mounts::discard(text(path)),
            Op::MoveRoot => mounts::move_root(program),
            Op::Chroot => sys::fchdir(program.slot(Slot::ROOT))
                .and_then(|()| sys::chroot(c"."))
                .called("chroot")
                .and_then(|()| sys::chdir(c"/").called("chdir")),
            Op::RootPropagation { flags } => sys::mount(None, c"/", None, flags, None).called("mount"),

            Op::Sysctl { path, value } => process::sysctl(program, path, value),
            Op::Attribute { path, value } => process::attribute(program, path, value),
            Op::Terminal { rows, columns, console, mount_api, uid } => {
                self.terminal(step, (rows, columns), console, mount_api, uid)
            }
            Op::AdoptTerminal => terminal::adopt(program.slot(Slot::TERMINAL)),
            Op::OwnStdio { uid } => process::own_stdio(uid),
            Op::Keyring { name } => process::keyring(program, name),
            Op::Personality { persona } => sys::personality(persona).called("personality"),
            Op::Umask { mask } => {
                sys::umask(mask);
                Ok(())
            }
            Op::Scheduler { attr } => sys::sched_setattr(&attr).called("sched_setattr"),
            Op::IoPriority { priority } => {
                const PROCESS: i32 = 1;
                sys::ioprio_set(PROCESS, 0, priority as i32).called("ioprio_set")
            }
            Op::MemoryPolicy { mode, nodes } => {
                sys::set_mempolicy(mode, program.bytes(nodes)).called("set_mempolicy")
            }
            Op::EveryCpu => {
                process::every_cpu();
                Ok(())
            }
            Op::Affinity { mask } => {
                sys::sched_setaffinity(0, program.bytes(mask)).called("sched_setaffinity")
            }
            Op::Bounding { keep, last } => process::bounding(keep, last),
            Op::KeepCapabilities => sys::prctl(libc::PR_SET_KEEPCAPS, 1).called("prctl").map(drop),
            Op::Groups { groups } => process::groups(program, groups),
            Op::User { uid, gid } => process::user(uid, gid),
            Op::Capabilities { effective, permitted, inheritable } => {
                sys::capset(effective, permitted, inheritable).called("capset")
            }
            Op::Limit { resource, soft, hard } => sys::prlimit(0, resource, soft, hard).called("prlimit"),
            Op::Ambient { set } => process::ambient(set, |number, errno| {
                self.tell(&Message::Warning { step, call: b"prctl", errno: errno.0, number }, &[]);
            }),
            Op::Directory { path, last } => {
                if !self.in_directory {
                    match process::directory(text(path)) {
                        Ok(()) => self.in_directory = true,
                        // The user whom we become may enter where we may not.
                        Err(fault) if !last && matches!(fault.errno.0, libc::EACCES | libc::EPERM) => {}
                        Err(fault) => return Err(fault),
                    }
                }
                Ok(())
            }
            Op::NoNewPrivileges => sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).called("prctl").map(drop),
            Op::Seccomp { flags, listener } => self.seccomp(step, flags, listener),
            Op::Home { uid } => {
                process::home(program, uid);
                Ok(())
            }
            Op::Find { candidates } => {
                exec::find(program, candidates).map(|path| self.executable = Some(path))
            }
            Op::Start => {
                exec::wait(program)?;
                self.started_at = Some(step);
                Ok(())
            }
            Op::Hook { index } => self.hook(step, index),
            Op::Exec => {
                let path = self.executable.unwrap_or(c"");
                let mut head = [0; HEAD];
                let (fault, length) = exec::become_program(program, path, &mut head);
                self.fail(step, fault, &head[..length])
            }
        }
    }

    fn tell(&self, message: &Message, fds: &[i32]) {
        let mut buffer = [0; LONGEST];
        let length = message.encode(&mut buffer);
        let _ = sys::send(self.program.slot(Slot::SYNC), &buffer[..length], fds);
    }

    /// Sends a message and waits for leave to go on.
    fn ask(&self, message: &Message, fds: &[i32]) -> Result<(), Fault> {
        let mut buffer = [0; LONGEST];
        let length = message.encode(&mut buffer);
        let socket = self.program.slot(Slot::SYNC);
        sys::send(socket, &buffer[..length], fds).called("sendmsg")?;
        self.wait_for_leave();
        Ok(())
    }

    fn wait_for_leave(&self) {
        let mut answer = [0; 1];
        if sys::read(self.program.slot(Slot::SYNC), &mut answer) != Ok(1) || answer != *GO {
            // The parent is gone, or gave up and knows why.
            sys::exit(1);
        }
    }

    fn fork(&self, kinds: u64) -> Result<(), Fault> {
        let flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
        match sys::clone3(kinds | flags, None).called("clone3")? {
            Side::Child => {
                // The parent must know who we are before it hears from us.
                self.wait_for_leave();
                Ok(())
            }
            Side::Parent { pidfd, .. } => {
                // Our number for it may not be the parent's: we may be in another pid namespace.
                self.tell(&Message::Forked, &[pidfd]);
                sys::exit(0)
            }
        }
    }

    fn terminal(
        &self,
        step: u32,
        size: (u16, u16),
        console: bool,
        mount_api: bool,
        uid: u32,
    ) -> Result<(), Fault> {
        let (master, other) = terminal::open(self.program)?;
        if size != (0, 0) {
            sys::set_window_size(master, size.0, size.1).called("ioctl")?;
        }
        if console {
            terminal::console(self.program, other, mount_api)?;
        }
        if uid != 0 {
            sys::chown(other, uid, u32::MAX).called("chown")?;
        }
        self.ask(&Message::Terminal { step }, &[master])?;
        sys::close(master);
        self.program.set(Slot::TERMINAL, other);
        Ok(())
    }

    fn seccomp(&self, step: u32, flags: u32, listener: bool) -> Result<(), Fault> {
        let fd = sys::seccomp::load(flags, self.program.filter).called("seccomp")?;
        if listener {
            self.ask(&Message::Listener { step }, &[fd])?;
            sys::close(fd);
        }
        Ok(())
    }

    fn hook(&self, step: u32, index: u16) -> Result<(), Fault> {
        let Some(hook) = self.program.hooks.get(usize::from(index)) else {
            return Err(Fault::new("execve", libc::ENOENT));
        };
        let exec::Ended::Badly { status, timed_out } = exec::hook(self.program, hook)? else { return Ok(()) };
        let words = self.words(step);
        let mut output = [0; HEAD];
        let length = exec::output(self.program, hook, &mut output);
        let ended = Message::Hook { step, status, timed_out, words, output: &output[..length] };
        self.tell(&ended, &[]);
        sys::exit(1)
    }

    /// What `step` does, in words, once whoever listens has no plan.
    fn words(&self, step: u32) -> &'p [u8] {
        let place = self.started_at.and_then(|start| self.program.late.get((step - start) as usize));
        place.map_or(b"", |place| self.program.bytes(*place))
    }

    /// Tells why it ends, and ends.
    fn fail(&self, step: u32, fault: Fault, head: &[u8]) -> ! {
        let report = Report { words: self.words(step), head, ..Report::new(step, fault) };
        self.tell(&Message::Fault(report), &[]);
        sys::exit(1)
    }
}
