//! The suite, by subject. Every test checks a property by its effect on a real kernel.

mod cgroups;
mod cli;
mod concurrency;
mod devices;
mod errors;
mod examples;
mod exec;
mod hooks;
mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod notify;
mod old_kernel;
mod process;
mod rootfs;
mod scheduling;
mod seccomp;
mod security;
mod terminal;
