//! The life of one container.
pub mod options;

pub use options::{CreateOptions, ExecOptions, Rootless, UserOption};
