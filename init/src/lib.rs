//! What runs inside a container before the container's own program.
//!
//! The runtime compiles `config.json` into a [`program::Program`], a flat list of steps, and clones
//! itself; the child is handed to [`run`], which performs the steps in their order and ends with
//! `execve`. Nothing is decided here, nothing is allocated here, and a failure is a step number, a
//! call and an errno, which the parent words with the place in `config.json` it came from.
//!
//! The crate has no standard library and depends on libc alone, so that what may happen between
//! `clone3` and `execve` is visible at a glance.

#![no_std]
// The types of libc's constants and fields differ between its targets.
#![allow(clippy::unnecessary_cast)]

mod devices;
mod exec;
mod hold;
mod mounts;
mod paths;
mod process;
pub mod program;
mod run;
pub mod sys;
mod terminal;
pub mod wire;

pub use hold::hold;
pub use run::run;
