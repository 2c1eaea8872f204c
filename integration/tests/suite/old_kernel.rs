//! What older kernels lack, and what older sandboxes forbid: the runtime finds another way, or says what
//! it would need. See docs/kernel-features.md.

use std::fs;

use corten_integration::{Bundle, ConsoleSocket, check};
use rustix::mount::{MountFlags, mount_remount};
use serde_json::json;

use crate::mount_options::has;
use crate::mounts::{mount_tmpfs, with_source};

/// Everything that came after Linux 4.19 and can be done without.
const YOUNG: &str = "open_tree,move_mount,fsopen,fsconfig,fsmount,fspick,mount_setattr,openat2,\
                     close_range,faccessat2,fchmodat2";
/// A kernel before 5.12, such as that of Debian 11.
const SETATTR: &str = "mount_setattr";

/// Every kind of lack.
const LACKS: [(&str, &str); 3] = [("ENOSYS", YOUNG), ("EPERM", YOUNG), ("ENOSYS", SETATTR)];

/// What an engine asks for: mounts, read-only root, covered paths, devices, limits.
fn like_an_engine(bundle: Bundle) -> Bundle {
    bundle
        .namespace("network")
        .namespace("cgroup")
        .mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        .mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"])
        .mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])
        .mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"])
        .set("/root/readonly", true)
        .set("/hostname", "old")
        .set("/linux/maskedPaths", json!(["/secret", "/proc/acpi", "/sys/firmware", "/no/such"]))
        .set("/linux/readonlyPaths", json!(["/proc/sys", "/proc/irq"]))
        .set("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "7" }))
        .set("/process/oomScoreAdj", 11)
}

#[test]
fn an_engines_bundle_runs() {
    check(|| {
        for (errno, calls) in LACKS {
            let (bundle, source) = with_source();
            let bundle = like_an_engine(bundle.without_calls(errno, calls));
            fs::write(bundle.rootfs("secret"), "secret").expect("write");
            let attempts = [
                "read:/m/file",
                "create:/m/x",
                "create:/x",
                "read:/secret",
                "write:/proc/sys/kernel/hostname",
                "read:/proc/sys/net/ipv4/ip_unprivileged_port_start",
                "read:/file",
            ];
            let view = bundle
                .mount("/m", "bind", &source, &["rbind", "ro", "rprivate"])
                .mount("/file", "bind", &format!("{source}/file"), &["bind", "noexec"])
                .probe(attempts);
            let lack = format!("{errno} {calls}");
            assert_eq!(view.attempt("read:/m/file")["ok"], "content", "{lack}");
            assert_eq!(view.attempt("read:/file")["ok"], "content", "{lack}");
            for refused in ["create:/m/x", "create:/x", "write:/proc/sys/kernel/hostname"] {
                assert_eq!(view.errno(refused), 30, "{refused}: EROFS, {lack}");
            }
            assert_eq!(view.attempt("read:/secret")["ok"], "", "{lack}");
            assert_eq!(
                view.attempt("read:/proc/sys/net/ipv4/ip_unprivileged_port_start")["ok"],
                "7\n",
                "{lack}"
            );
            assert!(has(&view.mount_options("/file"), "noexec"), "{lack}");
        }
    });
}

#[test]
fn an_exec_finds_its_program_and_gets_none_of_our_descriptors() {
    check(|| {
        for (errno, calls) in LACKS {
            let container = Bundle::new().without_calls(errno, calls).sleeper().start();
            let view = container.exec(&["/probe"]).look();
            let fds: Vec<_> = view.at("/fds").as_object().expect("descriptors").keys().cloned().collect();
            assert_eq!(fds, ["0", "1", "2"], "{errno} {calls}");
            container.exec(&["sh", "-c", "exit 7"]).run().code(7);
            container.vanish();
        }
    });
}

#[test]
fn a_user_namespace_keeps_the_protections_of_a_bind_mounts_source() {
    check(|| {
        for (errno, calls) in LACKS {
            let (bundle, source) = with_source();
            mount_tmpfs(&source);
            mount_remount(&source, MountFlags::BIND | MountFlags::NODEV | MountFlags::NOEXEC, c"")
                .expect("remount");
            let bundle = bundle.without_calls(errno, calls).userns(100_000, 65536).namespace("network");
            let seen = bundle.mount("/m", "bind", &source, &["bind", "ro"]).look().mount_options("/m");
            for kept in ["ro", "nodev", "noexec"] {
                assert!(has(&seen, kept), "{kept}: {seen:?}, {errno} {calls}");
            }
        }
    });
}

#[test]
fn a_tmpfs_is_filled_and_has_the_mode_of_what_it_covers() {
    check(|| {
        for (errno, calls) in LACKS {
            let bundle = Bundle::new().without_calls(errno, calls);
            for (name, mode) in [("full", 0o750), ("bare", 0o711)] {
                let dir = bundle.rootfs(name);
                fs::create_dir(&dir).expect("mkdir");
                fs::write(dir.join("file"), "copied").expect("write");
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                fs::set_permissions(&dir, mode).expect("chmod");
            }
            let view = bundle
                .mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "ro"])
                .mount("/bare", "tmpfs", "tmpfs", &["ro"])
                .probe(["read:/full/file", "create:/full/x", "stat:/full", "stat:/bare", "read:/bare/file"]);
            let lack = format!("{errno} {calls}");
            assert_eq!(view.attempt("read:/full/file")["ok"], "copied", "{lack}");
            assert_eq!(view.errno("create:/full/x"), 30, "EROFS, {lack}");
            assert_eq!(view.attempt("stat:/full")["ok"]["mode"], "750", "{lack}");
            assert_eq!(view.attempt("stat:/bare")["ok"]["mode"], "711", "{lack}");
            assert_eq!(view.errno("read:/bare/file"), 2, "ENOENT, {lack}");
        }
    });
}

#[test]
fn what_cannot_be_done_without_mount_setattr_is_refused_in_words() {
    check(|| {
        for (errno, calls) in LACKS {
            for option in ["rro", "rnosuid"] {
                let (bundle, source) = with_source();
                bundle
                    .without_calls(errno, calls)
                    .mount("/m", "bind", &source, &["rbind", option])
                    .create_fails()
                    .says("mount_setattr");
            }
            let map = json!([{ "containerID": 0, "hostID": 2000, "size": 10 }]);
            for kind in ["bind", "tmpfs"] {
                let (bundle, source) = with_source();
                let mount = json!({ "destination": "/m", "type": kind, "source": source, "options": [],
                                    "uidMappings": map, "gidMappings": map });
                bundle
                    .without_calls(errno, calls)
                    .push("/mounts", mount)
                    .create_fails()
                    .says_one_of(&["mount_setattr", "idmap"]);
            }
        }
    });
}

#[test]
fn a_terminal_and_a_detached_container_work() {
    check(|| {
        for (errno, calls) in LACKS {
            let bundle = Bundle::new().without_calls(errno, calls).set("/process/terminal", true);
            let socket = ConsoleSocket::new(bundle.dir());
            let bundle = bundle.flag("--console-socket").flag(socket.path().to_string_lossy());
            let container = bundle.script("tty").create();
            let mut terminal = socket.receive();
            container.start().ok();
            terminal.read_until("/dev/");
            container.wait();
            container.vanish();
        }
    });
}
