//! Attacks that a hostile rootfs or a careless configuration makes possible, without races.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use corten_integration::{Bundle, Runtime, check, mounts_below, read};
use serde_json::json;

#[test]
fn proc_over_a_symlink_is_refused_or_stays_inside() {
    // CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867
    check(|| {
        for name in ["proc", "sys"] {
            let bundle = Bundle::new().namespace("network").mount("/sys", "sysfs", "sysfs", &["ro"]);
            fs::remove_dir(bundle.rootfs(name)).expect("rmdir");
            fs::create_dir_all(bundle.rootfs("/bad/place")).expect("mkdir");
            symlink("/bad/place", bundle.rootfs(name)).expect("symlink");
            bundle.create_fails();
        }
    });
}

#[test]
fn proc_below_a_symlinked_parent_stays_inside() {
    check(|| {
        let bundle = Bundle::new();
        let outside = bundle.dir().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        symlink(&outside, bundle.rootfs("/jump")).expect("symlink");
        let bundle = bundle.mount("/jump/proc", "proc", "proc", &[]);
        let output = bundle.call("create").run(bundle.dir());
        let inside = fs::read_dir(&outside).expect("read").count();
        bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
        assert_eq!(inside, 0, "something is made outside: {output}");
    });
}

#[test]
fn dev_as_a_symlink_does_not_touch_the_host() {
    // CVE-2026-41579, CVE-2026-47766
    check(|| {
        let bundle = Bundle::new().remove("/mounts/2").remove("/mounts/1");
        let outside = bundle.dir().join("outside");
        fs::create_dir(&outside).expect("mkdir");
        for name in ["ptmx", "null", "stdin"] {
            fs::write(outside.join(name), "marker").expect("write");
        }
        fs::remove_dir(bundle.rootfs("/dev")).expect("rmdir");
        symlink(&outside, bundle.rootfs("/dev")).expect("symlink");
        let output = bundle.args(["/bin/true"]);
        let result = output.call("run").run(output.dir());
        let mut names: Vec<_> = fs::read_dir(&outside)
            .expect("read")
            .flatten()
            .map(|e| e.file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        assert_eq!(names, ["null", "ptmx", "stdin"], "{result}");
        for name in names {
            assert_eq!(read(outside.join(&name)), "marker", "{name}: {result}");
        }
    });
}

#[test]
fn cwd_through_a_leaked_descriptor_is_refused() {
    // CVE-2024-21626
    check(|| {
        for fd in 3..12 {
            let bundle = Bundle::new().set("/process/cwd", format!("/proc/self/fd/{fd}"));
            let output = bundle.args(["/probe", "list:..", "list:../.."]).run();
            assert!(output.status != 0, "descriptor {fd}: {output}");
        }
    });
}

/// Whether a listing is of a directory of the host.
fn shows_the_host(listing: &str) -> bool {
    ["lib64", "debian_version", "config.json", "rootfs"].iter().any(|name| listing.contains(name))
}

#[test]
fn cwd_of_exec_through_a_leaked_descriptor_is_refused_or_inside() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        for fd in 3..12 {
            let link = container.bundle.rootfs(&format!("/link{fd}"));
            symlink(format!("/proc/self/fd/{fd}"), link).expect("symlink");
            for cwd in [format!("/proc/self/fd/{fd}"), format!("/link{fd}")] {
                let exec = container.exec(&["/probe", "list:.", "list:..", "list:../..", "list:../etc"]);
                let output = exec.with("--cwd", cwd.as_str()).run();
                if output.status == 0 {
                    let listings =
                        corten_integration::View::parse(&output.stdout).at("/attempts").to_string();
                    assert!(!shows_the_host(&listings), "{cwd}: {listings}");
                }
            }
        }
    });
}

#[test]
fn a_descriptor_of_the_caller_does_not_reach_the_container() {
    check(|| {
        let bundle = Bundle::new().file(7, "/").file(9, "/etc");
        let container = bundle.args(["/probe"]).create();
        let held: Vec<String> = fs::read_dir(format!("/proc/{}/fd", container.pid()))
            .expect("descriptors of init")
            .flatten()
            .filter_map(|e| fs::read_link(e.path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect();
        assert!(!held.iter().any(|target| target == "/" || target == "/etc"), "created: {held:?}");
        let view = container.look();
        let fds = view.at("/fds").to_string();
        assert_eq!(view.at("/fds").as_object().map(serde_json::Map::len), Some(3), "{fds}");
    });
}

#[test]
fn a_created_container_holds_no_directory_of_the_host() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        let pid = container.pid();
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten() {
            let meta = fs::metadata(entry.path());
            let target = fs::read_link(entry.path()).unwrap_or_default();
            assert!(!meta.is_ok_and(|m| m.is_dir()), "init holds the directory {target:?}");
        }
        let cwd = container.proc_link("cwd");
        assert_eq!(cwd, "/", "the working directory of init");
    });
}

#[test]
fn the_runtimes_binary_cannot_be_overwritten() {
    // CVE-2019-5736
    check(|| {
        let before = fs::metadata(&Runtime::get().path).expect("stat");
        let bundle = Bundle::new().args(["/proc/self/exe"]);
        fs::write(bundle.rootfs("/evil"), "#!/proc/self/exe\n").expect("write");
        fs::set_permissions(bundle.rootfs("/evil"), fs::Permissions::from_mode(0o755)).expect("chmod");
        let call = bundle.call("run");
        call.run(bundle.dir());
        let container = Bundle::new().sleeper().start();
        fs::write(container.bundle.rootfs("/evil"), "#!/proc/self/exe\n").expect("write");
        fs::set_permissions(container.bundle.rootfs("/evil"), fs::Permissions::from_mode(0o755))
            .expect("chmod");
        let script = "for pid in /proc/[0-9]*; do (: >>$pid/exe) 2>/dev/null; done; true";
        container.exec(&["/evil"]).run();
        container.exec(&["/bin/sh", "-c", script]).run();
        let after = fs::metadata(&Runtime::get().path).expect("stat");
        assert_eq!((before.len(), before.mtime(), before.ino()), (after.len(), after.mtime(), after.ino()));
    });
}

#[test]
fn what_init_executes_while_it_waits_can_never_be_written_to() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        let exe = format!("/proc/{}/exe", container.pid());
        // Another file, sealed in memory or a copy, or at least a read-only view of the runtime's.
        let other = fs::metadata(&exe).expect("stat").ino()
            != fs::metadata(&Runtime::get().path).expect("stat").ino();
        let flags = rustix::fs::statvfs(&exe).expect("statvfs").f_flag;
        let read_only = flags.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        assert!(other || read_only, "init executes the runtime's file itself");
    });
}

#[test]
fn masks_do_not_trust_the_containers_dev_null() {
    // CVE-2025-31133
    check(|| {
        let bundle = Bundle::new().remove("/mounts/2").remove("/mounts/1");
        let volume = bundle.dir().join("dev");
        fs::create_dir(&volume).expect("mkdir");
        symlink("/proc/sys/kernel/core_pattern", volume.join("null")).expect("symlink");
        let before = read("/proc/sys/kernel/core_pattern");
        let volume = volume.to_string_lossy().into_owned();
        let bundle = bundle
            .mount("/dev", "none", &volume, &["bind"])
            .set("/linux/maskedPaths", json!(["/proc/interrupts"]));
        let bundle = bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
        let output = bundle
            .args([
                "/probe",
                "write:/proc/interrupts",
                "write:/proc/sys/kernel/core_pattern",
                "read:/proc/interrupts",
            ])
            .run();
        assert_eq!(read("/proc/sys/kernel/core_pattern"), before);
        if output.status == 0 {
            let view = corten_integration::View::parse(&output.stdout);
            assert!(!view.could("write:/proc/sys/kernel/core_pattern"), "{output}");
            let masked = view.attempt("read:/proc/interrupts");
            assert!(masked["ok"] == "" || !view.could("read:/proc/interrupts"), "not masked: {masked}");
        }
    });
}

#[test]
fn files_the_runtime_reads_in_the_rootfs_cannot_stop_it() {
    // CVE-2026-47262, CVE-2024-9676
    check(|| {
        for file in ["passwd", "group"] {
            let bundle = Bundle::new().args(["/bin/true"]);
            let path = bundle.rootfs("/etc").join(file);
            fs::remove_file(&path).expect("rm");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .expect("mkfifo");
            bundle.run();
            let bundle = Bundle::new().args(["/bin/true"]);
            let path = bundle.rootfs("/etc").join(file);
            fs::remove_file(&path).expect("rm");
            symlink("/dev/zero", &path).expect("symlink");
            bundle.run();
        }
    });
}

#[test]
fn passwd_is_not_read_through_a_symlink_out_of_the_rootfs() {
    check(|| {
        let bundle = Bundle::new();
        let outside = bundle.dir().join("passwd");
        fs::write(&outside, "root:x:0:0:root:/stolen:/bin/sh\n").expect("write");
        fs::remove_file(bundle.rootfs("/etc/passwd")).expect("rm");
        symlink(&outside, bundle.rootfs("/etc/passwd")).expect("symlink");
        let view = bundle.look();
        assert!(!view.at("/env").to_string().contains("stolen"), "{}", view.at("/env"));
    });
}

#[test]
fn a_sysctl_cannot_name_a_path() {
    check(|| {
        for key in [
            "net.ipv4.../../kernel/hostname",
            "../kernel.hostname",
            "net/../kernel/hostname",
            "net.ipv4.ip_forward\n",
        ] {
            let before = read("/proc/sys/kernel/hostname");
            let bundle = Bundle::new().namespace("network").without_namespace("uts");
            bundle.set("/linux/sysctl", json!({ key: "intruder" })).create_fails();
            assert_eq!(read("/proc/sys/kernel/hostname"), before, "{key}");
        }
    });
}

#[test]
fn paths_in_resources_cannot_leave_the_cgroup() {
    // GHSA-5g49-rx9x-qfc6
    check(|| {
        let pages = json!([{ "pageSize": "../../x", "limit": 0 }]);
        Bundle::new().set("/linux/resources/hugepageLimits", pages).create_fails();
    });
}

#[test]
fn a_mounted_volume_over_proc_cannot_fake_labels() {
    // CVE-2019-16884
    check(|| {
        let bundle = Bundle::new();
        let fake = bundle.dir().join("fake");
        fs::create_dir_all(fake.join("self/attr")).expect("mkdir");
        fs::write(fake.join("self/attr/exec"), "").expect("write");
        let fake = fake.to_string_lossy().into_owned();
        let bundle =
            bundle.set("/process/apparmorProfile", "some-profile").mount("/proc", "none", &fake, &["bind"]);
        bundle.start_fails();
    });
}

#[test]
fn nothing_of_the_host_is_mounted_below_the_bundle() {
    check(|| {
        let container = Bundle::new().sleeper().start();
        assert!(mounts_below(container.bundle.dir()).is_empty());
    });
}

#[test]
fn no_abstract_sockets_are_left_open() {
    // CVE-2020-15257
    check(|| {
        let container = Bundle::new().sleeper().create();
        let table = read("/proc/net/unix");
        let ours: Vec<&str> =
            table.lines().filter(|l| l.contains('@') && l.contains(container.id())).collect();
        assert!(ours.is_empty(), "{ours:?}");
    });
}

#[test]
fn the_contained_cannot_trace_the_runtime() {
    // CVE-2016-9962
    check(|| {
        let bundle = Bundle::new().script(
            "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || ls -l $p/fd 2>/dev/null; done; done | \
             grep -E -- '-> /(var|root|etc|usr|$)' >>/seen",
        );
        let container = bundle.start();
        for _ in 0..20 {
            container.exec(&["/bin/true"]).run().ok();
        }
        container.kill("KILL").ok();
        container.wait();
        let seen = read(container.bundle.rootfs("/seen"));
        // The kill may have cut the last line.
        let seen = seen.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let outside: Vec<&str> = seen
            .lines()
            .filter(|l| l.contains("->") && !l.contains(&*container.bundle.dir().to_string_lossy()))
            .collect();
        assert!(outside.is_empty(), "{outside:?}");
    });
}

#[test]
fn mount_sources_may_not_be_proc_magic_links_of_the_runtime() {
    check(|| {
        // A bind of /proc/self/fd/N would be of whatever descriptor the runtime happens to have there.
        for fd in 3..10 {
            let bundle = Bundle::new().mount("/m", "none", &format!("/proc/self/fd/{fd}"), &["bind"]);
            let output = bundle.args(["/probe", "list:/m"]).run();
            if output.status == 0 {
                let view = corten_integration::View::parse(&output.stdout);
                let listed = view.attempt("list:/m")["ok"].to_string();
                assert!(!listed.contains("debian_version"), "descriptor {fd} shows the host: {listed}");
            }
        }
    });
}
