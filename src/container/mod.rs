//! The life of one container, from a bundle to nothing left: what each command of the command line does.

pub mod copy_up;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
mod executable;
mod fault;
mod features;
mod filtered;
pub mod foreground;
pub mod hooks;
pub mod idmap;
pub mod inside;
pub mod kill;
mod launch;
pub mod notify;
pub mod options;
pub mod pause;
pub mod processes;
mod serve;
pub mod start;
pub mod state;
pub mod store;
pub mod terminal;
pub mod update;

use std::io::Write;
use std::path::Path;
use std::time::Duration;

pub use create::{create, plan, run};
pub use delete::delete;
pub use events::{Event, events};
pub use exec::exec;
pub use features::features;
pub use kill::kill;
pub use options::{CreateOptions, ExecOptions, Rootless, UserOption};
pub use pause::{pause, resume};
pub use processes::processes;
pub use start::start;
pub use update::update;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::spec;
use state::{State, Status};

/// How long a command waits for another one that works on the same container.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How many descriptors systemd's socket activation passed to us (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    let count = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok());
    count.filter(|count| *count < 1024).unwrap_or(0)
}

/// Logs what planning noticed.
fn log_notes(plan: &Plan) {
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    for detail in &plan.details {
        tracing::debug!("{detail}");
    }
}

/// Writes a pid file: decimal, no newline, there in whole or not at all.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let what = || format!("cannot write pid file {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::kernel(what(), "open", nix::errno::Errno::EISDIR))?;
    // Beside it under another name first: who waits for the file must never see half of it.
    let draft = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&draft)
        .map_err(|e| Error::io(what(), "open", e))
        .and_then(|mut file| {
            file.write_all(pid.to_string().as_bytes()).map_err(|e| Error::io(what(), "write", e))
        })
        .and_then(|()| std::fs::rename(&draft, path).map_err(|e| Error::io(what(), "rename", e)));
    if written.is_err() {
        std::fs::remove_file(&draft).ok();
    }
    written
}

/// The container process state of the specification, which goes to a seccomp agent.
fn process_state(state: &State, status: Status, pid: i32, seccomp: &spec::Seccomp) -> Vec<u8> {
    let inner: serde_json::Value =
        serde_json::from_slice(&state.hook_document(status, pid)).unwrap_or_default();
    let document = serde_json::json!({
        "ociVersion": state.oci_version,
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.listener_metadata.as_deref().unwrap_or_default(),
        "state": inner,
    });
    document.to_string().into_bytes()
}
