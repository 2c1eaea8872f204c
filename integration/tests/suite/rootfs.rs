//! The root file system: where it is, read-only, propagation, masked and read-only paths.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use corten_integration::{Bundle, check};
use serde_json::json;

const EROFS: i64 = 30;

#[test]
fn the_root_is_the_rootfs_and_nothing_else() {
    check(|| {
        let bundle = Bundle::new();
        fs::write(bundle.rootfs("/marker"), "here").expect("write");
        let view = bundle.probe(["list:/", "read:/marker", "list:/.."]);
        assert_eq!(view.attempt("read:/marker")["ok"], "here");
        assert_eq!(view.attempt("list:/"), view.attempt("list:/.."), "the parent of the root is the root");
        let foreign =
            view.at("/mounts").as_array().expect("mounts").iter().any(|m| m["dest"] == "/sys/fs/cgroup");
        assert!(!foreign, "mounts of the host are still there: {}", view.at("/mounts"));
    });
}

#[test]
fn the_old_root_is_gone() {
    check(|| {
        let view = Bundle::new().look();
        let mounts = view.at("/mounts").as_array().expect("mounts").clone();
        let allowed = ["/", "/proc", "/dev", "/dev/pts"];
        let others: Vec<_> =
            mounts.iter().filter(|m| !allowed.contains(&m["dest"].as_str().unwrap_or(""))).collect();
        assert!(others.is_empty(), "{others:?}");
    });
}

#[test]
fn a_writable_root_is_written_to() {
    check(|| {
        let container = Bundle::new().script("echo kept >/written").create();
        container.finish();
        let written = fs::read_to_string(container.bundle.rootfs("/written"));
        assert_eq!(written.expect("the file on the host"), "kept\n");
    });
}

#[test]
fn a_read_only_root_is_read_only() {
    check(|| {
        let attempts = ["create:/x", "create:/tmp/x", "mkdir:/y", "create:/dev/x"];
        let view = Bundle::new().set("/root/readonly", true).probe(attempts);
        for attempt in &attempts[..3] {
            assert_eq!(view.errno(attempt), EROFS, "{attempt}");
        }
        assert!(view.could("create:/dev/x"), "mounts stay writable");
        assert!(view.mount_options("/").contains(&"ro".to_owned()));
    });
}

#[test]
fn a_read_only_root_does_not_make_the_hosts_read_only() {
    check(|| {
        let container = Bundle::new().set("/root/readonly", true).sleeper().start();
        fs::write(container.bundle.rootfs("/by-the-host"), "").expect("the host may write");
    });
}

#[test]
fn a_read_only_root_still_gets_what_mounts_need() {
    check(|| {
        let bundle = Bundle::new().set("/root/readonly", true).set("/process/cwd", "/work");
        let view = bundle.mount("/made/for/it", "tmpfs", "tmpfs", &[]).probe(["create:/made/for/it/x"]);
        assert!(view.could("create:/made/for/it/x"));
        assert_eq!(view.at("/cwd"), "/work");
    });
}

#[test]
fn an_absolute_root_path_is_absolute() {
    check(|| {
        let bundle = Bundle::new();
        let path = bundle.rootfs("").to_string_lossy().into_owned();
        bundle.set("/root/path", path.as_str()).look();
    });
}

#[test]
fn a_missing_root_is_an_error_that_names_it() {
    check(|| {
        Bundle::new().set("/root/path", "no-such-rootfs").create_fails().says("no-such-rootfs");
    });
}

#[test]
fn a_file_is_no_root() {
    check(|| {
        let bundle = Bundle::new().set("/root/path", "plain-file");
        fs::write(bundle.dir().join("plain-file"), "").expect("write");
        bundle.create_fails();
    });
}

#[test]
fn no_root_at_all_is_an_error() {
    check(|| {
        Bundle::new().remove("/root").create_fails();
    });
}

#[test]
fn propagation_of_the_root_is_set() {
    check(|| {
        let propagation = |value: &str| {
            let view = Bundle::new().set("/linux/rootfsPropagation", value).look();
            let fields = view.mount("/")["propagation"].as_array().expect("fields").clone();
            fields.iter().filter_map(|f| f.as_str().map(str::to_owned)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(propagation("private"), "");
        assert_eq!(propagation("rprivate"), "");
        assert!(!propagation("rslave").contains("shared"), "rslave");
        assert!(propagation("shared").contains("shared:"), "shared");
        assert_eq!(propagation("unbindable"), "unbindable");
    });
}

#[test]
fn an_unknown_propagation_is_an_error() {
    check(|| {
        Bundle::new().set("/linux/rootfsPropagation", "sideways").create_fails();
    });
}

#[test]
fn masked_files_are_empty_and_masked_directories_too() {
    check(|| {
        let bundle = Bundle::new();
        fs::create_dir(bundle.rootfs("/secrets")).expect("mkdir");
        fs::write(bundle.rootfs("/secrets/key"), "secret").expect("write");
        fs::write(bundle.rootfs("/secret"), "secret").expect("write");
        let masked = json!(["/secret", "/secrets", "/proc/interrupts", "/no/such/path"]);
        let attempts =
            ["read:/secret", "list:/secrets", "read:/proc/interrupts", "create:/secrets/x", "stat:/no"];
        let view = bundle.set("/linux/maskedPaths", masked).probe(attempts);
        assert_eq!(view.attempt("read:/secret")["ok"], "");
        assert_eq!(view.attempt("list:/secrets")["ok"], json!([]));
        assert_eq!(view.attempt("read:/proc/interrupts")["ok"], "");
        assert_eq!(view.errno("create:/secrets/x"), EROFS);
        assert!(!view.could("stat:/no"), "a masked path that is missing is not made");
    });
}

#[test]
fn a_path_masked_twice_is_masked_once() {
    check(|| {
        let bundle = Bundle::new();
        fs::create_dir(bundle.rootfs("/secrets")).expect("mkdir");
        let view = bundle.set("/linux/maskedPaths", json!(["/secrets", "/secrets"])).probe(["list:/secrets"]);
        assert_eq!(view.attempt("list:/secrets")["ok"], json!([]));
    });
}

#[test]
fn masking_survives_remounting_by_the_contained() {
    check(|| {
        let all = json!(["CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE", "CAP_MKNOD"]);
        let caps = json!({ "bounding": all, "effective": all, "permitted": all });
        let bundle = Bundle::new()
            .set("/process/capabilities", caps)
            .set("/linux/maskedPaths", json!(["/proc/interrupts"]));
        let view = bundle.probe(["umount:/proc/interrupts", "read:/proc/interrupts"]);
        assert!(!view.could("umount:/proc/interrupts"));
        assert_eq!(view.attempt("read:/proc/interrupts")["ok"], "");
    });
}

#[test]
fn read_only_paths_are_read_only() {
    check(|| {
        let bundle = Bundle::new();
        fs::create_dir(bundle.rootfs("/fixed")).expect("mkdir");
        fs::write(bundle.rootfs("/fixed/file"), "x").expect("write");
        fs::write(bundle.rootfs("/single"), "x").expect("write");
        let paths = json!(["/fixed", "/single", "/proc/sys", "/no/such/path"]);
        let attempts = [
            "write:/fixed/file",
            "create:/fixed/y",
            "write:/single",
            "write:/proc/sys/kernel/hostname",
            "read:/fixed/file",
            "create:/free",
        ];
        let view = bundle.set("/linux/readonlyPaths", paths).probe(attempts);
        for attempt in &attempts[..4] {
            assert_eq!(view.errno(attempt), EROFS, "{attempt}");
        }
        assert!(view.could("read:/fixed/file") && view.could("create:/free"));
    });
}

#[test]
fn a_read_only_path_keeps_the_flags_of_its_mount() {
    check(|| {
        let bundle = Bundle::new().set("/linux/readonlyPaths", json!(["/m"]));
        let view = bundle.mount("/m", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec"]).look();
        let options = view.mount_options("/m");
        for flag in ["ro", "nosuid", "nodev", "noexec"] {
            assert!(options.contains(&flag.to_owned()), "{flag}: {options:?}");
        }
    });
}

#[test]
fn relative_masked_paths_are_refused_or_harmless() {
    check(|| {
        let bundle = Bundle::new().set("/linux/maskedPaths", json!(["secret"]));
        fs::write(bundle.rootfs("/secret"), "secret").expect("write");
        let output = bundle.set("/process/args", json!(["/bin/cat", "/secret"])).run();
        assert!(output.status != 0 || output.stdout.is_empty(), "left unmasked without a word: {output}");
    });
}

#[test]
fn no_pivot_changes_the_root_too() {
    check(|| {
        let bundle = Bundle::new().flag("--no-pivot");
        fs::write(bundle.rootfs("/marker"), "here").expect("write");
        let view = bundle.probe(["read:/marker", "list:/"]);
        assert_eq!(view.attempt("read:/marker")["ok"], "here");
        let names = view.attempt("list:/")["ok"].to_string();
        assert!(!names.contains("lib64") && names.contains("probe"), "{names}");
    });
}

#[test]
fn a_symlink_below_the_bundle_may_be_the_root_or_is_refused() {
    check(|| {
        let bundle = Bundle::new();
        symlink("rootfs", bundle.dir().join("alias")).expect("symlink");
        let output = bundle.set("/root/path", "alias").args(["/bin/echo", "in"]).run();
        assert!(output.status != 0 || output.stdout == "in\n", "{output}");
    });
}

#[test]
fn the_roots_own_mode_is_left_alone() {
    check(|| {
        let bundle = Bundle::new();
        fs::set_permissions(bundle.rootfs(""), fs::Permissions::from_mode(0o711)).expect("chmod");
        let container = bundle.args(["/probe", "stat:/"]).create();
        let view = container.look();
        assert_eq!(view.attempt("stat:/")["ok"]["mode"], "711");
        let mode = fs::metadata(container.bundle.rootfs("")).expect("stat").permissions().mode() & 0o7777;
        assert_eq!(mode, 0o711);
    });
}
