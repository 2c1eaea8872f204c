//! corten: a low-level OCI container runtime.
pub mod cgroup;
pub mod container;
pub mod error;
pub mod spec;
