//! The container's cgroup: made, joined, removed, on whatever hierarchies there are. Limits are a subject
//! of their own.

use std::fs;
use std::path::{Path, PathBuf};

use corten_integration::{
    Bundle, Cgroups, Container, bundles, cgroup_dirs, cgroup_of, cgroups, check, read, skip, unique,
};
use serde_json::json;

fn of_init(container: &Container) -> PathBuf {
    container.cgroup("pids")
}

#[test]
fn a_container_has_a_cgroup_of_its_own() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let dir = of_init(&container);
        assert_ne!(dir, cgroup_of("self", "pids"));
        assert!(dir.to_string_lossy().contains(container.id()), "{}", dir.display());
        let procs = read(dir.join("cgroup.procs"));
        assert!(procs.lines().any(|l| l == container.pid().to_string()), "{procs}");
        container.vanish();
        assert!(!dir.exists());
    });
}

#[test]
fn the_cgroup_is_joined_before_start() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        assert!(of_init(&container).to_string_lossy().contains(container.id()));
    });
}

#[test]
fn an_absolute_cgroups_path_is_from_the_top() {
    check(|| {
        let bundle = Bundle::new();
        let path = format!("/{}", bundle.id());
        let container = bundle.set("/linux/cgroupsPath", path.as_str()).sleeper().start();
        let top = if cgroups() == Cgroups::V1 { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
        assert_eq!(of_init(&container), Path::new(&format!("{top}{path}")));
        container.vanish();
    });
}

#[test]
fn a_deep_cgroups_path_is_made_and_its_end_removed() {
    check(|| {
        let bundle = Bundle::new();
        let parent = unique("it");
        let path = format!("/{parent}/middle/{}", bundle.id());
        let container = bundle.set("/linux/cgroupsPath", path.as_str()).sleeper().start();
        assert!(of_init(&container).ends_with(path.trim_start_matches('/')));
        container.vanish();
        // The parents are nobody's: some other container may be about to use them.
        for dir in cgroup_dirs(&parent) {
            let _ = fs::remove_dir(dir.join("middle"));
            let _ = fs::remove_dir(dir);
        }
        assert!(cgroup_dirs(&parent).is_empty());
    });
}

#[test]
fn a_relative_cgroups_path_is_somewhere_the_runtime_chooses() {
    check(|| {
        let bundle = Bundle::new();
        let path = bundle.id().to_owned();
        let container = bundle.set("/linux/cgroupsPath", path.as_str()).sleeper().start();
        assert!(of_init(&container).ends_with(&path), "{}", of_init(&container).display());
        container.vanish();
    });
}

#[test]
fn a_cgroups_path_cannot_leave_the_hierarchy() {
    check(|| {
        let bundle = Bundle::new();
        let path = format!("/../../../../../{}", bundle.id());
        let bundle = bundle.set("/linux/cgroupsPath", path.as_str()).args(["/bin/true"]);
        let output = bundle.call("run").run(bundle.dir());
        let outside = Path::new("/").join(bundle.id());
        let made = outside.exists();
        let _ = fs::remove_dir_all(&outside);
        assert!(!made, "made {}: {output}", outside.display());
        assert!(cgroup_dirs(bundle.id()).is_empty());
    });
}

#[test]
fn a_failed_creation_removes_the_cgroup() {
    check(|| {
        Bundle::new().mount("/m", "bind", "/no/such/source", &["bind"]).create_fails();
        Bundle::new().hook("createRuntime", "exit 1").create_fails();
    });
}

#[test]
fn an_existing_cgroup_with_a_process_is_not_destroyed() {
    check(|| {
        let first = Bundle::new().sleeper().start();
        let dir = of_init(&first);
        let path = format!("/{}", dir.strip_prefix("/sys/fs/cgroup").expect("below").display());
        let path = if cgroups() == Cgroups::V1 { path.trim_start_matches("/pids").to_owned() } else { path };
        let second = Bundle::new().set("/linux/cgroupsPath", path.as_str()).sleeper();
        second.call("create").run(second.dir());
        second.runtime().args(["delete", "--force", second.id()]).run(second.dir());
        assert_eq!(first.status(), "running", "another container with the same cgroup killed it");
        assert!(dir.exists());
    });
}

#[test]
fn sub_cgroups_made_inside_are_removed() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let dir = of_init(&container);
        fs::create_dir_all(dir.join("inner/deeper")).expect("mkdir");
        container.vanish();
        assert!(!dir.exists());
    });
}

#[test]
fn the_runtime_itself_stays_out_of_the_cgroup() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let procs = read(of_init(&container).join("cgroup.procs"));
        for pid in procs.lines() {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            assert!(
                !exe.ends_with(corten_integration::Runtime::get().path.file_name().expect("a name")),
                "{exe:?}"
            );
        }
    });
}

#[test]
fn all_processes_of_the_container_are_in_its_cgroup() {
    check(|| {
        let bundle = Bundle::new().script("sleep 1000 & sleep 1000 & echo ready >/report; wait");
        let mut reports = bundle.reports("/report");
        let container = bundle.start();
        reports.line();
        let procs = read(of_init(&container).join("cgroup.procs"));
        assert_eq!(procs.lines().count(), 3, "{procs}");
    });
}

#[test]
fn a_pids_limit_is_a_limit() {
    check(|| {
        let bundle = Bundle::new().set("/linux/resources", json!({ "pids": { "limit": 5 } }));
        let container = bundle.sleeper().start();
        assert_eq!(read(of_init(&container).join("pids.max")).trim(), "5");
    });
}

/// Makes a cgroup below the container's in every hierarchy it is in.
fn make_below(container: &Container, name: &str) {
    for dir in cgroup_dirs(container.id()) {
        fs::create_dir(dir.join(name)).expect("mkdir of a cgroup");
        // Nobody can enter a v1 cpuset that has nothing.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if cgroups() == Cgroups::V1 && dir.join(file).exists() {
                fs::write(dir.join(name).join(file), read(dir.join(file))).expect("fill a cpuset");
            }
        }
    }
}

#[test]
fn exec_goes_where_init_is_or_into_the_sub_cgroup_it_is_told() {
    check(|| {
        for bundle in bundles() {
            let container = bundle.sleeper().start();
            make_below(&container, "sub");
            let place = |exec: corten_integration::Exec| {
                let table = exec.run().ok().stdout;
                let own = table.lines().find(|l| l.contains(":pids:") || l.starts_with("0::"));
                own.expect("a cgroup").to_owned()
            };
            let cat = || container.exec(&["/bin/cat", "/proc/self/cgroup"]);
            assert!(!place(cat()).ends_with("/sub"));
            assert!(place(cat().with("--cgroup", "sub")).ends_with("/sub"));
            assert!(place(cat().with("--cgroup", "/sub")).ends_with("/sub"));
            assert!(!place(cat().with("--cgroup", "/")).ends_with("/sub"));
            if cgroups() == Cgroups::V1 {
                let mixed = place(cat().with("--cgroup", "memory:sub"));
                assert!(!mixed.ends_with("/sub"), "{mixed}");
                assert!(place(cat().with("--cgroup", "pids,memory:sub")).ends_with("/sub"));
            }
            container.vanish();
        }
    });
}

#[test]
fn exec_into_a_sub_cgroup_that_is_none_is_refused() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let into = |sub: &str| container.exec(&["/bin/true"]).with("--cgroup", sub).run().failed().code(255);
        into("../..").says("sub cgroup path");
        into("no-such").says("no such file or directory");
        into("nonsense:x").says("unknown controller nonsense");
    });
}

/// A container that owns a v2 cgroup: it sees it as the top, and may write there.
fn owner(bundle: Bundle) -> Bundle {
    if cgroups() == Cgroups::V1 {
        skip("v1 cgroups are never the container's own");
    }
    bundle.namespace("cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"])
}

#[test]
fn exec_follows_an_init_that_made_its_cgroup_an_inner_one() {
    check(|| {
        for bundle in bundles() {
            let script = "mkdir /sys/fs/cgroup/init && echo 0 >/sys/fs/cgroup/init/cgroup.procs && \
                echo +pids >/sys/fs/cgroup/cgroup.subtree_control && echo ready >/report; sleep 1000";
            let bundle = owner(bundle).script(script);
            let mut reports = bundle.reports("/report");
            let container = bundle.start();
            assert_eq!(reports.line(), "ready");
            let output = container.exec(&["/bin/cat", "/proc/self/cgroup"]).run().ok();
            assert_eq!(output.stdout, "0::/init\n", "{output}");
            // Nobody is put anywhere else than where he was told to go.
            let told = container.exec(&["/bin/true"]).with("--cgroup", "/").run();
            told.failed().says(" adding pid ").says("device or resource busy");
            container.vanish();
        }
    });
}

#[test]
fn the_root_of_a_user_namespace_owns_its_cgroup() {
    check(|| {
        for bundle in bundles() {
            let bundle = owner(bundle.userns(100_000, 65_536));
            let script = "set -e; mkdir /sys/fs/cgroup/inner; sleep 1000 & \
                echo $! >/sys/fs/cgroup/inner/cgroup.procs; cat /proc/$!/cgroup; kill $!";
            let output = bundle.script(script).run().ok();
            assert_eq!(output.stdout, "0::/inner\n", "{output}");
        }
    });
}

#[test]
fn what_is_not_delegated_stays_the_hosts() {
    check(|| {
        for bundle in bundles() {
            let limits = json!({ "pids": { "limit": 50 }, "memory": { "limit": 64 << 20 } });
            let bundle = owner(bundle.userns(100_000, 65_536)).set("/linux/resources", limits);
            let view = bundle.probe(["put:/sys/fs/cgroup/pids.max=max", "put:/sys/fs/cgroup/memory.max=max"]);
            for file in ["put:/sys/fs/cgroup/pids.max=max", "put:/sys/fs/cgroup/memory.max=max"] {
                assert!(!view.could(file), "{file}");
            }
        }
    });
}
