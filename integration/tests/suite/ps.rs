//! ps: the processes of a container.

use corten_integration::{Bundle, Container, Output, bundles, check};
use serde_json::Value;

fn ps(container: &Container, flags: &[&str], options: &[&str]) -> Output {
    container.command("ps", flags).args(options).run(container.bundle.dir())
}

/// A container with two processes.
fn two(bundle: Bundle) -> Container {
    let bundle = bundle.script("sleep 1000 & echo ready >/report; wait");
    let mut reports = bundle.reports("/report");
    let container = bundle.start();
    reports.line();
    container
}

#[test]
fn a_table_shows_every_process_of_the_container_and_no_other() {
    check(|| {
        for bundle in bundles() {
            let container = two(bundle);
            let output = ps(&container, &[], &[]).ok();
            let lines: Vec<&str> = output.stdout.lines().collect();
            let title: Vec<&str> = lines[0].split_whitespace().collect();
            assert_eq!(title, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
            assert_eq!(lines.len(), 3, "{output}");
            let pid = container.pid().to_string();
            assert!(lines[1..].iter().any(|l| l.split_whitespace().nth(1) == Some(&pid)), "{output}");
            assert!(lines[1..].iter().any(|l| l.contains("sleep 1000")), "{output}");
            container.vanish();
        }
    });
}

#[test]
fn options_of_ps_stand_after_the_id() {
    check(|| {
        let container = two(Bundle::new());
        for options in [&["-e", "-x"][..], &["aux"], &["-o", "pid,args", "-e"]] {
            let output = ps(&container, &[], options).ok();
            let title = output.stdout.lines().next().unwrap_or_default();
            assert!(title.split_whitespace().any(|word| word == "PID"), "{output}");
            assert_eq!(output.stdout.lines().count(), 3, "{output}");
        }
        ps(&container, &[], &["-o", "args", "-e"]).failed().says("PID");
    });
}

#[test]
fn json_is_a_bare_list_of_pids() {
    check(|| {
        for bundle in bundles() {
            let container = two(bundle);
            for flags in [&["--format", "json"][..], &["-f", "json"], &["--format=json"]] {
                let output = ps(&container, flags, &[]).ok();
                let pids: Vec<i32> = serde_json::from_str(&output.stdout).expect("a list of numbers");
                assert_eq!(pids.len(), 2, "{output}");
                assert!(pids.contains(&container.pid()), "{output}");
            }
            container.vanish();
        }
    });
}

#[test]
fn an_exec_is_among_them() {
    check(|| {
        let container = two(Bundle::new());
        container.exec(&["/bin/sleep", "1000"]).flag("--detach").run().ok();
        let output = ps(&container, &["--format", "json"], &[]).ok();
        let pids: Vec<i32> = serde_json::from_str(&output.stdout).expect("a list of numbers");
        assert_eq!(pids.len(), 3, "{output}");
    });
}

#[test]
fn a_stopped_container_has_none() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        container.kill("KILL").ok();
        container.wait();
        assert_eq!(ps(&container, &[], &[]).ok().stdout.lines().count(), 1);
        let output = ps(&container, &["--format", "json"], &[]).ok();
        let list: Value = serde_json::from_str(&output.stdout).expect("JSON");
        assert!(list.is_null() || list.as_array().is_some_and(Vec::is_empty), "{output}");
    });
}

#[test]
fn an_unknown_format_is_refused() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        ps(&container, &["--format", "yaml"], &[]).failed().says("invalid format");
    });
}
