//! Many containers at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use corten_integration::{Bundle, Scratch, cgroup_dirs, check};

/// `$CYCLES` containers are created, started and deleted, `$AT_ONCE` at a time.
#[test]
fn many_containers_at_once_leave_nothing() {
    check(|| {
        let number =
            |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
        let (cycles, at_once) = (number("CYCLES", 50), number("AT_ONCE", 50));
        let scratch = Scratch::new();
        let root = scratch.path().join("state");
        let next = AtomicUsize::new(0);
        let worker = || {
            // One bundle for all cycles of a worker, as an engine restarts a container.
            let bundle = Bundle::new().in_root(&root).args(["/bin/true"]);
            while next.fetch_add(1, Ordering::Relaxed) < cycles {
                let call = |args: &[&str]| bundle.runtime().args(args).arg(bundle.id()).run(bundle.dir());
                bundle.call("create").run(bundle.dir()).ok();
                call(&["start"]).ok();
                call(&["delete", "--force"]).ok();
            }
            assert!(cgroup_dirs(bundle.id()).is_empty(), "cgroups are left");
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
            let failed = workers.into_iter().filter_map(|w| w.join().err()).count();
            assert_eq!(failed, 0, "of {at_once} workers");
        });
        let left = std::fs::read_dir(&root).expect("the root").count();
        assert_eq!(left, 0, "left below the state root");
    });
}

#[test]
fn many_containers_run_side_by_side() {
    check(|| {
        let scratch = Scratch::new();
        let root = scratch.path().join("state");
        let containers: Vec<_> = (0..20).map(|_| Bundle::new().in_root(&root).sleeper().start()).collect();
        let list = containers[0].bundle.runtime().args(["list", "-q"]).run(scratch.path()).ok().stdout;
        assert_eq!(list.lines().count(), 20);
        assert!(containers.iter().all(|c| c.status() == "running"));
    });
}

#[test]
fn delete_and_state_at_once_never_confuse_each_other() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let dir = container.bundle.dir();
        let states: Vec<_> = (0..10).map(|_| container.command("state", &[]).spawn(dir)).collect();
        let delete = container.command("delete", &["--force"]).spawn(dir);
        let deletes: Vec<_> = (0..3).map(|_| container.command("delete", &["--force"]).spawn(dir)).collect();
        for state in states {
            let output = state.wait();
            let known = output.status == 0 && output.stdout.trim_end().ends_with('}');
            assert!(known || !output.stderr.is_empty(), "{output}");
        }
        delete.wait().ok();
        for delete in deletes {
            delete.wait().ok();
        }
        corten_integration::assert_nothing_left(&container.bundle);
    });
}
