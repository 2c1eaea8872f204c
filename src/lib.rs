//! corten: a low-level OCI container runtime.
pub mod bundle;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod container;
pub mod error;
pub mod host;
pub mod log;
pub mod netlink;
pub mod plan;
pub mod seal;
pub mod seccomp;
pub mod spec;
