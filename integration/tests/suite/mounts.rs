//! Mounts: every option by its effect, propagation, types, destinations.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use corten_integration::{Bundle, check, kernel_at_least, mounts_below, skip};
use serde_json::json;

use crate::mount_options::has;

/// A bundle with a directory "source" that holds "file", and its path.
pub(crate) fn with_source() -> (Bundle, String) {
    let bundle = Bundle::new();
    let source = bundle.dir().join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("file"), "content").expect("write");
    (bundle, source.to_string_lossy().into_owned())
}

#[test]
fn options_of_the_file_system_reach_it() {
    check(|| {
        let attempts = ["stat:/m"];
        let options = ["size=1m", "mode=1750", "uid=7", "gid=8", "nr_inodes=100"];
        let view = Bundle::new().mount("/m", "tmpfs", "tmpfs", &options).probe(attempts);
        let seen = view.options("/m");
        assert!(has(&seen, "size=1024k") && has(&seen, "nr_inodes=100"), "{seen:?}");
        let stat = &view.attempt("stat:/m")["ok"];
        assert_eq!((&stat["mode"], &stat["uid"], &stat["gid"]), (&json!("1750"), &json!(7), &json!(8)));
    });
}

#[test]
fn an_option_that_the_file_system_does_not_know_is_an_error_that_names_it() {
    check(|| {
        Bundle::new().mount("/m", "tmpfs", "tmpfs", &["nosuchoption=1"]).create_fails().says("nosuchoption");
    });
}

#[test]
fn an_unknown_file_system_is_an_error() {
    check(|| {
        Bundle::new()
            .mount("/m", "nosuchfs", "none", &[])
            .create_fails()
            .says_one_of(&["nosuchfs", "no such device"]);
    });
}

#[test]
fn the_source_is_shown() {
    check(|| {
        let view = Bundle::new().mount("/m", "tmpfs", "my-source", &[]).look();
        assert_eq!(view.mount("/m")["source"], "my-source");
        assert_eq!(view.mount("/m")["type"], "tmpfs");
    });
}

#[test]
fn a_bind_of_a_directory_shows_its_files_both_ways() {
    check(|| {
        let (bundle, source) = with_source();
        let output = bundle
            .mount("/m", "bind", &source, &["bind"])
            .script("cat /m/file; echo back >/m/new; cat /m/new");
        let container = output.create();
        assert_eq!(container.finish(), "contentback\n");
        let new = container.bundle.dir().join("source/new");
        assert_eq!(fs::read_to_string(new).expect("read"), "back\n");
    });
}

#[test]
fn a_bind_is_told_by_its_options_not_its_type() {
    check(|| {
        for (kind, option) in [("none", "bind"), ("none", "rbind"), ("bind", "rbind"), ("tmpfs", "rbind")] {
            let (bundle, source) = with_source();
            let view = bundle.mount("/m", kind, &source, &[option]).probe(["read:/m/file"]);
            assert_eq!(view.attempt("read:/m/file")["ok"], "content", "type {kind}, option {option}");
        }
    });
}

#[test]
fn a_bind_of_a_file_makes_its_destination() {
    check(|| {
        let (bundle, source) = with_source();
        let view = bundle
            .mount("/deep/down/file", "bind", &format!("{source}/file"), &["bind", "ro"])
            .probe(["read:/deep/down/file", "write:/deep/down/file"]);
        assert_eq!(view.attempt("read:/deep/down/file")["ok"], "content");
        assert_eq!(view.errno("write:/deep/down/file"), 30, "EROFS");
    });
}

#[test]
fn a_read_only_bind_is_read_only_for_the_container_alone() {
    check(|| {
        let (bundle, source) = with_source();
        let bundle = bundle.mount("/m", "bind", &source, &["bind", "ro"]);
        let container = bundle.args(["/probe", "create:/m/x", "read:/m/file"]).create();
        let view = container.look();
        assert_eq!(view.errno("create:/m/x"), 30);
        assert!(view.could("read:/m/file"));
        fs::write(format!("{source}/later"), "").expect("the host may still write");
    });
}

#[test]
fn a_relative_bind_source_is_relative_to_the_bundle() {
    check(|| {
        let (bundle, _) = with_source();
        let view = bundle.mount("/m", "bind", "source", &["bind"]).probe(["read:/m/file"]);
        assert_eq!(view.attempt("read:/m/file")["ok"], "content");
    });
}

#[test]
fn a_missing_bind_source_is_an_error_that_names_it() {
    check(|| {
        let output = Bundle::new().mount("/m", "bind", "/no/such/source", &["bind"]).create_fails();
        output.says("/no/such/source").says("no such file or directory");
    });
}

#[test]
fn rbind_takes_the_mounts_below_and_bind_does_not() {
    check(|| {
        for (option, seen) in [("rbind", true), ("bind", false)] {
            let (bundle, source) = with_source();
            let inner = format!("{source}/inner");
            fs::create_dir(&inner).expect("mkdir");
            mount_tmpfs(&inner);
            fs::write(format!("{inner}/deep"), "").expect("write");
            let view = bundle.mount("/m", "none", &source, &[option]).probe(["stat:/m/inner/deep"]);
            assert_eq!(view.could("stat:/m/inner/deep"), seen, "{option}");
        }
    });
}

/// A tmpfs of the host; the scratch directory's drop takes it away.
pub(crate) fn mount_tmpfs(path: &str) {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), None).expect("mount");
    mount_change(path, MountPropagationFlags::PRIVATE).expect("private");
}

#[test]
fn nothing_propagates_to_the_host() {
    check(|| {
        let bundle = Bundle::new().mount("/m", "tmpfs", "tmpfs", &[]).sleeper();
        let container = bundle.start();
        let mounts = mounts_below(container.bundle.dir());
        assert!(mounts.is_empty(), "{mounts:?}");
    });
}

#[test]
fn mounts_come_in_their_order() {
    check(|| {
        let (bundle, source) = with_source();
        let bundle = bundle.mount("/m", "tmpfs", "tmpfs", &[]).mount("/m/inner", "none", &source, &["bind"]);
        let view = bundle.probe(["read:/m/inner/file"]);
        assert_eq!(view.attempt("read:/m/inner/file")["ok"], "content");
        let (bundle, source) = with_source();
        let bundle = bundle.mount("/m/inner", "none", &source, &["bind"]).mount("/m", "tmpfs", "tmpfs", &[]);
        assert!(!bundle.probe(["read:/m/inner/file"]).could("read:/m/inner/file"));
    });
}

#[test]
fn a_relative_destination_is_relative_to_the_root() {
    check(|| {
        let view = Bundle::new().mount("rel/ative", "tmpfs", "tmpfs", &[]).look();
        view.mount("/rel/ative");
    });
}

#[test]
fn a_destination_through_a_symlink_stays_in_the_rootfs() {
    check(|| {
        let bundle = Bundle::new();
        let outside = bundle.dir().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        symlink(&outside, bundle.rootfs("/absolute")).expect("symlink");
        symlink("../../../../../../tmp", bundle.rootfs("/var/relative")).expect("symlink");
        let bundle = bundle.mount("/absolute/m", "tmpfs", "tmpfs", &[]).mount(
            "/var/relative/n",
            "tmpfs",
            "tmpfs",
            &[],
        );
        let view = bundle.args(["/probe"]).create();
        let outside_empty = fs::read_dir(&outside).expect("read").next().is_none();
        let seen = view.look();
        assert!(outside_empty, "something is made outside the rootfs");
        seen.mount(&format!("{}/m", outside.display()));
        seen.mount("/tmp/n");
    });
}

#[test]
fn a_dangling_symlink_as_destination_is_followed_inside() {
    check(|| {
        let (bundle, source) = with_source();
        symlink("/made/by/link", bundle.rootfs("/dangling")).expect("symlink");
        let view = bundle.mount("/dangling", "none", &source, &["bind"]).probe(["read:/made/by/link/file"]);
        assert_eq!(view.attempt("read:/made/by/link/file")["ok"], "content");
    });
}

#[test]
fn dots_in_a_destination_stay_in_the_rootfs() {
    check(|| {
        let view = Bundle::new().mount("/../../../tmp/../m", "tmpfs", "tmpfs", &[]).look();
        view.mount("/m");
    });
}

#[test]
fn tmpcopyup_fills_the_tmpfs() {
    check(|| {
        let bundle = Bundle::new();
        fs::create_dir_all(bundle.rootfs("/data/sub")).expect("mkdir");
        fs::write(bundle.rootfs("/data/sub/file"), "copied").expect("write");
        symlink("sub/file", bundle.rootfs("/data/link")).expect("symlink");
        fs::set_permissions(bundle.rootfs("/data/sub/file"), fs::Permissions::from_mode(0o640))
            .expect("chmod");
        chown(bundle.rootfs("/data/sub/file"), Some(5), Some(6)).expect("chown");
        let original = bundle.rootfs("/data/sub/file");
        let bundle = bundle.mount("/data", "tmpfs", "tmpfs", &["tmpcopyup"]);
        let attempts = ["read:/data/link", "stat:/data/sub/file", "put:/data/sub/file=changed"];
        let container = bundle.args(["/probe"].iter().chain(&attempts)).create();
        let view = container.look();
        assert_eq!(view.mount("/data")["type"], "tmpfs");
        assert_eq!(view.attempt(attempts[0])["ok"], "copied");
        let stat = &view.attempt(attempts[1])["ok"];
        assert_eq!((&stat["mode"], &stat["uid"], &stat["gid"]), (&json!("640"), &json!(5), &json!(6)));
        assert!(view.could(attempts[2]));
        assert_eq!(fs::read_to_string(original).expect("read"), "copied", "the rootfs changed");
    });
}

#[test]
fn a_tmpfs_takes_the_mode_of_the_directory_it_covers() {
    check(|| {
        let bundle = Bundle::new();
        fs::create_dir(bundle.rootfs("/covered")).expect("mkdir");
        fs::set_permissions(bundle.rootfs("/covered"), fs::Permissions::from_mode(0o1777)).expect("chmod");
        let view = bundle.mount("/covered", "tmpfs", "tmpfs", &[]).probe(["stat:/covered"]);
        assert_eq!(view.attempt("stat:/covered")["ok"]["mode"], "1777");
    });
}

#[test]
fn idmapped_binds_show_other_owners() {
    check(|| {
        if !kernel_at_least(5, 12) {
            skip("idmapped mounts need Linux 5.12");
        }
        let (bundle, source) = with_source();
        chown(format!("{source}/file"), Some(1000), Some(1000)).expect("chown");
        let mapping = json!([{ "containerID": 1000, "hostID": 2000, "size": 1 }, { "containerID": 0, "hostID": 0, "size": 1 }]);
        let mount = json!({ "destination": "/m", "type": "none", "source": source, "options": ["bind", "idmap"],
                            "uidMappings": mapping, "gidMappings": mapping });
        let view = bundle.push("/mounts", mount).probe(["stat:/m/file"]);
        let stat = &view.attempt("stat:/m/file")["ok"];
        assert_eq!((&stat["uid"], &stat["gid"]), (&json!(2000), &json!(2000)));
    });
}

#[test]
fn in_a_user_namespace_an_idmapped_bind_shows_the_containers_owners() {
    check(|| {
        if !kernel_at_least(5, 12) {
            skip("idmapped mounts need Linux 5.12");
        }
        let bundle = Bundle::new().userns(100_000, 65536).namespace("network");
        let source = bundle.dir().join("source");
        fs::create_dir(&source).expect("mkdir");
        fs::write(source.join("file"), "").expect("write");
        let mount = json!({ "destination": "/m", "type": "none", "source": source, "options": ["bind", "idmap"],
                            "uidMappings": bundle.config["linux"]["uidMappings"],
                            "gidMappings": bundle.config["linux"]["gidMappings"] });
        let view = bundle.push("/mounts", mount).probe(["stat:/m/file", "create:/m/x"]);
        assert_eq!(view.attempt("stat:/m/file")["ok"]["uid"], 0);
        assert!(view.could("create:/m/x"));
    });
}

#[test]
fn ridmap_reaches_the_mounts_below() {
    check(|| {
        if !kernel_at_least(6, 3) {
            skip("an idmapped tmpfs needs Linux 6.3");
        }
        for (option, uid) in [("ridmap", 2000), ("idmap", 1000)] {
            let (bundle, source) = with_source();
            let inner = format!("{source}/inner");
            fs::create_dir(&inner).expect("mkdir");
            mount_tmpfs(&inner);
            fs::write(format!("{inner}/file"), "").expect("write");
            chown(format!("{inner}/file"), Some(1000), Some(1000)).expect("chown");
            let mapping = json!([{ "containerID": 1000, "hostID": 2000, "size": 1 }]);
            let mount = json!({ "destination": "/m", "type": "none", "source": source, "options": ["rbind", option],
                                "uidMappings": mapping, "gidMappings": mapping });
            let view = bundle.push("/mounts", mount).probe(["stat:/m/inner/file"]);
            assert_eq!(view.attempt("stat:/m/inner/file")["ok"]["uid"], uid, "{option}");
        }
    });
}

#[test]
fn idmap_works_on_a_new_file_system_too() {
    check(|| {
        if !kernel_at_least(6, 3) {
            skip("an idmapped tmpfs needs Linux 6.3");
        }
        let mapping = json!([{ "containerID": 0, "hostID": 2000, "size": 1 }]);
        let mount = json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["idmap", "mode=755"],
                            "uidMappings": mapping, "gidMappings": mapping });
        let view = Bundle::new().push("/mounts", mount).probe(["stat:/m"]);
        assert_eq!(view.attempt("stat:/m")["ok"]["uid"], 2000);
    });
}

#[test]
fn idmap_without_mappings_or_a_user_namespace_is_an_error() {
    check(|| {
        let (bundle, source) = with_source();
        bundle.mount("/m", "none", &source, &["bind", "idmap"]).create_fails();
    });
}

#[test]
fn proc_sysfs_mqueue_and_shm_are_mounted() {
    check(|| {
        let bundle = Bundle::new()
            .namespace("network")
            .mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
            .mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])
            .mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]);
        let view = bundle.probe(["stat:/dev/shm", "write:/sys/kernel/mm/ksm/run", "create:/dev/shm/x"]);
        for (destination, kind) in [
            ("/proc", "proc"),
            ("/sys", "sysfs"),
            ("/dev/mqueue", "mqueue"),
            ("/dev/shm", "tmpfs"),
            ("/dev/pts", "devpts"),
        ] {
            assert_eq!(view.mount(destination)["type"], kind, "{destination}");
        }
        assert!(has(&view.mount_options("/sys"), "ro"));
        assert_eq!(view.attempt("stat:/dev/shm")["ok"]["mode"], "1777");
        assert!(view.could("create:/dev/shm/x"));
    });
}

#[test]
fn proc_options_are_passed() {
    check(|| {
        let bundle = Bundle::new().remove("/mounts/0");
        let proc = json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["hidepid=2", "nosuid"] });
        let mut bundle = bundle;
        bundle.config["mounts"].as_array_mut().expect("mounts").insert(0, proc);
        let view = bundle.look();
        let seen = view.options("/proc");
        assert!(has(&seen, "hidepid=invisible") || has(&seen, "hidepid=2"), "{seen:?}");
        assert!(has(&seen, "nosuid"));
    });
}

#[test]
fn a_mounted_cgroup_file_system_shows_the_containers_cgroup() {
    check(|| {
        let options = ["nosuid", "noexec", "nodev", "relatime", "ro"];
        let bundle = Bundle::new().namespace("cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", &options);
        let attempts = [
            "list:/sys/fs/cgroup",
            "read:/sys/fs/cgroup/cgroup.procs",
            "read:/sys/fs/cgroup/pids/cgroup.procs",
            "mkdir:/sys/fs/cgroup/x",
            "mkdir:/sys/fs/cgroup/pids/x",
        ];
        let view = bundle.probe(attempts);
        let unified = view.could(attempts[1]);
        let (procs, mkdir) = if unified { (attempts[1], attempts[3]) } else { (attempts[2], attempts[4]) };
        let inside = view.attempt(procs)["ok"]
            .as_str()
            .unwrap_or_else(|| panic!("{:?}", view.at("/attempts")))
            .to_owned();
        assert_eq!(inside.trim(), "1", "the processes of the container's cgroup");
        assert_eq!(view.errno(mkdir), 30, "a read-only cgroup file system");
        if !unified {
            let names = view.attempt(attempts[0])["ok"].to_string();
            assert!(names.contains("memory") && names.contains("pids"), "{names}");
        }
    });
}

#[test]
fn a_cgroup_mount_works_without_a_cgroup_namespace() {
    check(|| {
        // On v1 each controller's mount begins at the container's cgroup, on v2 it shows the whole tree.
        let bundle = Bundle::new().mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]).script(
            "own=$(sed -n 's/^0:://p' /proc/self/cgroup); \
             cat /sys/fs/cgroup/pids/cgroup.procs 2>/dev/null || cat /sys/fs/cgroup/$own/cgroup.procs",
        );
        let output = bundle.run().ok();
        assert!(output.stdout.lines().any(|pid| pid == "1"), "{output}");
    });
}

#[test]
fn a_mount_that_fails_in_the_middle_leaves_nothing() {
    check(|| {
        let (bundle, source) = with_source();
        let bundle =
            bundle.mount("/ok", "tmpfs", "tmpfs", &[]).mount("/bind", "none", &source, &["bind", "rshared"]);
        bundle.mount("/bad", "tmpfs", "tmpfs", &["size=nonsense"]).create_fails().says("bad");
    });
}

#[test]
fn a_file_where_a_directory_is_needed_is_an_error() {
    check(|| {
        let (bundle, source) = with_source();
        fs::write(bundle.rootfs("/occupied"), "").expect("write");
        bundle.mount("/occupied", "none", &source, &["bind"]).create_fails().says("occupied");
    });
}

#[test]
fn remount_changes_the_flags_of_a_mount() {
    check(|| {
        let bundle = Bundle::new().mount("/m", "tmpfs", "tmpfs", &["size=1m"]).mount(
            "/m",
            "tmpfs",
            "tmpfs",
            &["remount", "ro", "nosuid"],
        );
        let seen = bundle.look().options("/m");
        assert!(has(&seen, "ro") && has(&seen, "nosuid"), "{seen:?}");
    });
}

#[test]
fn options_of_a_locked_source_are_kept() {
    check(|| {
        let (bundle, source) = with_source();
        mount_tmpfs(&source);
        use rustix::mount::{MountFlags, mount_remount};
        mount_remount(&source, MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID, c"")
            .expect("remount");
        // In a user namespace the flags of a mount of the host are locked: to make it read-only the others
        // must be repeated.
        let bundle =
            bundle.userns(100_000, 65536).namespace("network").mount("/m", "none", &source, &["bind", "ro"]);
        let seen = bundle.look().mount_options("/m");
        assert!(has(&seen, "ro") && has(&seen, "nodev") && has(&seen, "nosuid"), "{seen:?}");
    });
}
