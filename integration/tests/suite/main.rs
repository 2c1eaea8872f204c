//! The suite, by subject. Every test checks a property by its effect on a real kernel.

mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod scheduling;
