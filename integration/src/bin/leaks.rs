//! Whether anything of containers is left on the host.
//!
//! `corten-leaks snapshot FILE` writes down what there is: cgroups of every hierarchy, mounts, network
//! namespaces and interfaces, processes, state directories, temporary files, keyrings. `corten-leaks
//! compare FILE` prints what came since and ends with 1 when anything did. What goes away by itself (a
//! dying process, a keyring that waits for the garbage collector) gets some seconds to do so.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long what was left may take to go.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "snapshot", file] => {
            let lines: Vec<String> = survey().into_iter().collect();
            fs::write(file, lines.join("\n")).expect("write the snapshot");
            ExitCode::SUCCESS
        }
        [_, "compare", file] => compare(file),
        _ => {
            eprintln!("usage: corten-leaks snapshot|compare FILE");
            ExitCode::from(2)
        }
    }
}

fn compare(file: &str) -> ExitCode {
    let text = fs::read_to_string(file).expect("read the snapshot");
    let before: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let end = Instant::now() + PATIENCE;
    loop {
        let now = survey();
        let left: Vec<&String> = now.difference(&before).collect();
        if left.is_empty() {
            println!("nothing is left");
            return ExitCode::SUCCESS;
        }
        if Instant::now() > end {
            for line in &left {
                println!("left: {line}");
            }
            return ExitCode::FAILURE;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One line for each thing that a container could leave.
fn survey() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    directories(Path::new("/sys/fs/cgroup"), "cgroup", &mut found);
    for dir in ["/run/corten", "/run/runc", "/run/crun", "/run/netns", "/sys/fs/resctrl"] {
        entries(dir, "state", |_| true, &mut found);
    }
    for dir in ["/tmp", "/var/tmp", "/dev/shm", "/run"] {
        let ours = |name: &str| ["corten", "runc", "crun", "it-"].iter().any(|word| name.contains(word));
        entries(dir, "file", ours, &mut found);
    }
    entries("/sys/class/net", "interface", |_| true, &mut found);
    mounts(&mut found);
    processes(&mut found);
    namespaces(&mut found);
    keyrings(&mut found);
    found
}

fn directories(dir: &Path, kind: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.insert(format!("{kind} {}", entry.path().display()));
            directories(&entry.path(), kind, found);
        }
    }
}

fn entries(dir: &str, kind: &str, wanted: impl Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if wanted(&entry.file_name().to_string_lossy()) {
            found.insert(format!("{kind} {}", entry.path().display()));
        }
    }
}

fn mounts(found: &mut BTreeSet<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let kind = line.split(" - ").nth(1).unwrap_or_default();
        found.insert(format!("mount {} {} ({kind})", fields[3], fields[4]));
    }
}

/// Containers' processes, by what gives them away: a root of their own, or namespaces that are not ours.
/// Zombies count: who
/// started them has not waited for them.
fn processes(found: &mut BTreeSet<String>) {
    let own = namespace(Path::new("/proc/self"), "mnt");
    for dir in pids() {
        let comm = fs::read_to_string(dir.join("comm")).unwrap_or_default();
        let state = fs::read_to_string(dir.join("status")).unwrap_or_default();
        // Those that fell to pid 1 are its to reap.
        let zombie = state.contains("State:\tZ") && !state.contains("PPid:\t1\n");
        let contained = namespace(&dir, "mnt").is_some_and(|mnt| Some(mnt) != own);
        let runtime = ["corten", "runc", "crun"].iter().any(|name| comm.starts_with(name));
        // Ourselves, and the test that starts us, have such names too.
        let checking = comm.starts_with("corten-leaks");
        if (contained || zombie || runtime) && !checking {
            let what = if zombie { "zombie" } else { "process" };
            found.insert(format!("{what} {} {}", dir.display(), comm.trim()));
        }
    }
}

/// Network namespaces that some process is in.
fn namespaces(found: &mut BTreeSet<String>) {
    for dir in pids() {
        if let Some(inode) = namespace(&dir, "net") {
            found.insert(format!("network namespace {inode}"));
        }
    }
}

fn namespace(process: &Path, kind: &str) -> Option<u64> {
    fs::metadata(process.join("ns").join(kind)).ok().map(|meta| meta.ino())
}

/// Session keyrings, which runtimes name after the container.
fn keyrings(found: &mut BTreeSet<String>) {
    let table = fs::read_to_string("/proc/keys").unwrap_or_default();
    for line in table.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let description = fields.get(8..).map(|rest| rest.join(" ")).unwrap_or_default();
        // Flag R, D or i: revoked, dead or invalidated, gone at the next collection.
        let going = fields.get(1).is_some_and(|flags| flags.contains(['R', 'D', 'i']));
        if fields.get(7) == Some(&"keyring") && description.contains("it-") && !going {
            found.insert(format!("keyring {description}"));
        }
    }
}

fn pids() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numeric = entries.filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    numeric.map(|e| e.path()).collect()
}
