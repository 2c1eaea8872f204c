//! corten: a low-level OCI container runtime.
pub mod error;
pub mod spec;
