//! Everything below `process` in config.json, and what concerns the process elsewhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use corten_integration::{Bundle, check, own_capabilities, read, skip};
use serde_json::json;

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_RAW: u64 = 1 << 13;

#[test]
fn args_and_env_are_exactly_those_of_the_config() {
    check(|| {
        let env = json!(["PATH=/bin", "A=1", "EMPTY=", "SPACE=a b", "EQUALS=a=b"]);
        let args = ["/probe", "exec:/bin/true", "read:/no such", "read:"];
        let view = Bundle::new().set("/process/env", env.clone()).args(args).run().ok().stdout;
        let view = corten_integration::View::parse(&view);
        assert_eq!(view.at("/args"), &json!(args));
        let mut shown: Vec<&str> =
            view.at("/env").as_array().expect("env").iter().filter_map(|v| v.as_str()).collect();
        shown.retain(|v| !v.starts_with("HOME="));
        assert_eq!(json!(shown), env);
    });
}

#[test]
fn the_runtimes_environment_does_not_leak() {
    check(|| {
        let view = Bundle::new().runtime_env("SECRET_OF_THE_ENGINE", "x").look();
        let env = view.at("/env").to_string();
        assert!(!env.contains("SECRET_OF_THE_ENGINE"), "{env}");
    });
}

#[test]
fn home_comes_from_the_containers_passwd() {
    check(|| {
        let home = |view: corten_integration::View| {
            let env = view.at("/env").as_array().expect("env").clone();
            env.iter().find_map(|v| v.as_str()?.strip_prefix("HOME=").map(str::to_owned))
        };
        assert_eq!(home(Bundle::new().look()).as_deref(), Some("/root"));
        let user = json!({ "uid": 1000, "gid": 1000 });
        assert_eq!(home(Bundle::new().set("/process/user", user).look()).as_deref(), Some("/home/user"));
        let unknown = json!({ "uid": 4242, "gid": 4242 });
        assert_eq!(home(Bundle::new().set("/process/user", unknown).look()).as_deref(), Some("/"));
        assert_eq!(home(Bundle::new().env("HOME=/given").look()).as_deref(), Some("/given"));
    });
}

#[test]
fn the_program_is_looked_up_in_the_containers_path() {
    check(|| {
        let bundle = Bundle::new().set("/process/env", json!(["PATH=/nowhere:/opt/tools"])).args(["tool"]);
        fs::create_dir_all(bundle.rootfs("/opt/tools")).expect("mkdir");
        let tool = bundle.rootfs("/opt/tools/tool");
        fs::write(&tool, "#!/bin/sh\necho found\n").expect("write");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("chmod");
        let output = bundle.runtime_env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").run().ok();
        assert_eq!(output.stdout, "found\n");
    });
}

#[test]
fn the_lookup_skips_what_cannot_be_executed() {
    check(|| {
        let bundle = Bundle::new().set("/process/env", json!(["PATH=/first:/second:/bin"])).args(["tool"]);
        for (dir, mode) in [("first", 0o644), ("second", 0o755)] {
            fs::create_dir(bundle.rootfs(dir)).expect("mkdir");
            let tool = bundle.rootfs(dir).join("tool");
            fs::write(&tool, format!("#!/bin/sh\necho {dir}\n")).expect("write");
            fs::set_permissions(&tool, fs::Permissions::from_mode(mode)).expect("chmod");
        }
        assert_eq!(bundle.run().ok().stdout, "second\n");
    });
}

#[test]
fn a_relative_program_is_relative_to_cwd() {
    check(|| {
        let bundle = Bundle::new().set("/process/cwd", "/opt").args(["./tool"]);
        fs::create_dir(bundle.rootfs("/opt")).expect("mkdir");
        fs::write(bundle.rootfs("/opt/tool"), "#!/bin/sh\npwd\n").expect("write");
        fs::set_permissions(bundle.rootfs("/opt/tool"), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert_eq!(bundle.run().ok().stdout, "/opt\n");
    });
}

#[test]
fn a_missing_program_is_told_in_the_words_that_engines_match() {
    check(|| {
        Bundle::new().args(["no-such-tool"]).start_fails().code(1).says("executable file not found in $PATH");
        let output = Bundle::new().args(["/no/such/tool"]).start_fails();
        output.code(1).says("/no/such/tool").says("no such file or directory");
    });
}

#[test]
fn a_program_without_permission_is_told_so() {
    check(|| {
        let output = Bundle::new().args(["/etc/passwd"]).start_fails();
        output.code(1).says("/etc/passwd").says("permission denied");
    });
}

#[test]
fn a_directory_is_no_program() {
    check(|| {
        let output = Bundle::new().args(["/etc"]).start_fails();
        output.code(1).says("/etc").says_one_of(&["permission denied", "is a directory"]);
    });
}

#[test]
fn a_file_that_is_no_program_is_told_by_start() {
    check(|| {
        for content in ["", "no shebang\n", "\x7fELF"] {
            let bundle = Bundle::new().args(["/tool"]);
            fs::write(bundle.rootfs("/tool"), content).expect("write");
            fs::set_permissions(bundle.rootfs("/tool"), fs::Permissions::from_mode(0o755)).expect("chmod");
            bundle.start_fails().code(1).says("exec format error");
        }
    });
}

#[test]
fn a_missing_interpreter_is_told_by_start() {
    check(|| {
        let bundle = Bundle::new().args(["/tool"]);
        fs::write(bundle.rootfs("/tool"), "#!/no/such/interpreter\n").expect("write");
        fs::set_permissions(bundle.rootfs("/tool"), fs::Permissions::from_mode(0o755)).expect("chmod");
        bundle.start_fails().code(1).says("no such file or directory");
    });
}

#[test]
fn an_error_at_exec_names_the_reason_in_the_file() {
    check(|| {
        let case = |content: &[u8], words: &[&str]| {
            let bundle = Bundle::new().args(["/tool"]);
            fs::write(bundle.rootfs("/tool"), content).expect("write");
            fs::set_permissions(bundle.rootfs("/tool"), fs::Permissions::from_mode(0o755)).expect("chmod");
            bundle.start_fails().says_one_of(words);
        };
        case(b"", &["empty"]);
        case(b"echo hello\n", &["#!", "shebang"]);
        // The head of an ELF file for aarch64 (e_machine 183), 64 bits, little endian.
        let mut elf = vec![0; 64];
        elf[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0");
        case(&elf, &["aarch64"]);
        case(b"#!/no/such/interpreter\n", &["/no/such/interpreter"]);
    });
}

#[test]
fn cwd_is_where_the_process_starts() {
    check(|| {
        let view = Bundle::new().set("/process/cwd", "/tmp").look();
        assert_eq!(view.at("/cwd"), "/tmp");
    });
}

#[test]
fn a_missing_cwd_is_made() {
    check(|| {
        let view = Bundle::new().set("/process/cwd", "/made/on/demand").look();
        assert_eq!(view.at("/cwd"), "/made/on/demand");
    });
}

#[test]
fn cwd_may_be_private_to_the_user() {
    check(|| {
        let bundle = Bundle::new().set("/process/cwd", "/home/user");
        fs::create_dir_all(bundle.rootfs("/home/user")).expect("mkdir");
        fs::set_permissions(bundle.rootfs("/home/user"), fs::Permissions::from_mode(0o700)).expect("chmod");
        std::os::unix::fs::chown(bundle.rootfs("/home/user"), Some(1000), Some(1000)).expect("chown");
        let view = bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 })).look();
        assert_eq!(view.at("/cwd"), "/home/user");
    });
}

#[test]
fn cwd_must_be_absolute() {
    check(|| {
        Bundle::new().set("/process/cwd", "tmp").create_fails().says("cwd");
    });
}

#[test]
fn user_group_and_additional_groups() {
    check(|| {
        let user = json!({ "uid": 1000, "gid": 1001, "additionalGids": [29, 5, 1002] });
        let view = Bundle::new().set("/process/user", user).look();
        assert_eq!(view.at("/uid"), &json!([1000, 1000, 1000, 1000]));
        assert_eq!(view.at("/gid"), &json!([1001, 1001, 1001, 1001]));
        let mut groups: Vec<u64> =
            view.at("/groups").as_array().expect("groups").iter().filter_map(|g| g.as_u64()).collect();
        groups.retain(|g| *g != 1001);
        assert_eq!(groups, [5, 29, 1002]);
    });
}

#[test]
fn groups_of_the_runtime_do_not_leak() {
    check(|| {
        let bundle = Bundle::new();
        let wrap = |call: corten_integration::Invocation| call.under("setpriv", &["--groups", "27,44"]);
        let output = bundle.invoke_with(wrap).run().ok();
        let view = corten_integration::View::parse(&output.stdout);
        let groups = view.at("/groups").to_string();
        assert!(!groups.contains("27") && !groups.contains("44"), "{groups}");
    });
}

#[test]
fn umask_is_set() {
    check(|| {
        assert_eq!(Bundle::new().set("/process/user/umask", 0o077).look().at("/umask"), "0077");
        assert_eq!(Bundle::new().look().at("/umask"), "0022");
    });
}

#[test]
fn each_capability_set_is_what_the_config_says() {
    check(|| {
        let capabilities = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "inheritable": ["CAP_CHOWN", "CAP_KILL"],
            "ambient": ["CAP_CHOWN"],
        });
        let user = json!({ "uid": 1000, "gid": 1000 });
        let view = Bundle::new().set("/process/capabilities", capabilities).set("/process/user", user).look();
        assert_eq!(view.capabilities("bounding"), CHOWN | KILL | NET_RAW);
        assert_eq!(view.capabilities("inheritable"), CHOWN | KILL);
        assert_eq!(view.capabilities("ambient"), CHOWN);
        // Of an ordinary user only the ambient capabilities survive execve.
        assert_eq!(view.capabilities("permitted"), CHOWN);
        assert_eq!(view.capabilities("effective"), CHOWN);
    });
}

#[test]
fn root_has_the_bounding_set_and_nothing_inheritable() {
    check(|| {
        let sets = json!(["CAP_CHOWN", "CAP_NET_RAW"]);
        let all = json!({ "bounding": sets, "effective": sets, "permitted": sets });
        let view = Bundle::new().set("/process/capabilities", all).look();
        for set in ["bounding", "effective", "permitted"] {
            assert_eq!(view.capabilities(set), CHOWN | NET_RAW, "{set}");
        }
        assert_eq!(view.capabilities("inheritable"), 0);
        assert_eq!(view.capabilities("ambient"), 0);
    });
}

#[test]
fn no_capabilities_means_none() {
    check(|| {
        for bundle in [
            Bundle::new().set("/process/capabilities", json!({})),
            Bundle::new().set("/process/capabilities", json!({ "bounding": [] })),
        ] {
            let view = bundle.look();
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                assert_eq!(view.capabilities(set), 0, "{set}");
            }
        }
    });
}

#[test]
fn every_capability_that_the_runtime_has_can_be_given() {
    check(|| {
        let names = [
            "CHOWN",
            "DAC_OVERRIDE",
            "DAC_READ_SEARCH",
            "FOWNER",
            "FSETID",
            "KILL",
            "SETGID",
            "SETUID",
            "SETPCAP",
            "LINUX_IMMUTABLE",
            "NET_BIND_SERVICE",
            "NET_BROADCAST",
            "NET_ADMIN",
            "NET_RAW",
            "IPC_LOCK",
            "IPC_OWNER",
            "SYS_MODULE",
            "SYS_RAWIO",
            "SYS_CHROOT",
            "SYS_PTRACE",
            "SYS_PACCT",
            "SYS_ADMIN",
            "SYS_BOOT",
            "SYS_NICE",
            "SYS_RESOURCE",
            "SYS_TIME",
            "SYS_TTY_CONFIG",
            "MKNOD",
            "LEASE",
            "AUDIT_WRITE",
            "AUDIT_CONTROL",
            "SETFCAP",
            "MAC_OVERRIDE",
            "MAC_ADMIN",
            "SYSLOG",
            "WAKE_ALARM",
            "BLOCK_SUSPEND",
            "AUDIT_READ",
            "PERFMON",
            "BPF",
            "CHECKPOINT_RESTORE",
        ];
        let owned = own_capabilities();
        let bits = (0..names.len()).filter(|bit| owned & (1 << bit) != 0);
        let all: Vec<String> = bits.map(|bit| format!("CAP_{}", names[bit])).collect();
        let sets = json!({ "bounding": all, "effective": all, "permitted": all });
        let view = Bundle::new().set("/process/capabilities", sets).look();
        assert_eq!(view.capabilities("effective"), owned & ((1 << names.len()) - 1));
        assert_eq!(view.capabilities("bounding"), owned & ((1 << names.len()) - 1));
    });
}

#[test]
fn an_unknown_capability_is_not_fatal() {
    check(|| {
        let sets = json!(["CAP_CHOWN", "CAP_OF_TOMORROW"]);
        let all = json!({ "bounding": sets, "effective": sets, "permitted": sets });
        let view = Bundle::new().set("/process/capabilities", all).look();
        assert_eq!(view.capabilities("effective"), CHOWN);
    });
}

#[test]
fn no_new_privileges_is_what_the_config_says() {
    check(|| {
        assert_eq!(Bundle::new().set("/process/noNewPrivileges", true).look().at("/no_new_privs"), "1");
        assert_eq!(Bundle::new().set("/process/noNewPrivileges", false).look().at("/no_new_privs"), "0");
    });
}

#[test]
fn host_and_domain_name_are_set() {
    check(|| {
        let view = Bundle::new().set("/hostname", "inside").set("/domainname", "example.org").look();
        assert_eq!(view.at("/hostname"), "inside");
        assert_eq!(view.at("/domainname"), "example.org");
        assert_ne!(read("/proc/sys/kernel/hostname").trim(), "inside");
    });
}

#[test]
fn a_host_name_needs_a_uts_namespace() {
    check(|| {
        let before = read("/proc/sys/kernel/hostname");
        Bundle::new().without_namespace("uts").set("/hostname", "intruder").create_fails();
        assert_eq!(read("/proc/sys/kernel/hostname"), before);
    });
}

#[test]
fn sysctls_are_set_in_the_containers_namespaces() {
    check(|| {
        let before = read("/proc/sys/net/ipv4/ip_forward");
        let sysctl = json!({ "net.ipv4.ip_forward": "1", "kernel.msgmax": "4321" });
        let paths = ["read:/proc/sys/net/ipv4/ip_forward", "read:/proc/sys/kernel/msgmax"];
        let view = Bundle::new().namespace("network").set("/linux/sysctl", sysctl).probe(paths);
        assert_eq!(view.attempt(paths[0])["ok"], "1\n");
        assert_eq!(view.attempt(paths[1])["ok"], "4321\n");
        assert_eq!(read("/proc/sys/net/ipv4/ip_forward"), before);
    });
}

#[test]
fn a_sysctl_may_be_written_with_slashes() {
    check(|| {
        let sysctl = json!({ "net/ipv4/conf/lo/forwarding": "1" });
        let path = "read:/proc/sys/net/ipv4/conf/lo/forwarding";
        let view = Bundle::new().namespace("network").set("/linux/sysctl", sysctl).probe([path]);
        assert_eq!(view.attempt(path)["ok"], "1\n");
    });
}

#[test]
fn a_sysctl_of_the_host_is_refused() {
    check(|| {
        let before = read("/proc/sys/vm/swappiness");
        Bundle::new()
            .set("/linux/sysctl", json!({ "vm.swappiness": "11" }))
            .create_fails()
            .says("vm.swappiness");
        // Without a network namespace of its own this one would be the host's.
        let forward = json!({ "net.ipv4.ip_forward": "1" });
        Bundle::new().set("/linux/sysctl", forward).create_fails().says("ip_forward");
        assert_eq!(read("/proc/sys/vm/swappiness"), before);
    });
}

#[test]
fn the_session_keyring_is_a_new_one() {
    check(|| {
        if read("/proc/keys").is_empty() {
            skip("this kernel shows no keys");
        }
        let bundle = Bundle::new();
        let name = bundle.id().to_owned();
        let keys = bundle.look().at("/keys").to_string();
        assert!(keys.contains(&name), "{keys}");
    });
}

#[test]
fn no_new_keyring_keeps_the_session_keyring() {
    check(|| {
        let bundle = Bundle::new().flag("--no-new-keyring");
        let name = bundle.id().to_owned();
        let keys = bundle.look().at("/keys").to_string();
        assert!(!keys.contains(&name), "{keys}");
    });
}

#[test]
fn the_process_leads_a_session_and_ignores_no_signals() {
    check(|| {
        let view = Bundle::new().look();
        assert_eq!(view.at("/pid"), 1);
        assert_eq!(view.at("/signals/blocked"), "0000000000000000");
        // Rust's own start-up ignores SIGPIPE, bit 12.
        let ignored = u64::from_str_radix(view.text("/signals/ignored"), 16).expect("a mask");
        assert_eq!(ignored & !(1 << 12), 0, "ignored {ignored:x}");
    });
}

#[test]
fn only_the_standard_descriptors_are_open() {
    check(|| {
        let fds = Bundle::new().look().at("/fds").clone();
        let names: Vec<&String> = fds.as_object().expect("fds").keys().collect();
        assert_eq!(names, ["0", "1", "2"], "{fds}");
    });
}

#[test]
fn preserve_fds_keeps_exactly_those() {
    check(|| {
        let bundle = Bundle::new().flag("--preserve-fds").flag("2");
        let dir = bundle.dir().to_owned();
        let (three, four) = (dir.join("three"), dir.join("four"));
        fs::write(&three, "").and_then(|()| fs::write(&four, "")).expect("write");
        let fds = bundle.file(3, &three).file(4, &four).file(5, &three).look().at("/fds").clone();
        let names: Vec<&String> = fds.as_object().expect("fds").keys().collect();
        assert_eq!(names, ["0", "1", "2", "3", "4"], "{fds}");
        let own = |fd: &str| fds[fd].as_str().expect("a target").to_owned();
        assert!(own("3").ends_with("three") && own("4").ends_with("four"), "{fds}");
    });
}

#[test]
fn listen_fds_are_passed_on() {
    check(|| {
        let activated = |call: corten_integration::Invocation| {
            call.under("sh", &["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\""])
        };
        let bundle = Bundle::new().invoke_with(activated);
        let file = bundle.dir().join("socket");
        fs::write(&file, "").expect("write");
        let view = bundle.file(3, &file).look();
        assert!(view.text("/fds/3").ends_with("socket"), "{}", view.at("/fds"));
        let env = view.at("/env").to_string();
        assert!(env.contains("LISTEN_FDS=1") && env.contains("LISTEN_PID=1"), "{env}");
    });
}

#[test]
fn unknown_properties_are_ignored() {
    check(|| {
        let bundle = Bundle::new().set("/unknown", json!({ "a": 1 })).set("/process/unknownToo", "x");
        bundle.set("/linux/unknownAsWell", json!([])).look();
    });
}
