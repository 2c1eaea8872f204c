//! The life of one container.
pub mod foreground;
pub mod hooks;
pub mod options;
pub mod state;
pub mod store;
pub mod terminal;

pub use options::{CreateOptions, ExecOptions, Rootless, UserOption};
