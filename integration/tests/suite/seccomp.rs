//! `linux.seccomp`: every action, the comparisons, other architectures, flags and the agent.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use corten_integration::{Agent, Bundle, Output, Runtime, check, skip};
use serde_json::{Value, json};

/// Whether a comparison holds for an argument.
type Holds = fn(u64) -> bool;

/// 128 and SIGSYS, as a shell tells it.
const KILLED: &str = "159";

fn docker() -> Value {
    let text = include_str!("../../../src/seccomp/testdata/docker.json");
    serde_json::from_str(text).expect("a profile")
}

fn with(profile: Value) -> Bundle {
    Bundle::new().set("/linux/seccomp", profile)
}

/// Everything is allowed but mkdir.
fn mkdir(action: &str) -> Value {
    let rule = json!({ "names": ["mkdir", "mkdirat"], "action": action });
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

/// Puts a static program into the bundle that makes system calls, each with one argument, and prints what
/// the kernel answers to each.
fn calls(bundle: &Bundle, bits: u32, calls: &[(u32, u64)]) {
    if !cfg!(target_arch = "x86_64") {
        skip("the program is for x86_64 and i386");
    }
    let table: String =
        calls.iter().map(|(nr, argument)| format!("{{{nr}, (long){argument}ULL}},")).collect();
    let source = bundle.dir().join("calls.c");
    fs::write(&source, CALLS.replace("TABLE", &table)).expect("write a C file");
    let flags = ["-nostdlib", "-static", "-O1", "-fno-pic", "-no-pie", "-fno-stack-protector", "-w"];
    let mut compiler = Command::new("cc");
    compiler.arg(format!("-m{bits}")).args(flags).arg("-o").arg(bundle.rootfs("/calls")).arg(source);
    match compiler.status() {
        Ok(status) => assert!(status.success(), "{compiler:?}"),
        Err(_) => skip("no C compiler"),
    }
}

const CALLS: &str = r#"
static long call(long nr, long a, long b, long c)
{
	long answer;
#ifdef __x86_64__
	__asm__ volatile("syscall" : "=a"(answer) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
	__asm__ volatile("int $0x80" : "=a"(answer) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
#endif
	return answer;
}
#ifdef __x86_64__
enum { WRITE = 1, EXIT = 60 };
#else
enum { WRITE = 4, EXIT = 1 };
#endif
static const struct { long nr, argument; } table[] = { TABLE };
void _start(void)
{
	for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
		long answer = call(table[i].nr, table[i].argument, 0, 0);
		char text[16], *at = text + sizeof text;
		unsigned long rest = answer < 0 ? -answer : answer;
		*--at = '\n';
		do *--at = '0' + rest % 10; while (rest /= 10);
		if (answer < 0) *--at = '-';
		call(WRITE, 1, (long)at, text + sizeof text - at);
	}
	call(EXIT, 0, 0, 0);
}
"#;

fn lines(output: Output) -> Vec<String> {
    output.ok().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn without_a_profile_there_is_no_filter() {
    check(|| assert_eq!(Bundle::new().look().text("/seccomp"), "0"));
}

#[test]
fn one_filter_is_loaded_in_create_and_exec() {
    check(|| {
        let container = with(docker()).sleeper().start();
        for status in
            [container.proc("status"), container.exec(&["/bin/cat", "/proc/self/status"]).run().ok().stdout]
        {
            assert!(status.contains("Seccomp:\t2\n"), "{status}");
            assert!(status.contains("Seccomp_filters:\t1\n"), "{status}");
        }
    });
}

#[test]
fn errno_is_the_rules_or_eperm() {
    check(|| {
        let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 },
            { "names": ["chmod", "fchmodat", "fchmodat2"], "action": "SCMP_ACT_ERRNO" },
        ] });
        let view = with(profile).probe(["mkdir:/tmp/x", "chmod:/probe"]);
        assert_eq!(view.errno("mkdir:/tmp/x"), 5);
        assert_eq!(view.errno("chmod:/probe"), 1);
    });
}

#[test]
fn the_default_action_has_its_own_errno() {
    check(|| {
        let mut profile = docker();
        profile["defaultErrnoRet"] = json!(77);
        assert_eq!(with(profile).probe(["sethostname:x"]).errno("sethostname:x"), 77);
    });
}

#[test]
fn every_way_to_kill_kills() {
    check(|| {
        for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
            let output = with(mkdir(action)).script("/bin/busybox mkdir /tmp/x; echo $?").run();
            assert_eq!(output.ok().stdout.trim(), KILLED, "{action}");
        }
    });
}

#[test]
fn trace_without_a_tracer_is_enosys() {
    check(|| assert_eq!(with(mkdir("SCMP_ACT_TRACE")).probe(["mkdir:/tmp/x"]).errno("mkdir:/tmp/x"), 38));
}

#[test]
fn log_lets_through() {
    check(|| assert!(with(mkdir("SCMP_ACT_LOG")).probe(["mkdir:/x"]).could("mkdir:/x")));
}

#[test]
fn a_filter_needs_no_no_new_privs() {
    check(|| {
        let bundle = with(docker()).set("/process/noNewPrivileges", false);
        let view = bundle.look();
        assert_eq!((view.text("/no_new_privs"), view.text("/seccomp")), ("0", "2"));
        assert_eq!(view.capabilities("effective") >> 21 & 1, 0, "CAP_SYS_ADMIN is not left behind");
        assert_eq!(view.capabilities("permitted") >> 21 & 1, 0, "CAP_SYS_ADMIN is not left behind");
    });
}

#[test]
fn a_filter_is_loaded_in_a_user_namespace_and_for_any_user() {
    check(|| {
        for no_new_privs in [true, false] {
            let bundle = || with(docker()).set("/process/noNewPrivileges", no_new_privs);
            assert_eq!(bundle().userns(100_000, 65_536).look().text("/seccomp"), "2", "{no_new_privs}");
            let user = json!({ "uid": 1000, "gid": 1000 });
            let view = bundle().set("/process/user", user).look();
            assert_eq!(view.text("/seccomp"), "2", "{no_new_privs}");
            assert_eq!(view.capabilities("effective"), 0, "{no_new_privs}");
        }
    });
}

#[test]
fn comparisons_see_all_64_bits() {
    check(|| {
        const DUP: u32 = 32;
        const DENIED: &str = "-5";
        let edges = [0, 1, 2, 0xffff_ffff, 1 << 32, (1 << 32) + 1, (1 << 32) + 2, u64::MAX - 1];
        let cases: [(&str, u64, u64, Holds); 7] = [
            ("SCMP_CMP_NE", (1 << 32) + 1, 0, |a| a != (1 << 32) + 1),
            ("SCMP_CMP_LT", (1 << 32) + 1, 0, |a| a < (1 << 32) + 1),
            ("SCMP_CMP_LE", (1 << 32) + 1, 0, |a| a <= (1 << 32) + 1),
            ("SCMP_CMP_EQ", (1 << 32) + 1, 0, |a| a == (1 << 32) + 1),
            ("SCMP_CMP_GE", (1 << 32) + 1, 0, |a| a > 1 << 32),
            ("SCMP_CMP_GT", (1 << 32) + 1, 0, |a| a > (1 << 32) + 1),
            ("SCMP_CMP_MASKED_EQ", (1 << 32) + 2, 1 << 32, |a| a & ((1 << 32) + 2) == 1 << 32),
        ];
        for (op, value, second, holds) in cases {
            let arg = json!({ "index": 0, "value": value, "valueTwo": second, "op": op });
            let rule = json!({ "names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [arg] });
            let bundle =
                with(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })).args(["/calls"]);
            calls(&bundle, 64, &edges.map(|edge| (DUP, edge)));
            let answers = lines(bundle.run());
            for (edge, answer) in edges.iter().zip(&answers) {
                assert_eq!(answer == DENIED, holds(*edge), "{op} {edge:#x}: {answers:?}");
            }
            assert_eq!(answers.len(), edges.len());
        }
    });
}

#[test]
fn unknown_syscalls_are_enosys_and_known_ones_eperm() {
    check(|| {
        let bundle = with(docker()).args(["/calls"]);
        // reboot, keyctl, and numbers that no kernel has.
        calls(&bundle, 64, &[(169, 0), (250, 0), (1000, 0), (0x2000_0000, 0)]);
        assert_eq!(lines(bundle.run()), ["-1", "-1", "-38", "-38"]);
    });
}

#[test]
fn programs_of_32_bits_run_under_dockers_profile() {
    check(|| {
        let bundle = with(docker()).args(["/calls"]);
        // getppid; reboot and keyctl, which are denied; a number that no kernel has; personality, which
        // allows some arguments only.
        calls(&bundle, 32, &[(64, 0), (88, 0), (288, 0), (1000, 0), (136, 0xffff_ffff), (136, 1)]);
        assert_eq!(lines(bundle.run()), ["0", "-1", "-1", "-38", "0", "-1"]);
    });
}

#[test]
fn an_architecture_that_is_not_listed_is_killed() {
    check(|| {
        let bundle = with(mkdir("SCMP_ACT_ERRNO")).script("/calls; echo $?");
        calls(&bundle, 32, &[(64, 0)]);
        assert_eq!(bundle.run().ok().stdout.trim(), KILLED);
    });
}

#[test]
fn flags_reach_the_kernel() {
    check(|| {
        let flag = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("SECCOMP_FILTER_FLAG_{name}")).collect();
            json!(names)
        };
        let cases = [
            (None, 4),
            (Some(flag(&[])), 0),
            (Some(flag(&["TSYNC", "LOG"])), 2),
            (Some(flag(&["SPEC_ALLOW", "LOG"])), 6),
        ];
        for (flags, number) in cases {
            let mut profile = mkdir("SCMP_ACT_ERRNO");
            if let Some(flags) = flags {
                profile["flags"] = flags;
            }
            let bundle = with(profile).global_flag("--debug").args(["/bin/true"]);
            let output = bundle.run().ok();
            assert!(output.stderr.contains(&format!("seccomp filter flags: {number}")), "{output}");
        }
    });
}

/// mkdir is answered by an agent.
fn notifying(bundle: Bundle) -> (Bundle, Agent) {
    let agent = Agent::new(bundle.dir());
    let mut profile = mkdir("SCMP_ACT_NOTIFY");
    profile["listenerPath"] = json!(agent.path());
    profile["listenerMetadata"] = json!("some metadata");
    (bundle.set("/linux/seccomp", profile), agent)
}

/// One descriptor of a filter, and a state.
fn notified(agent: &Agent) -> (Value, OwnedFd) {
    let (state, mut fds) = agent.receive();
    assert_eq!(fds.len(), 1, "{state}");
    let listener = fds.remove(0);
    let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).expect("a descriptor");
    assert_eq!(link, Path::new("anon_inode:seccomp notify"));
    assert_eq!(state["metadata"], "some metadata");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert!(state["ociVersion"].is_string(), "{state}");
    (state, listener)
}

#[test]
fn an_agent_gets_the_descriptor_and_the_state() {
    check(|| {
        let (bundle, agent) = notifying(Bundle::new());
        let container = bundle.script("/bin/busybox mkdir /x; echo $?").create();
        let (state, listener) = notified(&agent);
        assert_eq!(state["pid"], container.pid());
        assert_eq!(state["state"]["id"], container.id());
        assert_eq!(state["state"]["bundle"], container.state()["bundle"]);
        assert_eq!(state["state"]["ociVersion"], container.state()["ociVersion"]);
        container.start().ok();
        // As long as somebody might answer, mkdir waits; without an agent it is ENOSYS.
        drop(listener);
        container.wait();
        assert!(container.output().contains("Function not implemented"), "{}", container.output());
    });
}

#[test]
fn an_agent_gets_a_descriptor_for_exec_too() {
    check(|| {
        let (bundle, agent) = notifying(Bundle::new());
        let container = bundle.sleeper().start();
        let (first, _listener) = notified(&agent);
        let running = container.exec(&["/bin/busybox", "mkdir", "/x"]).spawn();
        let (state, listener) = notified(&agent);
        assert_ne!(state["pid"], first["pid"]);
        assert_eq!(state["state"]["id"], container.id());
        assert_eq!(state["state"]["status"], "running");
        drop(listener);
        running.wait().failed().says("Function not implemented");
    });
}

#[test]
fn an_agent_that_is_not_there_is_an_error() {
    check(|| {
        let mut profile = mkdir("SCMP_ACT_NOTIFY");
        profile["listenerPath"] = json!("/nonexistent/agent");
        with(profile).create_fails().says("failed to connect with seccomp agent");
    });
}

#[test]
fn what_cannot_be_notified_is_refused() {
    check(|| {
        let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nonexistent", "syscalls": [
            { "names": ["write"], "action": "SCMP_ACT_NOTIFY" },
        ] });
        with(profile.clone()).create_fails().says("SCMP_ACT_NOTIFY cannot be used for the write syscall");
        profile["syscalls"] = json!([]);
        profile["defaultAction"] = json!("SCMP_ACT_NOTIFY");
        with(profile).create_fails().says("SCMP_ACT_NOTIFY cannot be used as default action");
    });
}

#[test]
fn every_unknown_word_is_named_at_once() {
    check(|| {
        let mut profile = mkdir("SCMP_ACT_NOPE");
        profile["architectures"] = json!(["SCMP_ARCH_NOPE"]);
        profile["flags"] = json!(["SECCOMP_FILTER_FLAG_NOPE"]);
        let output = with(profile).create_fails();
        output.says("SCMP_ACT_NOPE").says("SCMP_ARCH_NOPE").says("SECCOMP_FILTER_FLAG_NOPE");
    });
}

#[test]
fn unknown_syscalls_in_a_profile_are_ignored() {
    check(|| {
        let mut profile = mkdir("SCMP_ACT_ERRNO");
        profile["syscalls"][0]["names"] = json!(["no_such_syscall", "mkdir", "mkdirat"]);
        assert_eq!(with(profile).probe(["mkdir:/tmp/x"]).errno("mkdir:/tmp/x"), 1);
    });
}

#[test]
fn a_profile_that_kills_the_runtime_itself_is_an_error() {
    check(|| {
        // Neither a container that seems to run, nor a runtime that waits for ever.
        let output = with(json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS" })).run();
        assert!(output.status != 0 && !output.stderr.is_empty(), "{output}");
        let output = with(json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS" })).start_fails();
        if Runtime::get().is_corten() {
            output.says("before it executed the program");
        }
    });
}

#[test]
fn an_error_that_the_filter_made_names_its_rule() {
    check(|| {
        if !Runtime::get().is_corten() {
            skip("no other runtime tells the rule");
        }
        let rule = "config.json#/linux/seccomp/syscalls/0";
        let deny = |name: &str, action: &str| {
            let rule = json!({ "names": [name], "action": action });
            with(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }))
        };
        deny("execve", "SCMP_ACT_ERRNO").start_fails().says("the seccomp filter answers execve").says(rule);
        deny("execve", "SCMP_ACT_ERRNO").run_fails().says("the seccomp filter answers execve").says(rule);
        let capset = |action| deny("capset", action).set("/process/noNewPrivileges", false);
        capset("SCMP_ACT_ERRNO").run_fails().says("the seccomp filter answers capset").says(rule);
        // The kernel does not put every record into its log.
        let answers = ["its seccomp filter answers capset", "its seccomp filter was in force"];
        capset("SCMP_ACT_KILL").run_fails().says_one_of(&answers).says("SIGSYS");
        capset("SCMP_ACT_KILL").start_fails().says_one_of(&answers);
    });
}

#[test]
fn explain_tells_the_rule() {
    check(|| {
        if !Runtime::get().is_corten() {
            skip("no other runtime explains");
        }
        let bundle = with(docker());
        bundle.write();
        let directory = bundle.dir().to_string_lossy().into_owned();
        let explain = |args: &[&str]| {
            let call =
                bundle.runtime().args(["seccomp", "explain", "--arch", "SCMP_ARCH_X86_64", &directory]);
            call.args(args).run(bundle.dir())
        };
        let allowed = explain(&["clone", "0x11"]).ok().stdout;
        assert_eq!(
            allowed,
            "SCMP_ARCH_X86_64 clone (56): SCMP_ACT_ALLOW (config.json#/linux/seccomp/syscalls/12)\n"
        );
        assert_eq!(explain(&["clone"]).ok().stdout.lines().count(), 2);
        assert!(explain(&["clone", "0x10000000"]).ok().stdout.contains("SCMP_ACT_ERRNO"));
        explain(&["no_such_syscall"]).failed().says("no_such_syscall");
    });
}

#[test]
fn features_tell_what_a_profile_may_say() {
    check(|| {
        let bundle = Bundle::new();
        let output = bundle.runtime().args(["features"]).run(bundle.dir()).ok();
        let features: Value = serde_json::from_str(&output.stdout).expect("a features document");
        let seccomp = &features["linux"]["seccomp"];
        assert_eq!(seccomp["enabled"], true, "{features}");
        let has = |list: &str, name: &str| {
            seccomp[list].as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)))
        };
        for action in
            ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "NOTIFY", "TRACE", "TRAP"]
        {
            assert!(has("actions", &format!("SCMP_ACT_{action}")), "{action}: {seccomp}");
        }
        for operator in ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"] {
            assert!(has("operators", &format!("SCMP_CMP_{operator}")), "{operator}: {seccomp}");
        }
        for arch in ["X86_64", "X86", "X32", "AARCH64", "ARM", "RISCV64"] {
            assert!(has("archs", &format!("SCMP_ARCH_{arch}")), "{arch}: {seccomp}");
        }
        for flag in ["TSYNC", "LOG", "SPEC_ALLOW"] {
            for list in ["knownFlags", "supportedFlags"] {
                assert!(has(list, &format!("SECCOMP_FILTER_FLAG_{flag}")), "{list} {flag}: {seccomp}");
            }
        }
    });
}

#[test]
fn hooks_of_the_container_run_under_the_filter() {
    check(|| {
        let bundle = with(mkdir("SCMP_ACT_KILL")).hook("startContainer", "/bin/busybox mkdir /x || exit 3");
        bundle.start_fails().says("startContainer hook");
    });
}
