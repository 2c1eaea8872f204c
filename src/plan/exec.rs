//! The plan of another process in a running container: join, then become what the process asks for.

use corten_init::program::Op;

use super::{Builder, Open, Origin, Plan, labels, namespaces, process};
use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::host::Host;
use crate::spec::{Process, Spec};

/// What a plan for `exec` is made from.
#[derive(Debug, Clone)]
pub struct Exec<'a> {
    /// config.json as it was when the container was created.
    pub spec: &'a Spec,
    pub process: &'a Process,
    pub host: &'a Host,
    /// The cgroup to run in.
    pub cgroup: Cgroup,
    /// The kinds of namespaces (`CLONE_NEW*`) in which the container's init is not with us.
    pub kinds: u64,
    /// setgroups(2) is denied in the container's user namespace.
    pub groups_denied: bool,
    /// How many descriptors after stdio the process gets.
    pub preserve_fds: u32,
    /// The parent has something to do before the process executes its program.
    pub reports: bool,
}

/// Plans another process. The process must be valid.
pub fn exec(exec: &Exec) -> Result<Plan> {
    let (user, pid) = (libc::CLONE_NEWUSER as u64, libc::CLONE_NEWPID as u64);
    let mut b = Builder::new(exec.cgroup.clone());
    let b = &mut b;
    process::initial_affinity(b, Some(exec.process));
    // Nobody in the container may look into us while we are between it and the host (CVE-2016-9962).
    b.from(Origin::NONE).step(Op::Dumpable(false));
    namespaces::join_cgroup(b);
    let init = b.open(Open::Init);
    // An ordinary user may join a pid namespace only from within its user namespace, and only a child
    // of his is then in it.
    let inside = exec.kinds & pid != 0 && !exec.host.is_privileged();
    if exec.kinds & pid != 0 && !inside {
        b.plan.pid_namespace = Some(init);
    }
    b.from(Origin::at("/linux/namespaces"));
    let kinds = exec.kinds & if inside { u64::MAX } else { !pid };
    if kinds != 0 {
        b.step(Op::Join { namespace: init, kinds });
    }
    if kinds & user != 0 {
        b.step(Op::BecomeRoot { mapped: false });
    }
    if inside {
        b.step(Op::Fork { kinds: 0 });
    }
    b.from(Origin::NONE).step(Op::Session);
    let path = b.text("/");
    b.step(Op::UseRoot { path });
    if labels::needs_proc(Some(exec.process)) {
        b.step(Op::OpenProc);
    }
    if exec.process.terminal {
        process::terminal(b, exec.process, exec.host, false);
    }
    b.filter(exec.spec)?;
    let rules = process::Rules {
        host: exec.host,
        groups_denied: exec.groups_denied,
        in_userns: exec.kinds & user != 0,
        umask: exec.host.umask,
        preserve_fds: exec.preserve_fds,
        listen_fds: 0,
        notifies: false,
        waits: false,
        always_ready: exec.reports,
    };
    process::steps(b, exec.process, None, &rules)?;
    std::mem::replace(b, Builder::new(Cgroup::none())).finish()
}
