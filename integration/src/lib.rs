//! Drives a runtime binary, as root, with real bundles on the real kernel.
//!
//! The suite checks properties by their effect: what a process inside the container sees, what the
//! runtime prints and returns, what is left on the host afterwards. It knows nothing of any runtime's
//! inside, so that `RUNTIME=/usr/sbin/runc` or `RUNTIME=/usr/bin/crun` run the same tests; where those
//! legitimately differ, `deviations.toml` says so and the test must really fail there.
//!
//! It must never depend on the runtime's crate, and never leave anything behind.

mod agent;
mod bundle;
mod cgroup;
mod console;
mod container;
mod deviation;
mod exec;
mod host;
mod invocation;
mod reports;
mod rootfs;
mod runtime;
mod view;

pub use agent::Agent;
pub use bundle::Bundle;
pub use cgroup::{bundles, cgroup_of, has_systemd};
pub use console::{ConsoleSocket, Terminal};
pub use container::{Container, assert_nothing_left};
pub use deviation::{check, skip};
pub use exec::Exec;
pub use host::{
    Cgroups, cgroup_dirs, cgroups, kernel_at_least, kernel_has, limit, mounts_below, own_capabilities, read,
};
pub use invocation::{Invocation, Output};
pub use reports::Reports;
pub use rootfs::{Scratch, fill_rootfs, probe_path, unique};
pub use runtime::Runtime;
pub use view::View;
