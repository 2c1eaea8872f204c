//! pause and resume: processes stand still and go on.

use std::time::{Duration, Instant};

use corten_integration::{Bundle, Container, Output, bundles, check, limit, read};

fn do_to(container: &Container, command: &str) -> Output {
    container.command(command, &[]).run(container.bundle.dir())
}

/// A container that counts in /count.
fn counter(bundle: Bundle) -> Container {
    let container = bundle.script("while :; do echo >>/count; sleep 0.05; done").start();
    moves_on(&container);
    container
}

fn count(container: &Container) -> usize {
    read(container.bundle.rootfs("/count")).lines().count()
}

#[track_caller]
fn moves_on(container: &Container) {
    let (before, end) = (count(container), Instant::now() + limit());
    while count(container) == before {
        assert!(Instant::now() < end, "it stands still at {before}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    check(|| {
        for bundle in bundles() {
            let container = counter(bundle);
            do_to(&container, "pause").ok();
            assert_eq!(container.status(), "paused");
            let before = count(&container);
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(count(&container), before);
            do_to(&container, "resume").ok();
            assert_eq!(container.status(), "running");
            moves_on(&container);
            container.vanish();
        }
    });
}

#[test]
fn a_created_container_can_be_paused() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        do_to(&container, "pause").ok();
        assert_eq!(container.status(), "paused");
        do_to(&container, "resume").ok();
        assert_eq!(container.status(), "created");
        container.start().ok();
        assert_eq!(container.status(), "running");
    });
}

#[test]
fn only_what_runs_is_paused_and_only_what_is_paused_is_resumed() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        do_to(&container, "resume").failed().says("not paused");
        do_to(&container, "pause").ok();
        do_to(&container, "pause").failed().says("not running");
        do_to(&container, "resume").ok();
        container.kill("KILL").ok();
        container.wait();
        do_to(&container, "pause").failed().says("not running");
        do_to(&container, "resume").failed().says("not paused");
    });
}

#[test]
fn nothing_is_printed_when_all_goes_well() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        for command in ["pause", "resume"] {
            let output = do_to(&container, command).ok();
            assert_eq!(output.stdout + &output.stderr, "");
        }
    });
}

#[test]
fn a_paused_container_takes_no_exec_unless_told() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        do_to(&container, "pause").ok();
        let refused = container.exec(&["/bin/true"]).run().failed().code(255);
        refused.says("cannot exec in a paused container");
        let late = container.exec(&["/bin/echo", "late"]).flag("--ignore-paused").spawn();
        std::thread::sleep(Duration::from_millis(300));
        do_to(&container, "resume").ok();
        assert_eq!(late.wait().ok().stdout, "late\n");
    });
}

#[test]
fn a_paused_container_dies_of_kill_and_is_deleted() {
    check(|| {
        for bundle in bundles() {
            let container = counter(bundle);
            do_to(&container, "pause").ok();
            container.kill("KILL").ok();
            container.wait();
            container.delete().ok();
            corten_integration::assert_nothing_left(&container.bundle);
        }
    });
}

#[test]
fn a_paused_container_is_deleted_by_force() {
    check(|| {
        for bundle in bundles() {
            let container = counter(bundle);
            do_to(&container, "pause").ok();
            container.vanish();
        }
    });
}

#[test]
fn kill_all_ends_a_paused_container() {
    check(|| {
        for bundle in bundles() {
            let container = counter(bundle.without_namespace("pid"));
            do_to(&container, "pause").ok();
            container.command("kill", &["--all"]).arg("KILL").run(container.bundle.dir()).ok();
            container.wait();
            container.vanish();
        }
    });
}

#[test]
fn a_signal_to_all_leaves_the_container_as_it_was() {
    check(|| {
        for bundle in bundles() {
            let script = "trap 'echo >>/term' TERM; while :; do echo >>/count; sleep 0.05; done";
            let container = bundle.script(script).start();
            moves_on(&container);
            container.command("kill", &["--all"]).arg("TERM").run(container.bundle.dir()).ok();
            moves_on(&container);
            assert_eq!(container.status(), "running");
            assert_eq!(read(container.bundle.rootfs("/term")).lines().count(), 1);
            container.vanish();
        }
    });
}
