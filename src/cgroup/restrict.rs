//! Keeping the container from devices: writes or attaches what [`devices`](super::devices()) made.

use std::os::fd::{AsRawFd, OwnedFd};

use corten_init::sys::{self, bpf};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::{Cgroup, Devices, file};
use crate::error::{Error, Kind, Result};

/// More programs than this are nobody's devices.
const MOST_PROGRAMS: usize = 64;

impl Cgroup {
    /// Applies device rules, at creation or in the place of those the cgroup has.
    ///
    /// # Errors
    ///
    /// `Kernel` with EPERM if we may not load a program, as in a user namespace, where
    /// the container cannot make device nodes either: whether to go on is up to the caller.
    pub fn restrict(&self, devices: &Devices, document: &str, pointer: &str) -> Result<()> {
        let program: &[u64] = match devices {
            Devices::Files(settings) => return self.apply(settings, document),
            Devices::Program(program) => program,
            Devices::Unrestricted => &[],
        };
        let cannot = |call: &str, errno| {
            Error::kernel("cannot restrict devices", call, errno).at_in(document, pointer)
        };
        let Some(dir) = self.unified() else {
            if program.is_empty() {
                return Ok(());
            }
            let what = "cannot restrict devices: container could not join or create cgroup";
            return Err(Error::new(Kind::Unsupported, what).at_in(document, pointer));
        };
        let cgroup = file::open(&dir.full_path(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|errno| cannot("open the cgroup", errno))?;
        let old = attached(&cgroup).map_err(|errno| cannot("bpf BPF_PROG_QUERY", errno))?;
        if !program.is_empty() {
            let new = load(program).map_err(|errno| cannot("bpf BPF_PROG_LOAD", errno))?;
            let attach = |replaced: Option<&Program>| {
                let replaced = replaced.map(|program| program.0);
                bpf::attach_device_program(cgroup.as_raw_fd(), new.0, replaced).map_err(answer)
            };
            let result = match old.as_slice() {
                [only] => match attach(Some(only)) {
                    Ok(()) => return Ok(()),
                    // No BPF_F_REPLACE before Linux 5.6: beside it, and then without it.
                    Err(Errno::EINVAL) => attach(None),
                    result => result,
                },
                _ => attach(None),
            };
            result.map_err(|errno| cannot("bpf BPF_PROG_ATTACH", errno))?;
        }
        // Only now: at no time is the container without any.
        for program in &old {
            bpf::detach_device_program(cgroup.as_raw_fd(), program.0)
                .map_err(|errno| cannot("bpf BPF_PROG_DETACH", answer(errno)))?;
        }
        Ok(())
    }
}

/// An open eBPF program.
struct Program(i32);

impl Drop for Program {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

fn load(instructions: &[u64]) -> nix::Result<Program> {
    let attempt = || bpf::load_device_program(instructions).map(Program).map_err(answer);
    match attempt() {
        Err(Errno::EPERM) => {
            // Before Linux 5.11 a program counts as locked memory. Not for longer than needed: the
            // container inherits our limits.
            let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
            setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
            let result = attempt();
            setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
            result
        }
        result => result,
    }
}

fn attached(cgroup: &OwnedFd) -> nix::Result<Vec<Program>> {
    let mut ids = [0; MOST_PROGRAMS];
    let count = bpf::device_programs(cgroup.as_raw_fd(), &mut ids).map_err(answer)?;
    ids.iter().take(count).map(|&id| bpf::program_by_id(id).map(Program).map_err(answer)).collect()
}

fn answer(errno: sys::Errno) -> Errno {
    Errno::from_raw(errno.0)
}
