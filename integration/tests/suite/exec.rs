//! exec: both forms, every flag, exit codes, terminal, detach.

use std::fs;
use std::time::Instant;

use corten_integration::{Bundle, ConsoleSocket, Container, Invocation, Terminal, check, limit};
use serde_json::{Value, json};

fn running() -> Container {
    Bundle::new().sleeper().start()
}

/// A process.json like the template's process.
fn process(args: &[&str]) -> Value {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL"]);
    json!({
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": ["PATH=/usr/bin:/bin"],
        "cwd": "/",
        "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
    })
}

fn env(view: &corten_integration::View) -> Vec<String> {
    view.at("/env").as_array().expect("env").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

#[test]
fn the_exit_code_is_the_processes() {
    check(|| {
        let container = running();
        for code in [0, 1, 42, 254] {
            container.exec(&["/bin/sh", "-c", &format!("exit {code}")]).run().code(code);
        }
        container.exec(&["/bin/sh", "-c", "kill -9 $$"]).run().code(137);
    });
}

#[test]
fn standard_streams_are_passed_through() {
    check(|| {
        let container = running();
        let input = container.bundle.dir().join("input");
        fs::write(&input, "in\n").expect("write");
        let call = container.exec(&["/bin/sh", "-c", "read x; echo out $x; echo err >&2"]).call();
        let output = call.stdin(fs::File::open(&input).expect("open")).run(container.bundle.dir()).ok();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out in\n", "err\n"));
    });
}

#[test]
fn flags_after_the_id_belong_to_the_program() {
    check(|| {
        let container = running();
        let output = container.exec(&["/bin/echo", "-n", "--user", "--", "x"]).run().ok();
        assert_eq!(output.stdout, "--user -- x");
    });
}

#[test]
fn a_running_container_is_needed() {
    check(|| {
        let stopped = Bundle::new().args(["/bin/true"]).create();
        stopped.finish();
        stopped.exec(&["/bin/true"]).run().failed().code(255);
    });
}

#[test]
fn exec_works_in_a_created_container() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        container.exec(&["/bin/true"]).run().ok();
        assert_eq!(container.status(), "created");
    });
}

#[test]
fn a_missing_program_is_255_in_the_words_that_engines_match() {
    check(|| {
        let container = running();
        let output = container.exec(&["no-such-tool"]).run().failed().code(255);
        output.says("executable file not found in $PATH");
        let output = container.exec(&["/no/such/tool"]).run().failed().code(255);
        output.says("/no/such/tool").says("no such file or directory");
        container.exec(&["/etc/passwd"]).run().failed().code(255).says("permission denied");
        assert_eq!(container.status(), "running");
    });
}

#[test]
fn cwd_is_set() {
    check(|| {
        let container = running();
        assert_eq!(container.exec(&["/probe"]).with("--cwd", "/tmp").look().at("/cwd"), "/tmp");
        assert_eq!(container.exec(&["/probe"]).look().at("/cwd"), "/");
    });
}

#[test]
fn without_flags_the_process_is_like_init() {
    check(|| {
        let container = Bundle::new().env("FROM=config").set("/process/cwd", "/tmp").sleeper().start();
        let view = container.exec(&["/probe"]).look();
        assert_eq!(view.at("/cwd"), "/tmp");
        assert!(env(&view).contains(&"FROM=config".to_owned()), "{:?}", env(&view));
        let status = container.proc("status");
        for (set, name) in [("effective", "CapEff"), ("bounding", "CapBnd"), ("permitted", "CapPrm")] {
            let of_init = status.lines().find_map(|l| l.strip_prefix(&format!("{name}:"))).expect("a mask");
            assert_eq!(view.text(&format!("/capabilities/{set}")), of_init.trim(), "{set}");
        }
        assert_eq!(view.at("/no_new_privs"), "1");
    });
}

#[test]
fn env_is_added() {
    check(|| {
        let container = Bundle::new().env("A=old").sleeper().start();
        let view = container.exec(&["/probe"]).with("--env", "A=new").with("--env", "B=b=c").look();
        let shown = env(&view);
        assert!(shown.contains(&"B=b=c".to_owned()) && shown.contains(&"A=new".to_owned()), "{shown:?}");
        let last = shown.iter().rfind(|v| v.starts_with("A="));
        assert_eq!(last.map(String::as_str), Some("A=new"));
    });
}

#[test]
fn the_user_is_set() {
    check(|| {
        let container = running();
        for (flag, uid, gid) in [("1000:1001", 1000, 1001), ("1000", 1000, 0), ("0:7", 0, 7)] {
            let view = container.exec(&["/probe"]).with("--user", flag).look();
            assert_eq!((view.at("/uid/0"), view.at("/gid/0")), (&json!(uid), &json!(gid)), "--user {flag}");
        }
    });
}

#[test]
fn a_user_that_is_no_number_is_refused() {
    check(|| {
        let container = running();
        for flag in ["-1", "4294967296", "x", "1:x", ":", "1:-1", "1:2:3"] {
            let output = container.exec(&["/bin/id"]).flag(format!("--user={flag}")).run();
            assert!(output.status != 0, "--user={flag}: {output}");
        }
    });
}

#[test]
fn the_user_of_a_flag_never_becomes_root_by_accident() {
    check(|| {
        let container = running();
        for flag in ["1", "1:2", "4294967295", "2147483648"] {
            let output = container.exec(&["/bin/id", "-u"]).flag(format!("--user={flag}")).run();
            assert!(output.status != 0 || output.stdout.trim() != "0", "--user={flag}: {output}");
        }
    });
}

#[test]
fn additional_groups_are_set() {
    check(|| {
        let container = running();
        let view = container.exec(&["/probe"]).with("-g", "100").with("-g", "65534").look();
        let groups = view.at("/groups").to_string();
        assert!(groups.contains("100") && groups.contains("65534"), "{groups}");
    });
}

#[test]
fn an_added_capability_is_not_inheritable() {
    check(|| {
        let container = running();
        let view = container.exec(&["/probe"]).with("--cap", "CAP_SYS_PTRACE").look();
        let ptrace = 1 << 19;
        assert_ne!(view.capabilities("effective") & ptrace, 0);
        assert_ne!(view.capabilities("permitted") & ptrace, 0);
        assert_eq!(view.capabilities("inheritable"), 0);
    });
}

#[test]
fn no_new_privileges_is_set_by_flag() {
    check(|| {
        let container = Bundle::new().set("/process/noNewPrivileges", false).sleeper().start();
        assert_eq!(container.exec(&["/probe"]).look().at("/no_new_privs"), "0");
        assert_eq!(container.exec(&["/probe"]).flag("--no-new-privs").look().at("/no_new_privs"), "1");
    });
}

#[test]
fn a_process_file_says_everything() {
    check(|| {
        let container = Bundle::new().env("FROM=config").sleeper().start();
        let mut process = process(&["/probe", "read:/etc/group"]);
        process["cwd"] = "/tmp".into();
        process["env"] = json!(["PATH=/bin", "ONLY=this"]);
        process["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [29] });
        process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 55, "hard": 66 }]);
        process["noNewPrivileges"] = true.into();
        let view = container.exec(&[]).process(&process).look();
        assert_eq!(view.at("/args"), &json!(["/probe", "read:/etc/group"]));
        assert_eq!(view.at("/cwd"), "/tmp");
        assert_eq!(view.at("/uid/0"), 1000);
        assert!(view.at("/groups").to_string().contains("29"));
        assert_eq!(view.at("/limits/RLIMIT_NOFILE"), &json!([55, 66]));
        assert_eq!(view.at("/no_new_privs"), "1");
        assert_eq!(view.capabilities("bounding"), 0b10_0001);
        let shown = env(&view);
        assert!(
            shown.contains(&"ONLY=this".to_owned()) && !shown.contains(&"FROM=config".to_owned()),
            "{shown:?}"
        );
    });
}

#[test]
fn umask_and_oom_score_of_a_process_file_are_set() {
    check(|| {
        let container = running();
        let mut process = process(&["/probe"]);
        process["user"]["umask"] = 0o27.into();
        process["oomScoreAdj"] = 300.into();
        let view = container.exec(&[]).process(&process).look();
        assert_eq!((view.at("/umask"), view.at("/oom_score_adj")), (&json!("0027"), &json!("300")));
    });
}

#[test]
fn a_broken_process_file_is_an_error() {
    check(|| {
        let container = running();
        let dir = container.bundle.dir();
        for (name, content) in
            [("garbage", "{"), ("list", "[]"), ("noargs", "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0}}")]
        {
            let path = dir.join(name);
            fs::write(&path, content).expect("write");
            container.exec(&[]).with("--process", path.to_string_lossy()).run().failed();
        }
        container.exec(&[]).with("--process", "/no/such/file").run().failed().says("/no/such/file");
    });
}

#[test]
fn exec_without_a_program_is_an_error() {
    check(|| {
        running().exec(&[]).run().failed();
    });
}

#[test]
fn detach_returns_at_once_and_the_pid_file_names_the_process() {
    check(|| {
        let container = running();
        let file = container.bundle.dir().join("exec.pid");
        let exec = container
            .exec(&["/bin/sleep", "1000"])
            .flag("--detach")
            .with("--pid-file", file.to_string_lossy());
        exec.run().ok();
        let pid = fs::read_to_string(&file).expect("the pid file");
        assert!(pid.chars().all(|c| c.is_ascii_digit()), "{pid:?}");
        let cmdline = || fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("the process");
        let end = Instant::now() + limit();
        while cmdline() != "/bin/sleep\x001000\0" {
            assert!(Instant::now() < end, "it stays {}", cmdline());
        }
        let of_init = container.proc_link("ns/pid");
        let of_exec = fs::read_link(format!("/proc/{pid}/ns/pid")).expect("a namespace");
        assert_eq!(of_exec.to_string_lossy(), of_init);
        container.vanish();
        assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists(), "it outlives the container");
    });
}

#[test]
fn a_pid_file_that_cannot_be_written_is_an_error() {
    check(|| {
        let container = running();
        container.exec(&["/bin/true"]).with("--pid-file", "/no/such/dir/pid").run().failed().code(255);
    });
}

#[test]
fn the_process_is_in_the_containers_cgroup() {
    check(|| {
        let container = running();
        let file = container.bundle.dir().join("exec.pid");
        let exec = container
            .exec(&["/bin/sleep", "1000"])
            .flag("--detach")
            .with("--pid-file", file.to_string_lossy());
        exec.run().ok();
        let pid = fs::read_to_string(&file).expect("the pid file");
        let of_exec = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroups");
        assert_eq!(of_exec, container.proc("cgroup"));
    });
}

#[test]
fn a_terminal_comes_through_the_console_socket() {
    check(|| {
        let container = running();
        let socket = ConsoleSocket::new(container.bundle.dir());
        let path = socket.path().to_string_lossy().into_owned();
        let exec = container.exec(&["/bin/sh", "-c", "tty && echo yes; read x; echo \"got $x\""]);
        exec.flag("--tty").flag("--detach").with("--console-socket", path).run().ok();
        let mut terminal = socket.receive();
        terminal.read_until("/dev/pts/");
        terminal.read_until("yes");
        terminal.write("words\n");
        terminal.read_until("got words");
    });
}

#[test]
fn a_terminal_of_a_process_file_has_its_size() {
    check(|| {
        let container = running();
        let socket = ConsoleSocket::new(container.bundle.dir());
        let mut process = process(&["/bin/sh", "-c", "stty size; echo end; read x"]);
        process["terminal"] = true.into();
        process["consoleSize"] = json!({ "height": 21, "width": 77 });
        let path = socket.path().to_string_lossy().into_owned();
        container.exec(&[]).process(&process).flag("--detach").with("--console-socket", path).run().ok();
        socket.receive().read_until("21 77");
    });
}

#[test]
fn a_terminal_in_the_foreground_is_relayed() {
    check(|| {
        let container = running();
        let (mut terminal, slave) = Terminal::open();
        terminal.resize(88, 44);
        let call = container
            .exec(&["/bin/sh", "-c", "tty; stty size; read x; echo \"got $x\"; exit 9"])
            .flag("-t")
            .call();
        let running = call.terminal(slave).spawn(container.bundle.dir());
        terminal.read_until("44 88");
        terminal.write("words\n");
        terminal.read_until("got words");
        let output = running.wait();
        assert_eq!(output.status, 9, "{output}");
    });
}

#[test]
fn signals_are_forwarded_in_the_foreground() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        let mut reports = bundle.reports("/report");
        let container = bundle.start();
        let script = "trap 'exit 33' TERM; echo ready >/report; while :; do sleep 1000 & wait; done";
        let running = container.exec(&["/bin/sh", "-c", script]).spawn();
        assert_eq!(reports.line(), "ready");
        let pid = rustix::process::Pid::from_raw(running.pid() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
        running.wait().code(33);
        assert_eq!(container.status(), "running");
    });
}

#[test]
fn only_the_standard_descriptors_are_open() {
    check(|| {
        let container = running();
        let fds = container.exec(&["/probe"]).look().at("/fds").clone();
        let names: Vec<&String> = fds.as_object().expect("fds").keys().collect();
        assert_eq!(names, ["0", "1", "2"], "{fds}");
    });
}

#[test]
fn preserve_fds_keeps_exactly_those() {
    check(|| {
        let container = running();
        let file = container.bundle.dir().join("given");
        fs::write(&file, "").expect("write");
        let call = container.exec(&["/probe"]).with("--preserve-fds", "1").call();
        let output = call.file(3, &file).file(4, &file).run(container.bundle.dir()).ok();
        let fds = corten_integration::View::parse(&output.stdout).at("/fds").clone();
        let names: Vec<&String> = fds.as_object().expect("fds").keys().collect();
        assert_eq!(names, ["0", "1", "2", "3"], "{fds}");
    });
}

#[test]
fn the_runtimes_environment_does_not_leak() {
    check(|| {
        let container = running();
        let exec =
            container.exec(&["/probe"]).invoke_with(|call: Invocation| call.env("SECRET_OF_THE_ENGINE", "x"));
        let shown = env(&exec.look());
        assert!(!shown.iter().any(|v| v.starts_with("SECRET")), "{shown:?}");
    });
}

#[test]
fn cpu_affinity_is_initial_and_then_final() {
    check(|| {
        let container = running();
        let mut process = process(&["/probe"]);
        process["execCPUAffinity"] = json!({ "initial": "0", "final": "0" });
        let view = container.exec(&[]).process(&process).look();
        assert_eq!(view.at("/cpus"), "0");
    });
}

#[test]
fn scheduling_of_a_process_file_is_set() {
    check(|| {
        let container = running();
        let mut process = process(&["/probe"]);
        process["scheduler"] = json!({ "policy": "SCHED_BATCH", "nice": 3 });
        let view = container.exec(&[]).process(&process).look();
        assert_eq!((view.at("/scheduler/policy"), view.at("/scheduler/nice")), (&json!("3"), &json!("3")));
        let mut process = self::process(&["/bin/ionice"]);
        process["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 1 });
        let output = container.exec(&[]).process(&process).run().ok();
        assert_eq!(output.stdout.trim(), "best-effort: prio 1");
    });
}

#[test]
fn exec_into_a_user_namespace_is_mapped() {
    check(|| {
        let container =
            Bundle::new().userns(100_000, 65536).namespace("network").script("sleep 1000").start();
        let view = container.exec(&["/probe"]).look();
        assert_eq!(view.at("/uid/0"), 0);
        let map: Vec<&str> = view.text("/uid_map/0").split_whitespace().collect();
        assert_eq!(map, ["0", "100000", "65536"]);
        let view = container.exec(&["/probe"]).with("--user", "5:6").look();
        assert_eq!((view.at("/uid/0"), view.at("/gid/0")), (&json!(5), &json!(6)));
    });
}

#[test]
fn many_execs_at_once() {
    check(|| {
        let container = running();
        let calls: Vec<_> =
            (0..20).map(|i| container.exec(&["/bin/sh", "-c", &format!("exit {i}")]).spawn()).collect();
        for (i, call) in calls.into_iter().enumerate() {
            call.wait().code(i as i32);
        }
    });
}

#[test]
fn an_exec_ends_when_the_container_dies() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        let mut reports = bundle.reports("/report");
        let container = bundle.start();
        let running = container.exec(&["/bin/sh", "-c", "echo ready >/report; sleep 1000"]).spawn();
        assert_eq!(reports.line(), "ready");
        container.kill("KILL").ok();
        assert_eq!(running.wait().status, 137);
    });
}
