//! update: every flag, the document, and what it must not do.

use corten_integration::{
    Bundle, Cgroups, Container, Output, bundles, cgroups, check, kernel_at_least, limit, skip,
};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

/// A container with the limits that runc's own tests begin with.
fn limited(bundle: Bundle) -> Container {
    let resources = json!({
        "memory": { "limit": 32 * MIB, "reservation": 24 * MIB },
        "cpu": { "shares": 100, "quota": 500_000, "period": 1_000_000 },
        "pids": { "limit": 20 },
    });
    bundle.set("/linux/resources", resources).sleeper().start()
}

fn update(container: &Container, flags: &[&str]) -> Output {
    container.command("update", flags).run(container.bundle.dir())
}

/// `update --resources FILE`.
fn update_to(container: &Container, resources: &Value) -> Output {
    let file = container.bundle.dir().join(corten_integration::unique("resources"));
    std::fs::write(&file, resources.to_string()).expect("write resources");
    update(container, &["--resources", &file.to_string_lossy()])
}

/// Quota and period, as version 2 words them.
fn cpu_max(container: &Container) -> String {
    match cgroups() {
        Cgroups::V1 => {
            let of = |file| container.setting("cpu", file, "").expect("a setting");
            let quota = of("cpu.cfs_quota_us");
            let quota = if quota == "-1" { "max".to_owned() } else { quota };
            format!("{quota} {}", of("cpu.cfs_period_us"))
        }
        Cgroups::V2 => container.setting("cpu", "", "cpu.max").expect("a setting"),
    }
}

fn memory(container: &Container) -> String {
    container.setting("memory", "memory.limit_in_bytes", "memory.max").expect("a limit")
}

/// The limit of memory and swap.
fn swap(container: &Container) -> String {
    let swap = container.setting("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    let swap = swap.unwrap_or_else(|| skip("this kernel does not account swap"));
    match cgroups() {
        Cgroups::V1 => swap,
        Cgroups::V2 if swap == "max" => swap,
        Cgroups::V2 => {
            let number = |text: String| text.parse::<u64>().expect("a number");
            (number(swap) + number(memory(container))).to_string()
        }
    }
}

/// "No limit", as the memory controller says it.
fn unlimited(text: &str) -> bool {
    // Version 1: the largest multiple of the page size.
    text == "max" || text.parse::<u64>().is_ok_and(|n| n > 1 << 60)
}

#[test]
fn memory_is_changed() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            update(&container, &["--memory", "67108864"]).ok();
            assert_eq!(memory(&container), (64 * MIB).to_string());
            update(&container, &["--memory", "50M"]).ok();
            assert_eq!(memory(&container), (50 * MIB).to_string());
            update(&container, &["--memory-reservation", "33554432"]).ok();
            let soft = container.setting("memory", "memory.soft_limit_in_bytes", "memory.low");
            assert_eq!(soft.expect("a reservation"), (32 * MIB).to_string());
            assert_eq!(memory(&container), (50 * MIB).to_string());
            update(&container, &["--memory", "-1"]).ok();
            assert!(unlimited(&memory(&container)), "{}", memory(&container));
            container.vanish();
        }
    });
}

#[test]
fn memory_and_swap_are_changed_in_any_direction() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            swap(&container);
            for (limit, both) in [(30, 50), (60, 80), (20, 20), (25, 90)] {
                let (limit, both) = (format!("{limit}M"), format!("{both}M"));
                update(&container, &["--memory", &limit, "--memory-swap", &both]).ok();
                let bytes = |text: &str| text.trim_end_matches('M').parse::<u64>().expect("a number") * MIB;
                assert_eq!(memory(&container), bytes(&limit).to_string());
                assert_eq!(swap(&container), bytes(&both).to_string());
            }
            update(&container, &["--memory-swap", "-1"]).ok();
            assert!(unlimited(&swap(&container)), "{}", swap(&container));
            update(&container, &["--memory", "40M", "--memory-swap", "80M"]).ok();
            // Without any limit of memory there is none of both together.
            update(&container, &["--memory", "-1"]).ok();
            assert!(unlimited(&memory(&container)) && unlimited(&swap(&container)));
            container.vanish();
        }
    });
}

#[test]
fn quota_and_period_are_changed_one_by_one() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            assert_eq!(cpu_max(&container), "500000 1000000");
            update(&container, &["--cpu-period", "900000"]).ok();
            assert_eq!(cpu_max(&container), "500000 900000");
            update(&container, &["--cpu-quota", "600000"]).ok();
            assert_eq!(cpu_max(&container), "600000 900000");
            update(&container, &["--cpu-quota", "-1"]).ok();
            assert_eq!(cpu_max(&container), "max 900000");
            update(&container, &["--cpu-quota", "30000", "--cpu-period", "100000"]).ok();
            assert_eq!(cpu_max(&container), "30000 100000");
            container.vanish();
        }
    });
}

#[test]
fn quota_and_period_are_set_where_there_were_none() {
    check(|| {
        for bundle in bundles() {
            let container = bundle.sleeper().start();
            update(&container, &["--cpu-period", "50000"]).ok();
            assert_eq!(cpu_max(&container), "max 50000");
            container.vanish();
        }
        for bundle in bundles() {
            let container = bundle.sleeper().start();
            update(&container, &["--cpu-quota", "30000"]).ok();
            assert_eq!(cpu_max(&container), "30000 100000");
            container.vanish();
        }
    });
}

#[test]
fn shares_are_changed() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            update(&container, &["--cpu-share", "512"]).ok();
            let expected = if cgroups() == Cgroups::V1 { "512" } else { "59" };
            assert_eq!(container.setting("cpu", "cpu.shares", "cpu.weight").expect("shares"), expected);
            container.vanish();
        }
    });
}

#[test]
fn a_burst_is_changed() {
    check(|| {
        if !kernel_at_least(5, 14) {
            skip("no burst before Linux 5.14");
        }
        for bundle in bundles() {
            let container = limited(bundle);
            update(&container, &["--cpu-burst", "100000"]).ok();
            let burst = || container.setting("cpu", "cpu.cfs_burst_us", "cpu.max.burst").expect("a burst");
            assert_eq!(burst(), "100000");
            update(&container, &["--cpu-burst", "0"]).ok();
            assert_eq!(burst(), "0");
            container.vanish();
        }
    });
}

#[test]
fn idleness_comes_and_goes_with_a_weight() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            let idle = || container.setting("cpu", "cpu.idle", "cpu.idle");
            if idle().is_none() {
                skip("this kernel has no idle groups");
            }
            update(&container, &["--cpu-idle", "1"]).ok();
            assert_eq!(idle().as_deref(), Some("1"));
            update(&container, &["--cpu-idle", "1", "--cpu-share", "200"]).ok().says("unable to apply both");
            assert_eq!(idle().as_deref(), Some("1"));
            update(&container, &["--cpu-share", "200"]).ok();
            assert_eq!(idle().as_deref(), Some("0"));
            update(&container, &["--cpu-idle", "2"]).failed();
            container.vanish();
        }
    });
}

#[test]
fn cpus_and_memory_nodes_are_changed() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            update(&container, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]).ok();
            let of = |file: &str| container.setting("cpuset", file, file).expect("a cpuset");
            assert_eq!((of("cpuset.cpus"), of("cpuset.mems")), ("0".into(), "0".into()));
            assert!(container.proc("status").contains("Cpus_allowed_list:\t0\n"));
            container.vanish();
        }
    });
}

#[test]
fn the_number_of_processes_is_changed() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            let pids = || container.setting("pids", "pids.max", "pids.max").expect("a limit");
            update(&container, &["--pids-limit", "10"]).ok();
            assert_eq!(pids(), "10");
            update(&container, &["--cpu-share", "200"]).ok();
            assert_eq!(pids(), "10", "changed by a change of something else");
            update(&container, &["--pids-limit", "-1"]).ok();
            assert_eq!(pids(), "max");
            container.vanish();
        }
    });
}

#[test]
fn the_weight_of_io_is_changed() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            let weight = || {
                let bfq = container.setting("blkio", "blkio.bfq.weight", "io.bfq.weight");
                bfq.or_else(|| container.setting("blkio", "blkio.weight", "io.weight"))
            };
            if weight().is_none() {
                skip("this kernel has no weights of I/O");
            }
            update(&container, &["--blkio-weight", "1000"]).ok();
            let now = weight().expect("a weight");
            assert!(now.ends_with("1000") || now.ends_with("10000"), "{now}");
            container.vanish();
        }
    });
}

#[test]
fn real_time_limits_are_changed() {
    check(|| {
        let container = limited(Bundle::new());
        if cgroups() == Cgroups::V2 {
            update(&container, &["--cpu-rt-runtime", "1000"]).failed().says("realtime");
            return;
        }
        let dir = container.cgroup("cpu");
        if !dir.join("cpu.rt_runtime_us").exists() {
            skip("this kernel schedules no groups in real time");
        }
        // What a cgroup gives must be its own, from the root down.
        for ancestor in dir.ancestors().skip(1).take_while(|d| d.starts_with("/sys/fs/cgroup/cpu/")) {
            let free = std::fs::read_to_string(ancestor.join("cpu.rt_runtime_us")).unwrap_or_default();
            if free.trim() == "0" {
                skip(format!("{} has no real time", ancestor.display()));
            }
        }
        update(&container, &["--cpu-rt-period", "900000", "--cpu-rt-runtime", "10000"]).ok();
        assert_eq!(container.setting("cpu", "cpu.rt_period_us", "").expect("a period"), "900000");
        assert_eq!(container.setting("cpu", "cpu.rt_runtime_us", "").expect("a runtime"), "10000");
    });
}

#[test]
fn a_document_changes_all_at_once() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            let resources = json!({
                "memory": { "limit": 40 * MIB, "reservation": 25 * MIB },
                "cpu": { "shares": 200, "quota": 60_000, "period": 90_000, "cpus": "0" },
                "pids": { "limit": 12 },
            });
            update_to(&container, &resources).ok();
            assert_eq!(memory(&container), (40 * MIB).to_string());
            assert_eq!(cpu_max(&container), "60000 90000");
            let of = |file: &str| container.setting(file.split('.').next().expect("a name"), file, file);
            assert_eq!(of("cpuset.cpus").as_deref(), Some("0"));
            assert_eq!(of("pids.max").as_deref(), Some("12"));
            container.vanish();
        }
    });
}

#[test]
fn the_document_comes_from_standard_input() {
    check(|| {
        let container = limited(Bundle::new());
        let file = container.bundle.dir().join("input");
        std::fs::write(&file, json!({ "pids": { "limit": 13 } }).to_string()).expect("write");
        for flags in [&["--resources=-"][..], &["-r", "-"]] {
            let input = std::fs::File::open(&file).expect("open");
            container.command("update", flags).stdin(input).run(container.bundle.dir()).ok();
            assert_eq!(container.setting("pids", "pids.max", "pids.max").as_deref(), Some("13"));
            update(&container, &["--pids-limit", "20"]).ok();
        }
    });
}

#[test]
fn an_empty_document_changes_nothing() {
    check(|| {
        let container = limited(Bundle::new());
        update_to(&container, &json!({})).ok();
        let nothing = json!({ "memory": { "limit": 0 }, "cpu": { "shares": 0, "quota": 0, "cpus": "" } });
        update_to(&container, &nothing).ok();
        assert_eq!(memory(&container), (32 * MIB).to_string());
        assert_eq!(cpu_max(&container), "500000 1000000");
        assert_eq!(container.setting("pids", "pids.max", "pids.max").as_deref(), Some("20"));
    });
}

#[test]
fn unified_resources_are_changed() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            let unified = json!({ "unified": { "cpu.max": "max 100000", "pids.max": "11" } });
            let output = update_to(&container, &unified);
            if cgroups() == Cgroups::V1 {
                output.failed();
                continue;
            }
            output.ok();
            assert_eq!(cpu_max(&container), "max 100000");
            assert_eq!(container.setting("pids", "pids.max", "pids.max").as_deref(), Some("11"));
            container.vanish();
        }
    });
}

#[test]
fn a_limit_below_the_use_is_refused_when_asked_to_check() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            let resources = json!({ "memory": { "limit": 4096, "checkBeforeUpdate": true } });
            update_to(&container, &resources).failed().says("rejecting memory limit");
            assert_eq!(container.status(), "running");
            assert_eq!(memory(&container), (32 * MIB).to_string());
            container.vanish();
        }
    });
}

#[test]
fn a_refused_value_is_told_with_the_file_and_leaves_the_others() {
    check(|| {
        for bundle in bundles() {
            let container = limited(bundle);
            let output = update(&container, &["--pids-limit", "17", "--cpuset-cpus", "0-9999"]).failed();
            output.says("cpuset.cpus");
            assert_eq!(container.setting("pids", "pids.max", "pids.max").as_deref(), Some("20"));
            container.vanish();
        }
    });
}

#[test]
fn what_is_no_document_is_refused() {
    check(|| {
        let container = limited(Bundle::new());
        for text in ["{", "[]", "{\"pids\": 5}", ""] {
            let file = container.bundle.dir().join("broken");
            std::fs::write(&file, text).expect("write");
            update(&container, &["--resources", &file.to_string_lossy()]).failed();
        }
        update(&container, &["--resources", "/no/such/file"]).failed().says("no such file");
        update(&container, &["--memory", "lots"]).failed();
        update(&container, &["--cpu-quota", "x"]).failed();
        assert_eq!(memory(&container), (32 * MIB).to_string());
    });
}

#[test]
fn a_stopped_container_is_not_changed() {
    check(|| {
        let container = limited(Bundle::new());
        container.kill("KILL").ok();
        container.wait();
        update(&container, &["--pids-limit", "10"]).failed();
    });
}

#[test]
fn a_created_and_a_paused_container_are_changed() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        update(&container, &["--pids-limit", "10"]).ok();
        assert_eq!(container.setting("pids", "pids.max", "pids.max").as_deref(), Some("10"));
        container.start().ok();
        container.command("pause", &[]).run(container.bundle.dir()).ok();
        update(&container, &["--pids-limit", "11"]).ok();
        assert_eq!(container.setting("pids", "pids.max", "pids.max").as_deref(), Some("11"));
        assert_eq!(container.status(), "paused");
    });
}

#[test]
fn devices_stay_as_they_are() {
    check(|| {
        for bundle in bundles() {
            let node = json!({ "path": "/dev/log", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 });
            let deny = json!({ "allow": false, "access": "rwm" });
            let allow = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
            let resources = json!({ "devices": [deny, allow] });
            let bundle = bundle.set("/linux/resources", resources).push("/linux/devices", node);
            let container = bundle.sleeper().start();
            // All that an engine knows, which is less than what it was told by others at create.
            update_to(&container, &json!({ "devices": [deny], "pids": { "limit": 30 } })).ok();
            let view = container.exec(&["/probe", "write:/dev/log", "write:/dev/null"]).look();
            assert!(view.could("write:/dev/log") && view.could("write:/dev/null"));
            container.vanish();
        }
    });
}

#[test]
fn obsolete_limits_of_the_kernels_memory_change_nothing() {
    check(|| {
        let container = limited(Bundle::new());
        update(&container, &["--kernel-memory", "50M"]).ok();
        assert_eq!(memory(&container), (32 * MIB).to_string());
    });
}

#[test]
fn a_cache_schema_without_the_hardware_is_refused() {
    check(|| {
        if std::path::Path::new("/sys/fs/resctrl/info").exists() {
            skip("resctrl is mounted");
        }
        let container = limited(Bundle::new());
        update(&container, &["--l3-cache-schema", "L3:0=f"]).failed();
        update(&container, &["--mem-bw-schema", "MB:0=20"]).failed();
    });
}

#[test]
fn a_container_is_throttled_from_the_moment_of_the_change() {
    check(|| {
        let container = Bundle::new().script("while :; do :; done").start();
        update(&container, &["--cpu-quota", "5000"]).ok();
        let end = std::time::Instant::now() + limit();
        loop {
            let stat = std::fs::read_to_string(container.cgroup("cpu").join("cpu.stat")).expect("cpu.stat");
            if stat.lines().any(|l| l.strip_prefix("nr_throttled ").is_some_and(|n| n != "0")) {
                break;
            }
            assert!(std::time::Instant::now() < end, "{stat}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
}
