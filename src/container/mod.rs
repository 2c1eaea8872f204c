//! The life of one container.
pub mod hooks;
pub mod options;
pub mod state;
pub mod store;

pub use options::{CreateOptions, ExecOptions, Rootless, UserOption};
