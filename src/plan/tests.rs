//! The plan of every example, as `corten plan` prints it, against the one that was read and found
//! right: `BLESS=1` writes them anew.

use std::path::{Path, PathBuf};

use corten_init::program::{Op, Slot};
use corten_init::sys::Calls;

use super::*;
use crate::cgroup::{Layout, path};
use crate::host::Host;
use crate::spec::Spec;

/// A machine that has everything, with one cgroup2 hierarchy.
fn host() -> Host {
    Host {
        calls: Calls { mount_api: true, mount_setattr: true },
        uid: 0,
        gid: 0,
        capabilities: (1 << 41) - 1,
        last_capability: 40,
        initial_userns: true,
        umask: 0o022,
        ignored_signals: 1 << (libc::SIGPIPE - 1),
        apparmor: false,
        selinux: false,
        cgroups: Layout::unified("/sys/fs/cgroup", "/system.slice/engine.service"),
        kernel_mounts: vec!["/sys".into(), "/proc".into()],
    }
}

fn plan_of(spec: &Spec, host: &Host) -> Result<Plan> {
    let cgroup = path::place(&host.cgroups, spec.linux().cgroups_path.as_deref(), "example")?;
    create(&Create {
        spec,
        host,
        id: "example",
        bundle: Path::new("/bundle"),
        rootfs: Path::new("/bundle/rootfs"),
        cgroup,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        listen_fds: 0,
        notify: None,
        waits: true,
    })
}

fn examples() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec-examples");
    let mut examples: Vec<_> = std::fs::read_dir(all)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    examples.sort();
    examples
}

fn example(name: &str) -> Spec {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec-examples");
    Spec::parse(&std::fs::read(all.join(name).join("config.json")).unwrap()).unwrap()
}

#[test]
fn every_example_has_the_plan_that_was_read() {
    let examples = examples();
    assert!(examples.len() > 20);
    let mut differing = Vec::new();
    for dir in examples {
        let spec = Spec::parse(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
        let printed = text(&plan_of(&spec, &host()).unwrap());
        let golden = dir.join("plan.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &printed).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != printed {
            differing.push(dir);
        }
    }
    assert!(differing.is_empty(), "the plans of {differing:?} changed: look with BLESS=1 and git diff");
}

#[test]
fn planning_is_pure() {
    let spec = example("docker");
    assert_eq!(plan_of(&spec, &host()).unwrap(), plan_of(&spec, &host()).unwrap());
}

#[test]
fn every_step_of_a_mount_names_it() {
    let plan = plan_of(&example("docker"), &host()).unwrap();
    for (index, step) in plan.steps.iter().enumerate() {
        if let Op::NewMount { .. } | Op::SetMount { .. } | Op::Attach { .. } = step.op {
            let origin = step.origin.to_string();
            assert!(origin.starts_with("/mounts/"), "{origin}");
            assert!(describe(&plan, index).starts_with("mount "), "{}", describe(&plan, index));
        }
    }
}

fn steps_with(spec: &Spec, host: &Host, wanted: fn(&Op) -> bool) -> Vec<Op> {
    plan_of(spec, host).unwrap().steps.into_iter().map(|step| step.op).filter(wanted).collect()
}

#[test]
fn old_kernels_get_mount_2() {
    let calls = Calls { mount_api: false, mount_setattr: false };
    let host = Host { calls, ..host() };
    let new = |op: &Op| matches!(op, Op::NewMount { .. } | Op::CloneMount { .. } | Op::SetMount { .. });
    assert_eq!(steps_with(&example("docker"), &host, new), []);
    assert_eq!(steps_with(&example("cgroup"), &host, new), []);
    let legacy = |op: &Op| matches!(op, Op::LegacyMount { .. });
    assert!(steps_with(&example("docker"), &host, legacy).len() > 8);
}

#[test]
fn nothing_is_forked_without_need() {
    let fork = |op: &Op| matches!(op, Op::Fork { .. });
    for name in
        ["hello", "docker", "containerd", "podman", "userns", "kubernetes-sandbox", "kubernetes-container"]
    {
        assert_eq!(steps_with(&example(name), &host(), fork), [], "{name}");
    }
    assert_eq!(steps_with(&example("timens"), &host(), fork).len(), 1);
}

#[test]
fn only_the_last_steps_run_under_the_filter() {
    let plan = plan_of(&example("docker"), &host()).unwrap();
    let at = plan.steps.iter().position(|step| matches!(step.op, Op::Seccomp { .. })).unwrap();
    assert!(plan.steps[at..].len() <= 3, "{:?}", &plan.steps[at..]);
    assert!(at > plan.start_step().unwrap());
}

#[test]
fn every_string_is_where_it_is_said_to_be() {
    for dir in examples() {
        let spec = Spec::parse(&std::fs::read(dir.join("config.json")).unwrap()).unwrap();
        let plan = plan_of(&spec, &host()).unwrap();
        for text in plan.argv.iter().chain(&plan.envp).chain(&plan.words).chain(&plan.late) {
            assert!(text.len == 0 || plan.text[(text.at + text.len) as usize] == 0);
        }
        assert!(usize::from(Slot::FIRST_OPEN) + plan.opens.len() <= Slot::COUNT);
    }
}

#[test]
fn too_many_descriptors_are_refused() {
    let mut spec = example("userns");
    let mount = spec.mounts.as_ref().unwrap()[0].clone();
    let bind = |index: usize| {
        let mut bind = mount.clone();
        bind.set_destination(format!("/m{index}").into()).set_source(Some("/etc".into()));
        bind.set_typ(Some("bind".into())).set_options(Some(vec!["bind".into()]));
        bind
    };
    spec.mounts = Some((0..Slot::COUNT).map(bind).collect());
    let error = plan_of(&spec, &host()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
}
