//! corten: a low-level OCI container runtime.
pub mod container;
pub mod error;
pub mod spec;
