//! create, start, state, kill, delete, list, run: the life of a container and its statuses.

use std::fs;

use corten_integration::{Bundle, Scratch, assert_nothing_left, check, limit};
use serde_json::{Value, json};

#[test]
fn a_container_lives_through_its_statuses() {
    check(|| {
        let container = Bundle::new().script("echo started >/started; sleep 1000").create();
        assert_eq!(container.status(), "created");
        assert!(container.pid() > 0);
        assert!(!container.bundle.rootfs("/started").exists(), "the program runs before start");
        container.start().ok();
        assert_eq!(container.status(), "running");
        container.kill("KILL").ok();
        container.wait();
        assert_eq!(container.status(), "stopped");
        assert_eq!(container.state()["pid"], 0, "a stopped container has no pid");
        container.delete().ok();
        container.command("state", &[]).run(container.bundle.dir()).failed();
        assert_nothing_left(&container.bundle);
    });
}

#[test]
fn nothing_is_printed_when_all_goes_well() {
    check(|| {
        let container = Bundle::new().args(["/bin/true"]).create();
        assert_eq!(container.created.stdout, "");
        assert_eq!(container.created.stderr, "");
        let started = container.start().ok();
        assert_eq!(started.stdout + &started.stderr, "");
        container.wait();
        let deleted = container.delete().ok();
        assert_eq!(deleted.stdout + &deleted.stderr, "");
    });
}

#[test]
fn state_has_every_key() {
    check(|| {
        let container = Bundle::new().set("/annotations", json!({ "org.example": "x" })).sleeper().create();
        let state = container.state();
        let version = state["ociVersion"].as_str().expect("ociVersion");
        assert!(version.split('.').count() >= 3, "{version}");
        assert_eq!(state["id"], container.id());
        assert_eq!(state["status"], "created");
        assert_eq!(state["bundle"], container.bundle.dir().to_str().expect("UTF-8"));
        assert_eq!(
            state["rootfs"],
            container.bundle.rootfs("").to_str().expect("UTF-8").trim_end_matches('/')
        );
        assert_eq!(state["annotations"]["org.example"], "x");
        assert!(state["owner"].is_string());
        let created = state["created"].as_str().expect("created");
        let shape: String = created.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert!(shape.starts_with("9999-99-99T99:99:99") && shape.ends_with('Z'), "{created}");
        assert!(fs::metadata(format!("/proc/{}", state["pid"])).is_ok(), "{}", state["pid"]);
    });
}

#[test]
fn pid_file_holds_the_pid_without_a_newline() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        let file = bundle.dir().join("pid");
        let container = bundle.flag("--pid-file").flag(file.to_string_lossy()).create();
        assert_eq!(fs::read_to_string(file).expect("the pid file"), container.pid().to_string());
    });
}

#[test]
fn pid_file_is_relative_to_the_working_directory() {
    check(|| {
        let elsewhere = Scratch::new();
        let bundle = Bundle::new().sleeper();
        let call = bundle.runtime().arg("create").arg("--bundle").arg(bundle.dir());
        bundle.write();
        call.args(["--pid-file", "relative.pid", bundle.id()]).cwd(elsewhere.path()).run(bundle.dir()).ok();
        let written = fs::read_to_string(elsewhere.path().join("relative.pid"));
        bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
        assert!(written.expect("the pid file").parse::<u32>().is_ok());
    });
}

#[test]
fn the_bundle_is_the_working_directory_unless_told() {
    check(|| {
        let bundle = Bundle::new().args(["/bin/echo", "here"]);
        bundle.write();
        let output = bundle.runtime().args(["run", bundle.id()]).cwd(bundle.dir()).run(bundle.dir()).ok();
        assert_eq!(output.stdout, "here\n");
    });
}

#[test]
fn a_relative_bundle_is_told_as_an_absolute_one() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        bundle.write();
        let (parent, name) =
            (bundle.dir().parent().expect("parent"), bundle.dir().file_name().expect("name"));
        let create = bundle.runtime().args(["create", "--bundle"]).arg(name).arg(bundle.id()).cwd(parent);
        create.run(bundle.dir()).ok();
        let state = bundle.runtime().args(["state", bundle.id()]).run(bundle.dir());
        bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
        let state: Value = serde_json::from_str(&state.ok().stdout).expect("JSON");
        assert_eq!(state["bundle"], bundle.dir().to_str().expect("UTF-8"));
    });
}

#[test]
fn ids_that_leave_the_state_root_are_refused() {
    check(|| {
        for id in ["..", ".", "../x", "a/b", "/abs", "a b", "a\nb", ""] {
            let bundle = Bundle::new().sleeper().with_id(id);
            let before = fs::read_dir(bundle.dir()).expect("read").count();
            let output = bundle.call("create").run(bundle.dir());
            assert!(output.status != 0, "id {id:?}: {output}");
            let left = fs::read_dir(bundle.state_root()).into_iter().flatten().count();
            assert_eq!(left, 0, "id {id:?} leaves something in the state root");
            // config.json and the two files that hold the output.
            assert_eq!(fs::read_dir(bundle.dir()).expect("read").count(), before + 3, "id {id:?}");
        }
    });
}

#[test]
fn ids_of_every_legal_character_work() {
    check(|| {
        let id = format!("{}_A.z+-9", corten_integration::unique("it"));
        let container = Bundle::new().with_id(&id).sleeper().create();
        assert_eq!(container.state()["id"], id.as_str());
        container.vanish();
    });
}

#[test]
fn an_existing_id_is_refused_and_the_container_lives_on() {
    check(|| {
        let first = Bundle::new().sleeper().start();
        let pid = first.pid();
        let second = Bundle::new().sleeper().in_root(first.bundle.state_root()).with_id(first.id());
        second.call("create").run(second.dir()).failed().says("exist");
        second.call("run").run(second.dir()).failed().says("exist");
        assert_eq!(first.pid(), pid);
        assert_eq!(first.status(), "running");
    });
}

#[test]
fn unknown_ids_do_not_exist() {
    check(|| {
        let bundle = Bundle::new();
        let call = |args: &[&str]| bundle.runtime().args(args).run(bundle.dir());
        for command in ["state", "start", "kill", "delete"] {
            call(&[command, "no-such"]).code(1).failed().says_one_of(&["does not exist", "no such file"]);
        }
        call(&["exec", "no-such", "true"]).failed().code(255).says("does not exist");
        call(&["delete", "--force", "no-such"]).ok();
        let left = fs::read_dir(bundle.state_root()).into_iter().flatten().count();
        assert_eq!(left, 0, "asking for an unknown id makes something");
    });
}

#[test]
fn start_is_for_created_containers_only() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        container.start().failed();
        assert_eq!(container.status(), "running");
        container.kill("KILL").ok();
        container.wait();
        container.start().failed();
        assert_eq!(container.status(), "stopped");
    });
}

#[test]
fn a_running_container_is_not_deleted_without_force() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let pid = container.pid();
        container.delete().failed();
        assert_eq!(container.status(), "running");
        assert_eq!(container.pid(), pid);
        container.vanish();
    });
}

#[test]
fn delete_force_ends_a_created_and_a_running_container() {
    check(|| {
        Bundle::new().sleeper().create().vanish();
        let running = Bundle::new().script("trap '' TERM; while :; do sleep 1; done").start();
        let pid = running.pid();
        running.vanish();
        assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists());
    });
}

#[test]
fn signals_by_name_number_and_prefix_arrive() {
    check(|| {
        let bundle = Bundle::new().script(
            "for s in USR1 USR2 HUP TERM; do trap \"echo $s >/report\" $s; done; \
             echo ready >/report; while :; do sleep 1000 & wait; done",
        );
        let mut reports = bundle.reports("/report");
        let container = bundle.start();
        assert_eq!(reports.line(), "ready");
        for (word, name) in [("USR1", "USR1"), ("SIGUSR2", "USR2"), ("1", "HUP")] {
            container.kill(word).ok();
            assert_eq!(reports.line(), name, "kill {word}");
        }
        container.command("kill", &[]).run(container.bundle.dir()).ok();
        assert_eq!(reports.line(), "TERM", "the default signal");
    });
}

#[test]
fn signal_names_may_be_in_lower_case() {
    check(|| {
        let bundle = Bundle::new().script(
            "trap 'echo came >/report' USR1; echo ready >/report; while :; do sleep 1000 & wait; done",
        );
        let mut reports = bundle.reports("/report");
        let container = bundle.start();
        assert_eq!(reports.line(), "ready");
        for word in ["usr1", "sigusr1"] {
            container.kill(word).ok();
            assert_eq!(reports.line(), "came", "kill {word}");
        }
    });
}

#[test]
fn unknown_signals_are_refused() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        for word in ["NOSUCH", "SIG", "-1", "999"] {
            container.kill(word).failed();
        }
        assert_eq!(container.status(), "running");
    });
}

#[test]
fn killing_a_stopped_container_fails_in_the_words_that_engines_match() {
    check(|| {
        let container = Bundle::new().args(["/bin/true"]).create();
        container.finish();
        container.kill("TERM").failed().says_one_of(&["container not running", "no such process"]);
    });
}

#[test]
fn a_created_container_can_be_killed() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        container.kill("KILL").ok();
        container.wait();
        container.delete().ok();
        assert_nothing_left(&container.bundle);
    });
}

#[test]
fn run_returns_the_exit_code_of_the_process() {
    check(|| {
        for code in [0, 1, 7, 127, 255] {
            Bundle::new().script(&format!("exit {code}")).run().code(code);
        }
    });
}

#[test]
fn run_returns_128_and_the_signal_that_ended_the_process() {
    check(|| {
        // Not the init itself: pid 1 of a namespace ignores its own signals.
        Bundle::new().without_namespace("pid").script("kill -9 $$").run().code(137);
        Bundle::new().without_namespace("pid").script("kill -15 $$").run().code(143);
    });
}

#[test]
fn run_removes_the_container() {
    check(|| {
        let bundle = Bundle::new().args(["/bin/true"]);
        bundle.call("run").run(bundle.dir()).ok();
        assert_nothing_left(&bundle);
    });
}

#[test]
fn run_keep_keeps_the_container() {
    check(|| {
        let bundle = Bundle::new().script("exit 3").flag("--keep");
        bundle.call("run").run(bundle.dir()).code(3);
        let state = bundle.runtime().args(["state", bundle.id()]).run(bundle.dir()).ok();
        let state: Value = serde_json::from_str(&state.stdout).expect("JSON");
        assert_eq!(state["status"], "stopped");
        bundle.runtime().args(["delete", bundle.id()]).run(bundle.dir()).ok();
        assert_nothing_left(&bundle);
    });
}

#[test]
fn run_detach_leaves_the_container_running() {
    check(|| {
        let bundle = Bundle::new().sleeper().flag("--detach");
        bundle.call("run").run(bundle.dir()).ok();
        let state = bundle.runtime().args(["state", bundle.id()]).run(bundle.dir()).ok();
        bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
        let state: Value = serde_json::from_str(&state.stdout).expect("JSON");
        assert_eq!(state["status"], "running");
        assert_nothing_left(&bundle);
    });
}

#[test]
fn run_in_the_foreground_forwards_signals() {
    check(|| {
        let bundle = Bundle::new()
            .script("trap 'exit 42' TERM; echo ready >/report; while :; do sleep 1000 & wait; done");
        let mut reports = bundle.reports("/report");
        let running = bundle.call("run").spawn(bundle.dir());
        assert_eq!(reports.line(), "ready");
        let pid = rustix::process::Pid::from_raw(running.pid() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
        running.wait().code(42);
        assert_nothing_left(&bundle);
    });
}

#[test]
fn run_passes_standard_input_through() {
    check(|| {
        let bundle = Bundle::new().script("read line; echo \"got $line\"; cat >/dev/null; echo end");
        let file = bundle.dir().join("input");
        fs::write(&file, "one line\n").expect("write");
        let input = fs::File::open(&file).expect("open");
        let output = bundle.call("run").stdin(input).run(bundle.dir()).ok();
        assert_eq!(output.stdout, "got one line\nend\n");
    });
}

#[test]
fn changes_of_config_json_after_create_have_no_effect() {
    check(|| {
        let mut container = Bundle::new().args(["/bin/echo", "before"]).create();
        container.bundle.config["process"]["args"][1] = "after".into();
        container.bundle.config["annotations"] = json!({ "added": "later" });
        container.bundle.write();
        assert!(container.state()["annotations"]["added"].is_null());
        assert_eq!(container.finish(), "before\n");
    });
}

#[test]
fn config_json_may_vanish_after_create() {
    check(|| {
        let container = Bundle::new().args(["/bin/echo", "still"]).create();
        fs::remove_file(container.bundle.dir().join("config.json")).expect("remove");
        assert_eq!(container.finish(), "still\n");
        container.delete().ok();
        assert_nothing_left(&container.bundle);
    });
}

#[test]
fn a_killed_init_is_a_stopped_container() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let pid = rustix::process::Pid::from_raw(container.pid()).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        container.wait();
        container.delete().ok();
        assert_nothing_left(&container.bundle);
    });
}

#[test]
fn children_die_with_init() {
    check(|| {
        let bundle = Bundle::new().script("sleep 1000 & sleep 1000 & echo ready >/report; read x </gate");
        let mut reports = bundle.reports("/report");
        let mut gate = bundle.reports("/gate");
        let container = bundle.start();
        reports.line();
        gate.tell("go");
        container.wait();
        container.delete().ok();
        assert_nothing_left(&container.bundle);
    });
}

#[test]
fn list_shows_every_container_of_the_root() {
    check(|| {
        let root = Scratch::new();
        let state = root.path().join("state");
        let created = Bundle::new().in_root(&state).sleeper().create();
        let running = Bundle::new().in_root(&state).sleeper().start();
        let stopped = Bundle::new().in_root(&state).args(["/bin/true"]).create();
        stopped.finish();
        let list = |args: &[&str]| {
            created.bundle.runtime().arg("list").args(args).run(created.bundle.dir()).ok().stdout
        };

        let table = list(&[]);
        let head: Vec<&str> = table.lines().next().expect("a header").split_whitespace().collect();
        assert_eq!(head[..5], ["ID", "PID", "STATUS", "BUNDLE", "CREATED"], "{table}");
        for (container, status) in [(&created, "created"), (&running, "running"), (&stopped, "stopped")] {
            let line = table.lines().find(|l| l.starts_with(container.id()));
            let words: Vec<&str> = line.unwrap_or_else(|| panic!("{table}")).split_whitespace().collect();
            assert_eq!(words[2], status, "{table}");
            assert_eq!(words[1], container.state()["pid"].to_string(), "{table}");
        }
        let quiet = list(&["--quiet"]);
        let mut ids = [created.id(), running.id(), stopped.id()];
        ids.sort_unstable();
        let mut shown: Vec<&str> = quiet.lines().collect();
        shown.sort_unstable();
        assert_eq!(shown, ids);

        let text = list(&["--format", "json"]);
        let json: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json.len(), 3);
        let one = json.iter().find(|c| c["id"] == running.id()).expect("the running one");
        assert_eq!(one["status"], "running");
        assert_eq!(one["pid"], running.state()["pid"]);
    });
}

#[test]
fn list_in_json_is_one_line_in_the_order_that_scripts_match() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let list =
            container.bundle.runtime().args(["list", "-f", "json"]).run(container.bundle.dir()).ok().stdout;
        let line = list.trim_end();
        assert_eq!(line.lines().count(), 1, "{line}");
        let keys = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"];
        let places: Vec<Option<usize>> = keys.iter().map(|k| line.find(&format!("\"{k}\":"))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{line}");
    });
}

#[test]
fn an_empty_list_is_empty() {
    check(|| {
        let bundle = Bundle::new();
        let list = |args: &[&str]| bundle.runtime().arg("list").args(args).run(bundle.dir()).ok().stdout;
        assert_eq!(list(&["-q"]).trim(), "");
        assert_eq!(list(&["-f", "json"]).trim(), "null");
        assert_eq!(list(&[]).lines().count(), 1);
    });
}

#[test]
fn broken_entries_neither_break_list_nor_resist_delete_force() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        let root = container.bundle.state_root();
        fs::create_dir(root.join("empty")).expect("mkdir");
        fs::create_dir(root.join("corrupt")).expect("mkdir");
        fs::write(root.join("corrupt/state.json"), "{\"id\": ").expect("write");
        let call = |args: &[&str]| container.bundle.runtime().args(args).run(container.bundle.dir());
        assert!(call(&["list", "-q"]).ok().stdout.contains(container.id()));
        for id in ["empty", "corrupt"] {
            call(&["delete", "--force", id]).ok();
            assert!(!root.join(id).exists(), "{id} is still there");
        }
        assert_eq!(container.status(), "running");
    });
}

#[test]
fn the_state_root_is_private() {
    check(|| {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new();
        let root = scratch.path().join("new/state");
        let container = Bundle::new().in_root(&root).sleeper().create();
        let mode = |path| fs::metadata(path).expect("stat").permissions().mode() & 0o777;
        assert_eq!(mode(root.clone()) & 0o077, 0, "the root is open to others");
        assert_eq!(
            mode(root.join(container.id())) & 0o066,
            0,
            "the container's directory can be listed by others"
        );
    });
}

#[test]
fn delete_ends_within_a_second() {
    check(|| {
        let container = Bundle::new().script("trap '' TERM; while :; do sleep 1; done").start();
        let took = container.delete_force().ok().took;
        assert!(took < limit() / 10, "{took:?}");
    });
}

#[test]
fn two_starts_at_once_start_once() {
    check(|| {
        let container = Bundle::new().script("echo started >>/log; sleep 1000").create();
        let calls: Vec<_> = (0..4)
            .map(|_| container.command("start", &[]).bound(limit() / 5).spawn(container.bundle.dir()))
            .collect();
        let started = calls.into_iter().map(|c| c.wait()).filter(|o| o.status == 0).count();
        assert_eq!(started, 1, "starts that succeed");
        container.wait_status("running");
    });
}

#[test]
fn two_creates_of_one_id_make_one_container() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        let calls: Vec<_> = (0..4).map(|_| bundle.call("create").spawn(bundle.dir())).collect();
        let outputs: Vec<_> = calls.into_iter().map(|c| c.wait()).collect();
        let state = bundle.runtime().args(["state", bundle.id()]).run(bundle.dir());
        bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
        assert_eq!(outputs.iter().filter(|o| o.status == 0).count(), 1, "creates that succeed");
        state.ok();
        assert_nothing_left(&bundle);
    });
}
