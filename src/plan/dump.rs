//! The plan in words: for `corten plan`, for `--debug`, and for the errors, which begin with what
//! could not be done.

use std::fmt::Write;

use corten_init::program::{Op, Point, Sync, Text};

use super::{Open, Plan, Step};

/// What a step does, as a verb and its object: "mount sysfs on /sys".
pub fn describe(plan: &Plan, index: usize) -> String {
    let Some(step) = plan.steps.get(index) else { return format!("perform step {index}") };
    let text = |text: Text| plan.str(text);
    match step.op {
        Op::JoinCgroup(_) => "join the cgroup".into(),
        Op::Join { namespace, kinds } => match plan.need(namespace).map(|need| &need.open) {
            Some(Open::Namespace { path }) => {
                format!("join the {} namespace {path}", kinds_in_words(kinds))
            }
            _ => format!("join the container's {} namespaces", kinds_in_words(kinds)),
        },
        Op::Unshare { kinds } => format!("make a new {} namespace", kinds_in_words(kinds)),
        Op::Fork { kinds: 0 } => "continue in a child".into(),
        Op::Fork { kinds } => format!("continue in a child with a new {} namespace", kinds_in_words(kinds)),
        Op::Sync(what) => sync(plan, what),
        Op::BecomeRoot { .. } => "become root of the user namespace".into(),
        Op::DefaultSignals { .. } => "stop ignoring signals".into(),
        Op::Dumpable(_) => "hide from the processes of the container".into(),
        Op::Session => "start a session".into(),
        Op::LoopbackUp => "bring the loopback interface up".into(),
        Op::Hostname(name) => format!("set the host name to {}", text(name)),
        Op::Domainname(name) => format!("set the domain name to {}", text(name)),
        Op::OpenProc => "open a private procfs".into(),
        Op::Propagation { flags } => format!("make the mounts of the host {}", propagation(flags)),
        Op::PrivateParent { path } => format!("make the mount that holds {} private", text(path)),
        Op::OpenRoot { path, .. } => format!("make {} a mount", text(path)),
        Op::UseRoot { path } => format!("use {} as the root", text(path)),
        Op::CloneMount { .. }
        | Op::TakeMount { .. }
        | Op::NewMount { .. }
        | Op::SetMount { .. }
        | Op::MapMount { .. }
        | Op::KeepMode { covered: false, .. }
        | Op::CopyUp { covered: false, .. }
        | Op::Attach { .. } => mount(plan, index),
        Op::KeepMode { target, .. } => format!("give {} the mode of what it covers", text(target)),
        Op::CopyUp { target, .. } => format!("copy into {} what it covers", text(target)),
        Op::Remember { target } => format!("open what will be covered at {}", text(target)),
        Op::Remount { target, flags, clear: 0 } if flags == libc::MS_RDONLY => {
            format!("make {} read-only", text(target))
        }
        Op::Remount { target, flags, .. } if flags & PROPAGATION != 0 => {
            format!("make {} {}", text(target), propagation(flags))
        }
        Op::Remount { target, .. } => format!("remount {}", text(target)),
        Op::LegacyMount { source, target, kind, flags, .. } => {
            let what = match (text(kind), text(source)) {
                _ if flags & libc::MS_REMOUNT != 0 => return format!("remount {}", text(target)),
                ("", source) => source,
                (kind, _) => kind,
            };
            format!("mount {what} on {}", text(target))
        }
        Op::MakeDirectory { path, .. } => format!("make the directory {}", text(path)),
        Op::MakeNode { path, .. } | Op::BindNode { path, .. } => format!("make the device {}", text(path)),
        Op::Link { content, path, .. } => format!("link {} to {}", text(path), text(content)),
        Op::LinkIfPresent { content, path } => {
            format!("link {} to {} if that exists", text(path), text(content))
        }
        Op::Mask { path, .. } => format!("mask {}", text(path)),
        Op::ReadonlyPath { path, .. } => format!("make {} read-only", text(path)),
        Op::SetRoot { .. } => "make the root read-only".into(),
        Op::PivotRoot => "pivot into the root".into(),
        Op::Discard { path } => format!("hide the host's {}", text(path)),
        Op::MoveRoot => "move the root to /".into(),
        Op::Chroot => "change the root".into(),
        Op::RootPropagation { flags } => format!("make the root {}", propagation(flags)),
        Op::Sysctl { path, value } => {
            format!("set sysctl {} to {}", text(path).trim_start_matches("sys/"), text(value))
        }
        Op::Attribute { path, value } => format!("write {:?} to /proc/{}", text(value), text(path)),
        Op::Terminal { .. } => "make a terminal".into(),
        Op::AdoptTerminal => "use the terminal".into(),
        Op::OwnStdio { uid } => format!("give stdio to user {uid}"),
        Op::Keyring { name } => format!("join the session keyring {}", text(name)),
        Op::Personality { persona } => format!("set the personality to {persona:#x}"),
        Op::Umask { mask } => format!("set the umask to {mask:04o}"),
        Op::Scheduler { attr } => format!(
            "set the scheduler to policy {} (nice {}, priority {})",
            attr.policy, attr.nice, attr.priority
        ),
        Op::IoPriority { priority } => {
            format!("set the I/O priority to class {}, level {}", priority >> 13, priority & 7)
        }
        Op::MemoryPolicy { mode, .. } => format!("set the memory policy to mode {mode}"),
        Op::EveryCpu => "run on every CPU of the cgroup".into(),
        Op::Affinity { .. } => "set the CPU affinity".into(),
        Op::Bounding { keep, .. } => format!("set the bounding capabilities to {keep:#x}"),
        Op::KeepCapabilities => "keep capabilities while the user changes".into(),
        Op::Groups { groups } => {
            let bytes = &plan.text[groups.at as usize..][..groups.len as usize];
            let list =
                bytes.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]).to_string());
            format!("set the additional groups to [{}]", list.collect::<Vec<_>>().join(" "))
        }
        Op::User { uid, gid } => format!("become user {uid}, group {gid}"),
        Op::Capabilities { effective, .. } => format!("set the effective capabilities to {effective:#x}"),
        Op::Limit { resource, soft, hard } => {
            format!("set {} to {} (hard {})", super::limit_name(resource), limit(soft), limit(hard))
        }
        Op::Ambient { set } => format!("set the ambient capabilities to {set:#x}"),
        Op::Directory { path, .. } => format!("change to the directory {}", text(path)),
        Op::NoNewPrivileges => "give up new privileges".into(),
        Op::Seccomp { .. } => format!("load the seccomp filter ({} instructions)", plan.filter.len()),
        Op::Home { uid } => format!("look up the home of user {uid}"),
        Op::Find { .. } | Op::Exec => {
            format!("execute {}", plan.argv.first().map_or("nothing", |name| plan.str(*name)))
        }
        Op::Start => "wait for start".into(),
        Op::Hook { index } => {
            let hook = plan.hooks.get(usize::from(index));
            format!("run the startContainer hook {}", hook.map_or("", |hook| plan.str(hook.path)))
        }
    }
}

/// A mount is several steps with one origin: each is told by what all of them are for.
fn mount(plan: &Plan, index: usize) -> String {
    let text = |text: Text| plan.str(text);
    let all = &plan.steps;
    let begin = all[..=index].iter().rposition(makes).unwrap_or(index);
    let target = all[index..].iter().find_map(|step| match step.op {
        Op::Attach { target, .. } => Some(text(target)),
        _ => None,
    });
    let what = match all[begin].op {
        Op::NewMount { kind, .. } => text(kind).to_owned(),
        Op::CloneMount { source, .. } => text(source).to_owned(),
        Op::TakeMount { tree } => match plan.need(tree).map(|need| &need.open) {
            Some(Open::Tree { source, .. }) => source.clone(),
            _ => "a mount".to_owned(),
        },
        _ => "a mount".to_owned(),
    };
    format!("mount {what} on {}", target.unwrap_or("?"))
}

/// Which part of a mount a step is; empty for other steps.
fn part(plan: &Plan, index: usize) -> String {
    match plan.steps[index].op {
        Op::NewMount { .. } => ": make it".into(),
        Op::CloneMount { recursive: true, .. } => ": clone the tree".into(),
        Op::CloneMount { .. } => ": clone it".into(),
        Op::TakeMount { .. } => ": take it from the parent".into(),
        Op::SetMount { attr, recursive } => format!(": {}", attributes(&attr, recursive)),
        Op::MapMount { .. } => ": map its ids".into(),
        Op::KeepMode { covered: false, .. } => ": keep the mode of what it covers".into(),
        Op::CopyUp { covered: false, .. } => ": copy into it what it covers".into(),
        Op::Attach { point: Point::Ordinary, .. } => ": attach it, to an ordinary directory only".into(),
        Op::Attach { .. } => ": attach it".into(),
        Op::Find { .. } => ": find it".into(),
        _ => String::new(),
    }
}

fn makes(step: &Step) -> bool {
    matches!(step.op, Op::NewMount { .. } | Op::CloneMount { .. } | Op::TakeMount { .. })
}

fn attributes(attr: &corten_init::sys::MountAttr, recursive: bool) -> String {
    let tree = if recursive { " of the whole tree" } else { "" };
    if attr.propagation != 0 {
        return format!("make it {}{tree}", propagation(attr.propagation));
    }
    format!("set attributes {:#x}, clear {:#x}{tree}", attr.set, attr.clear)
}

const PROPAGATION: u64 = libc::MS_SHARED | libc::MS_SLAVE | libc::MS_PRIVATE | libc::MS_UNBINDABLE;

fn propagation(flags: u64) -> String {
    let kinds = [
        (libc::MS_SHARED, "shared"),
        (libc::MS_SLAVE, "slave"),
        (libc::MS_PRIVATE, "private"),
        (libc::MS_UNBINDABLE, "unbindable"),
    ];
    let name = kinds.iter().find(|(flag, _)| flags & flag != 0).map_or("?", |(_, name)| name);
    if flags & libc::MS_REC != 0 { format!("recursively {name}") } else { name.to_owned() }
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".into() } else { value.to_string() }
}

fn sync(plan: &Plan, what: Sync) -> String {
    match what {
        Sync::Cgroup => "be moved into the cgroup".into(),
        Sync::IdMaps => "have the ids mapped".into(),
        Sync::TimeOffsets => "have the clocks set".into(),
        Sync::Network => {
            let names: Vec<_> =
                plan.net_devices.iter().map(|(host, name)| format!("{host} as {name}")).collect();
            format!("be given the network devices {}", names.join(", "))
        }
        Sync::Hooks => "have the prestart, createRuntime and createContainer hooks run".into(),
        Sync::Ready => match &plan.rdt {
            Some(class) => format!("be put into {} and report that all is ready", class.name()),
            None => "report that all is ready".into(),
        },
    }
}

/// Namespace flags in words: "pid, network".
fn kinds_in_words(kinds: u64) -> String {
    let names = [
        (libc::CLONE_NEWUSER as u64, "user"),
        (libc::CLONE_NEWNS as u64, "mount"),
        (libc::CLONE_NEWPID as u64, "pid"),
        (libc::CLONE_NEWNET as u64, "network"),
        (libc::CLONE_NEWIPC as u64, "ipc"),
        (libc::CLONE_NEWUTS as u64, "uts"),
        (libc::CLONE_NEWCGROUP as u64, "cgroup"),
        (corten_init::sys::CLONE_NEWTIME, "time"),
    ];
    names.iter().filter(|(flag, _)| kinds & flag != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// What happens before the first step, each with its place in config.json.
fn preparation(plan: &Plan) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for dir in plan.cgroup.dirs() {
        lines.push((
            format!("create the cgroup {}", dir.full_path().display()),
            "/linux/cgroupsPath".to_owned(),
        ));
    }
    if let Some(class) = &plan.rdt {
        lines.push((format!("make {}, unless it exists", class.describe()), "/linux/intelRdt".to_owned()));
    }
    for need in &plan.opens {
        let line = match &need.open {
            Open::Namespace { path } => format!("open the namespace {path}"),
            Open::Init => "open the container's init".to_owned(),
            Open::Tasks(_) | Open::Unified => continue,
            Open::Tree { source, map, .. } => {
                format!("open the mount {source}{}", if map.is_some() { " with its ids mapped" } else { "" })
            }
            Open::Userns(_) => "make a user namespace for an id map".to_owned(),
        };
        lines.push((line, need.origin.to_string()));
    }
    let kinds = kinds_in_words(plan.kinds);
    let with = if kinds.is_empty() { String::new() } else { format!(" with a new {kinds} namespace") };
    lines.push((format!("clone the init process{with}"), "/linux/namespaces".to_owned()));
    lines
}

/// The plan as lines of text, numbered as the errors and `--debug` number them.
pub fn text(plan: &Plan) -> String {
    let mut all = String::new();
    let mut line = |number: &str, what: &str, origin: &str| {
        let origin = if origin.is_empty() { String::new() } else { format!("config.json#{origin}") };
        let _ = writeln!(all, "{}", format!("{number:>4}  {what:<72}  {origin}").trim_end());
    };
    for (what, origin) in preparation(plan) {
        line("", &what, &origin);
    }
    for index in 0..plan.steps.len() {
        let what = describe(plan, index) + &part(plan, index);
        line(&index.to_string(), &what, &plan.steps[index].origin.to_string());
    }
    for note in &plan.notes {
        line("note", note, "");
    }
    all
}

/// The plan as one JSON document.
pub fn json(plan: &Plan) -> serde_json::Value {
    let prepare: Vec<_> = preparation(plan)
        .into_iter()
        .map(|(what, origin)| serde_json::json!({ "do": what, "origin": origin }))
        .collect();
    let steps: Vec<_> = (0..plan.steps.len())
        .map(|index| {
            let origin = plan.steps[index].origin.to_string();
            let what = describe(plan, index) + &part(plan, index);
            serde_json::json!({ "step": index, "do": what, "origin": origin })
        })
        .collect();
    let argv: Vec<_> = plan.argv.iter().map(|arg| plan.str(*arg)).collect();
    let env: Vec<_> = plan.envp.iter().map(|entry| plan.str(*entry)).collect();
    serde_json::json!({ "prepare": prepare, "steps": steps, "args": argv, "env": env, "notes": plan.notes })
}
