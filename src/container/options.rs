//! What the command line can ask of a container, as plain values.
//!
//! Everything here is already parsed: numbers are in range, paths are as the caller wrote them
//! (relative ones are relative to the caller's working directory, never to the bundle). This module
//! decides nothing about containers; it only says what a request is, and how the options of `exec`
//! change the process that `config.json` describes.

use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::spec;

/// Whether failures to use cgroups are forgiven (runc's `--rootless`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Rootless {
    True,
    False,
    /// True if the caller's user namespace is not the initial one, or the effective uid is not 0.
    #[default]
    Auto,
}

/// The options of `create`, `run` and `plan`.
#[derive(Debug, Default, Clone)]
pub struct CreateOptions {
    /// The state root (`--root`).
    pub root: PathBuf,
    pub id: String,
    /// The bundle's directory; empty never, `.` by default.
    pub bundle: PathBuf,
    /// Where to write the init's pid: decimal, without a newline.
    pub pid_file: Option<PathBuf>,
    /// A listening unix socket that gets the master of the container's terminal.
    pub console_socket: Option<PathBuf>,
    /// A listening unix socket that gets a pidfd of the init.
    pub pidfd_socket: Option<PathBuf>,
    /// Use MS_MOVE and chroot(2) where pivot_root(2) cannot work (initramfs).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after the standard three and those of `LISTEN_FDS` the container gets.
    pub preserve_fds: u32,
    /// Return when the container has been started (`run`); always set by `create`.
    pub detach: bool,
    /// Do not delete the container when its init ends (`run`).
    pub keep: bool,
    /// Do not become the subreaper of the container's orphans (`run` in the foreground).
    pub no_subreaper: bool,
    /// `cgroupsPath` is `slice:prefix:name`, and systemd makes the cgroup.
    pub systemd_cgroup: bool,
    pub rootless: Rootless,
    /// Log every step.
    pub debug: bool,
}

/// The options of `exec`.
#[derive(Debug, Default, Clone)]
pub struct ExecOptions {
    /// The state root (`--root`).
    pub root: PathBuf,
    pub id: String,
    /// A process document (`--process`); without it the container's own process is the pattern.
    pub process: Option<PathBuf>,
    /// The program and its arguments; empty only with `process`.
    pub args: Vec<String>,
    pub cwd: Option<String>,
    /// `NAME=value`, added after the pattern's.
    pub env: Vec<String>,
    pub tty: bool,
    pub user: Option<UserOption>,
    pub additional_gids: Vec<u32>,
    /// Capabilities to add to the bounding, permitted and effective sets, never to the inheritable
    /// one (CVE-2022-29162).
    pub caps: Vec<String>,
    /// Absent: as the pattern says.
    pub no_new_privs: Option<bool>,
    pub apparmor: Option<String>,
    pub process_label: Option<String>,
    /// Sub-cgroups of the container's to run in: `[CONTROLLER[,CONTROLLER]:]PATH`.
    pub cgroups: Vec<String>,
    pub detach: bool,
    pub pid_file: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub preserve_fds: u32,
    /// Run although the container is paused: the process starts when it is resumed.
    pub ignore_paused: bool,
    pub systemd_cgroup: bool,
    pub rootless: Rootless,
    pub debug: bool,
}

/// `--user UID[:GID]`; without GID the pattern's gid stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserOption {
    pub uid: u32,
    pub gid: Option<u32>,
}

impl ExecOptions {
    /// The process to run: the document of `--process`, else the container's own process
    /// (`pattern`, of the config.json as it was at `create`), changed by the flags.
    ///
    /// As runc does, the flag form takes the terminal from `--tty` alone.
    pub fn process(&self, pattern: Option<&spec::Process>) -> Result<spec::Process> {
        let mut process = match &self.process {
            Some(path) => {
                let what = format!("cannot read process document {}", path.display());
                let bytes = std::fs::read(path).map_err(|e| Error::io(what, "open", e))?;
                let mut process: spec::Process = spec::parse(&bytes, "process.json")?;
                process.terminal |= self.tty;
                process
            }
            None => {
                let mut process = pattern.cloned().ok_or_else(|| {
                    Error::new(Kind::InvalidSpec, "cannot execute without --process")
                        .because("config.json has no process")
                })?;
                process.args = Some(self.args.clone());
                process.terminal = self.tty;
                process
            }
        };
        self.change(&mut process);
        Ok(process)
    }

    fn change(&self, process: &mut spec::Process) {
        if let Some(cwd) = &self.cwd {
            process.cwd.clone_from(cwd);
        }
        if !self.env.is_empty() {
            process.env.get_or_insert_default().extend_from_slice(&self.env);
        }
        if let Some(user) = self.user {
            process.user.uid = user.uid;
            process.user.gid = user.gid.unwrap_or(process.user.gid);
        }
        if !self.additional_gids.is_empty() {
            process.user.additional_gids.get_or_insert_default().extend_from_slice(&self.additional_gids);
        }
        if !self.caps.is_empty() {
            let sets = process.capabilities.get_or_insert_default();
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.get_or_insert_default().extend_from_slice(&self.caps);
            }
        }
        if let Some(no_new_privs) = self.no_new_privs {
            process.no_new_privileges = no_new_privs;
        }
        if let Some(profile) = &self.apparmor {
            process.apparmor_profile = Some(profile.clone());
        }
        if let Some(label) = &self.process_label {
            process.selinux_label = Some(label.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern() -> spec::Process {
        spec::parse(
            br#"{"terminal":true,"cwd":"/","args":["sh"],"env":["A=1"],"user":{"uid":5,"gid":6,"additionalGids":[7]},
                "capabilities":{"bounding":["CAP_KILL"],"inheritable":[],"ambient":["CAP_KILL"]}}"#,
            "test",
        )
        .unwrap()
    }

    #[test]
    fn flags_change_the_containers_process() {
        let options = ExecOptions {
            args: vec!["ls".into()],
            env: vec!["B=2".into()],
            user: Some(UserOption { uid: 1, gid: None }),
            additional_gids: vec![8],
            caps: vec!["CAP_CHOWN".into()],
            no_new_privs: Some(true),
            ..ExecOptions::default()
        };
        let process = options.process(Some(&pattern())).unwrap();
        assert_eq!(process.args.unwrap(), ["ls"]);
        assert_eq!(process.env.unwrap(), ["A=1", "B=2"]);
        assert!(!process.terminal && process.no_new_privileges);
        assert_eq!((process.user.uid, process.user.gid), (1, 6));
        assert_eq!(process.user.additional_gids.unwrap(), [7, 8]);
        let sets = process.capabilities.unwrap();
        assert_eq!(sets.bounding.unwrap(), ["CAP_KILL", "CAP_CHOWN"]);
        assert_eq!(sets.permitted.unwrap(), ["CAP_CHOWN"]);
        assert_eq!(sets.inheritable.unwrap(), [""; 0]);
        assert_eq!(sets.ambient.unwrap(), ["CAP_KILL"]);
    }

    #[test]
    fn a_process_document_replaces_the_containers_process() {
        let path = std::env::temp_dir().join(format!("corten-process-{}.json", std::process::id()));
        std::fs::write(&path, r#"{"terminal":true,"cwd":"/tmp","args":["id"]}"#).unwrap();
        let options =
            ExecOptions { process: Some(path.clone()), cwd: Some("/x".into()), ..ExecOptions::default() };
        let process = options.process(None).unwrap();
        std::fs::remove_file(path).unwrap();
        assert!(process.terminal);
        assert_eq!((process.cwd.as_str(), process.args.unwrap().len()), ("/x", 1));
        assert!(ExecOptions::default().process(None).is_err());
    }
}
