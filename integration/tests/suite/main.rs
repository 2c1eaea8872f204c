//! The suite, by subject. Every test checks a property by its effect on a real kernel.

mod cgroups;
mod cli;
mod concurrency;
mod devices;
mod errors;
mod events;
mod examples;
mod exec;
mod hooks;
mod lifecycle;
mod limits;
mod mount_options;
mod mounts;
mod namespaces;
mod notify;
mod old_kernel;
mod pause;
mod process;
mod ps;
mod rootfs;
mod scheduling;
mod seccomp;
mod security;
mod systemd;
mod terminal;
mod update;
