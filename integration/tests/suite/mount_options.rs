//! Every option of a mount by its effect, recursive ones and propagation included.

use std::fs;

use corten_integration::{Bundle, check, kernel_at_least, mounts_below, skip};

use crate::mounts::{mount_tmpfs, with_source};

/// What the container sees of a tmpfs with these options on /m.
fn tmpfs(options: &[&str]) -> Vec<String> {
    Bundle::new().mount("/m", "tmpfs", "tmpfs", options).look().options("/m")
}

/// What the container sees of a bind mount with these options on /m, without its file system's options.
fn bind(options: &[&str]) -> Vec<String> {
    let (bundle, source) = with_source();
    bundle.mount("/m", "none", &source, options).look().mount_options("/m")
}

pub(crate) fn has(options: &[String], wanted: &str) -> bool {
    options.iter().any(|o| o == wanted)
}

#[test]
fn each_flag_of_a_mount_is_set_and_cleared() {
    check(|| {
        for (option, seen) in [
            ("nosuid", "nosuid"),
            ("nodev", "nodev"),
            ("noexec", "noexec"),
            ("ro", "ro"),
            ("noatime", "noatime"),
            ("nodiratime", "nodiratime"),
        ] {
            assert!(has(&tmpfs(&[option]), seen), "tmpfs {option}");
            assert!(has(&bind(&["bind", option]), seen), "bind {option}");
        }
        for (options, gone) in
            [(["nosuid", "suid"], "nosuid"), (["nodev", "dev"], "nodev"), (["noexec", "exec"], "noexec")]
        {
            assert!(!has(&tmpfs(&options), gone), "{options:?}");
        }
        assert!(has(&tmpfs(&["ro", "rw"]), "rw"));
    });
}

#[test]
fn defaults_is_an_option() {
    check(|| {
        assert!(has(&tmpfs(&["defaults"]), "rw"));
    });
}

#[test]
fn strictatime_and_relatime() {
    check(|| {
        assert!(has(&tmpfs(&["relatime"]), "relatime"));
        let strict = tmpfs(&["strictatime"]);
        assert!(!has(&strict, "relatime") && !has(&strict, "noatime"), "{strict:?}");
    });
}

#[test]
fn nosymfollow_is_set() {
    check(|| {
        assert!(has(&tmpfs(&["nosymfollow"]), "nosymfollow"));
        assert!(has(&bind(&["bind", "nosymfollow"]), "nosymfollow"));
        assert!(!has(&tmpfs(&["nosymfollow", "symfollow"]), "nosymfollow"));
    });
}

#[test]
fn options_of_the_super_block_are_set() {
    check(|| {
        for option in ["sync", "dirsync", "lazytime"] {
            assert!(has(&tmpfs(&[option]), option), "{option}");
        }
        for option in ["async", "nolazytime", "loud", "silent", "noiversion", "nomand"] {
            tmpfs(&[option]);
        }
    });
}

#[test]
fn ro_of_rbind_spares_the_mounts_below_and_rro_does_not() {
    check(|| {
        if !kernel_at_least(5, 12) {
            skip("mount_setattr needs Linux 5.12");
        }
        for (option, writable) in [("ro", true), ("rro", false)] {
            let (bundle, source) = with_source();
            let inner = format!("{source}/inner");
            fs::create_dir(&inner).expect("mkdir");
            mount_tmpfs(&inner);
            let view = bundle
                .mount("/m", "none", &source, &["rbind", option])
                .probe(["create:/m/x", "create:/m/inner/x"]);
            assert_eq!(view.errno("create:/m/x"), 30, "{option}");
            assert_eq!(view.could("create:/m/inner/x"), writable, "{option}");
        }
    });
}

#[test]
fn recursive_flags_reach_the_mounts_below() {
    check(|| {
        for (option, seen) in [
            ("rnosuid", "nosuid"),
            ("rnodev", "nodev"),
            ("rnoexec", "noexec"),
            ("rnoatime", "noatime"),
            ("rnodiratime", "nodiratime"),
        ] {
            let options = recursive(option);
            assert!(has(&options, seen), "{option}: {options:?}");
        }
        for (option, gone) in [("rsuid", "nosuid"), ("rdev", "nodev"), ("rexec", "noexec"), ("rrw", "ro")] {
            let options = recursive(option);
            assert!(!has(&options, gone), "{option}: {options:?}");
        }
        assert!(has(&recursive("rrelatime"), "relatime"));
        let strict = recursive("rstrictatime");
        assert!(!has(&strict, "relatime") && !has(&strict, "noatime"), "{strict:?}");
        assert!(has(&recursive("rdiratime"), "relatime"));
    });
}

#[test]
fn rnosymfollow_reaches_the_mounts_below() {
    check(|| {
        assert!(has(&recursive("rnosymfollow"), "nosymfollow"));
        assert!(!has(&recursive("rsymfollow"), "nosymfollow"));
    });
}

/// What the container sees of a mount below an rbind mount with this option.
fn recursive(option: &str) -> Vec<String> {
    let (bundle, source) = with_source();
    let inner = format!("{source}/inner");
    fs::create_dir(&inner).expect("mkdir");
    mount_tmpfs(&inner);
    bundle.mount("/m", "none", &source, &["rbind", option]).look().mount_options("/m/inner")
}

#[test]
fn propagation_of_a_mount_is_set() {
    check(|| {
        let propagation = |options: &[&str]| {
            let (bundle, source) = with_source();
            let view = bundle.mount("/m", "none", &source, options).look();
            let fields = view.mount("/m")["propagation"].clone();
            fields
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect::<Vec<_>>()
                .join(" ")
        };
        for option in ["private", "rprivate"] {
            assert_eq!(propagation(&["bind", option]), "", "{option}");
        }
        for option in ["shared", "rshared"] {
            assert!(propagation(&["bind", option]).starts_with("shared:"), "{option}");
        }
        for option in ["unbindable", "runbindable"] {
            assert_eq!(propagation(&["bind", option]), "unbindable", "{option}");
        }
        for option in ["slave", "rslave"] {
            assert!(!propagation(&["bind", option]).contains("shared:"), "{option}");
        }
    });
}

#[test]
fn a_slave_mount_receives_what_the_host_mounts() {
    check(|| {
        let (bundle, source) = with_source();
        share(&source);
        let bundle = bundle.set("/linux/rootfsPropagation", "rslave").mount(
            "/m",
            "none",
            &source,
            &["rbind", "rslave"],
        );
        let mut reports = bundle.reports("/report");
        let mut gate = bundle.reports("/gate");
        let container = bundle.script("read x </gate; grep -c /m/late /proc/self/mountinfo >/report").start();
        let late = format!("{source}/late");
        fs::create_dir(&late).expect("mkdir");
        mount_tmpfs(&late);
        gate.tell("go");
        assert_eq!(reports.line(), "1");
        container.wait();
    });
}

#[test]
fn a_private_mount_receives_nothing() {
    check(|| {
        let (bundle, source) = with_source();
        share(&source);
        let bundle = bundle.mount("/m", "none", &source, &["rbind", "rprivate"]);
        let mut reports = bundle.reports("/report");
        let mut gate = bundle.reports("/gate");
        let container = bundle.script("read x </gate; grep -c /m/late /proc/self/mountinfo >/report").start();
        let late = format!("{source}/late");
        fs::create_dir(&late).expect("mkdir");
        mount_tmpfs(&late);
        gate.tell("go");
        assert_eq!(reports.line(), "0");
        container.wait();
    });
}

#[test]
fn what_is_mounted_inside_never_reaches_a_shared_source() {
    check(|| {
        for userns in [false, true] {
            for option in ["bind", "rbind"] {
                let (bundle, source) = with_source();
                let bundle = if userns { bundle.userns(100_000, 65536).namespace("network") } else { bundle };
                for dir in ["masked", "inner", "fixed"] {
                    fs::create_dir(format!("{source}/{dir}")).expect("mkdir");
                }
                share(&source);
                let container = bundle
                    .mount("/m", "none", &source, &[option])
                    .mount("/m/inner", "tmpfs", "tmpfs", &[])
                    .set("/linux/maskedPaths", serde_json::json!(["/m/masked"]))
                    .set("/linux/readonlyPaths", serde_json::json!(["/m/fixed"]))
                    .script("sleep 1000")
                    .start();
                let mounts = mounts_below(std::path::Path::new(&source));
                assert_eq!(mounts, [source.as_str()], "{option}, user namespace: {userns}");
                drop(container);
            }
        }
    });
}

/// Makes a directory a shared mount of its own.
fn share(path: &str) {
    use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
    mount_bind(path, path).expect("bind");
    mount_change(path, MountPropagationFlags::SHARED).expect("shared");
}
