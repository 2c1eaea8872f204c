//! linux.resources: that the limits are set, and that they limit.

use std::time::{Duration, Instant};

use corten_integration::{
    Bundle, Cgroups, Container, bundles, cgroups, check, kernel_at_least, limit, read, skip,
};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn with(bundle: Bundle, resources: Value) -> Bundle {
    bundle.set("/linux/resources", resources)
}

/// The number behind a word in a file like cpu.stat.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|l| l.trim().parse().ok()).unwrap_or_else(|| panic!("no {key} in {text}"))
}

#[test]
fn a_memory_limit_is_set() {
    check(|| {
        for bundle in bundles() {
            let memory = json!({ "memory": { "limit": 64 * MIB, "reservation": 32 * MIB } });
            let container = with(bundle, memory).sleeper().start();
            let of = |v1, v2| container.setting("memory", v1, v2).expect("a memory setting");
            assert_eq!(of("memory.limit_in_bytes", "memory.max"), (64 * MIB).to_string());
            assert_eq!(of("memory.soft_limit_in_bytes", "memory.low"), (32 * MIB).to_string());
            container.vanish();
        }
    });
}

#[test]
fn a_swap_limit_is_of_memory_and_swap() {
    check(|| {
        for bundle in bundles() {
            let memory = json!({ "memory": { "limit": 64 * MIB, "swap": 96 * MIB } });
            let container = with(bundle, memory).sleeper().start();
            let swap = container.setting("memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
            let swap = swap.unwrap_or_else(|| skip("this kernel does not account swap"));
            let expected = if cgroups() == Cgroups::V1 { 96 * MIB } else { 32 * MIB };
            assert_eq!(swap, expected.to_string());
            container.vanish();
        }
    });
}

#[test]
fn more_memory_than_the_limit_is_deadly() {
    check(|| {
        for bundle in bundles() {
            let memory = json!({ "memory": { "limit": 16 * MIB, "swap": 16 * MIB } });
            let hog = with(bundle, memory).args(["/bin/awk", "BEGIN { x = \"0123\"; while (1) x = x x }"]);
            let output = hog.run();
            assert_eq!(output.status, 137, "{output}");
        }
    });
}

#[test]
fn an_init_that_is_killed_for_its_memory_says_so() {
    check(|| {
        for bundle in bundles() {
            let output = with(bundle, json!({ "memory": { "limit": 4096, "swap": 4096 } }))
                .args(["/bin/true"])
                .start_fails();
            output
                .says("OOM-killed (memory limit too low?)")
                .says("memory limit 4096 of cgroup /sys/fs/cgroup");
        }
    });
}

#[test]
fn processes_beyond_the_limit_are_not_made() {
    check(|| {
        for bundle in bundles() {
            let bundle = with(bundle, json!({ "pids": { "limit": 6 } }));
            let script =
                "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & echo >>/forked; done; echo all >/forked";
            let bundle = bundle.script(script);
            let forked = bundle.rootfs("/forked");
            let output = bundle.call("run").run(bundle.dir());
            let count = read(&forked).lines().count();
            assert!(output.status != 0 && output.stderr.contains("fork"), "{output}");
            // The shell itself is the sixth.
            assert_eq!(count, 5, "{output}");
        }
    });
}

#[test]
fn a_limit_of_one_process_lets_the_container_start() {
    check(|| {
        for bundle in bundles() {
            let output = with(bundle, json!({ "pids": { "limit": 1 } })).args(["/bin/echo", "alone"]).run();
            assert_eq!(output.ok().stdout, "alone\n");
        }
    });
}

#[test]
fn a_container_gets_no_more_than_its_quota() {
    check(|| {
        for bundle in bundles() {
            let cpu = json!({ "cpu": { "quota": 10_000, "period": 100_000 } });
            let container = with(bundle, cpu).script("while :; do :; done").start();
            let used = || match cgroups() {
                Cgroups::V1 => {
                    let text = read(container.cgroup("cpuacct").join("cpuacct.usage"));
                    Duration::from_nanos(text.trim().parse().expect("nanoseconds"))
                }
                Cgroups::V2 => Duration::from_micros(number(
                    &read(container.cgroup("cpu").join("cpu.stat")),
                    "usage_usec",
                )),
            };
            let (since, before) = (Instant::now(), used());
            std::thread::sleep(Duration::from_millis(1500));
            let (elapsed, spent) = (since.elapsed(), used() - before);
            assert!(spent * 5 < elapsed, "spent {spent:?} of {elapsed:?}");
            let stat = read(container.cgroup("cpu").join("cpu.stat"));
            assert!(number(&stat, "nr_throttled") > 0, "{stat}");
            container.vanish();
        }
    });
}

#[test]
fn cpu_shares_and_quota_are_set() {
    check(|| {
        for bundle in bundles() {
            let cpu = json!({ "cpu": { "shares": 512, "quota": 50_000, "period": 200_000 } });
            let container = with(bundle, cpu).sleeper().start();
            match cgroups() {
                Cgroups::V1 => {
                    let of = |file| container.setting("cpu", file, "").expect("a setting");
                    assert_eq!(of("cpu.shares"), "512");
                    assert_eq!(of("cpu.cfs_quota_us"), "50000");
                    assert_eq!(of("cpu.cfs_period_us"), "200000");
                }
                Cgroups::V2 => {
                    let of = |file| container.setting("cpu", "", file).expect("a setting");
                    assert_eq!(of("cpu.weight"), "59");
                    assert_eq!(of("cpu.max"), "50000 200000");
                }
            }
            container.vanish();
        }
    });
}

#[test]
fn a_cpuset_is_all_that_the_process_sees() {
    check(|| {
        for bundle in bundles() {
            let script = "grep Cpus_allowed_list /proc/self/status";
            let output =
                with(bundle, json!({ "cpu": { "cpus": "0", "mems": "0" } })).script(script).run().ok();
            assert_eq!(output.stdout.split_whitespace().last(), Some("0"), "{output}");
        }
    });
}

#[test]
fn a_burst_is_set() {
    check(|| {
        if !kernel_at_least(5, 14) {
            skip("no burst before Linux 5.14");
        }
        for bundle in bundles() {
            let cpu = json!({ "cpu": { "quota": 50_000, "period": 100_000, "burst": 20_000 } });
            let container = with(bundle, cpu).sleeper().start();
            assert_eq!(
                container.setting("cpu", "cpu.cfs_burst_us", "cpu.max.burst").expect("a burst"),
                "20000"
            );
            container.vanish();
        }
    });
}

/// The rate of the first disk, as it is set by throttling its reads to one MiB each second.
fn throttled(container: &Container, disk: &str) -> Option<u64> {
    let text = container.setting("blkio", "blkio.throttle.read_bps_device", "io.max")?;
    let line = text.lines().find_map(|l| l.strip_prefix(disk)?.strip_prefix(' '))?;
    let rate = line.split_whitespace().find_map(|w| match w.split_once('=') {
        Some((key, rate)) => (key == "rbps").then_some(rate),
        None => Some(w),
    })?;
    rate.parse().ok()
}

#[test]
fn the_rate_of_a_disk_is_limited() {
    check(|| {
        let disk = std::fs::read_dir("/sys/block").expect("disks").flatten().find_map(|d| {
            let name = d.file_name().to_string_lossy().into_owned();
            let real = name.starts_with("vd") || name.starts_with("sd") || name.starts_with("nvme");
            real.then(|| read(d.path().join("dev")).trim().to_owned())
        });
        let disk = disk.unwrap_or_else(|| skip("no disk"));
        let (major, minor) = disk.split_once(':').expect("a device number");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        for bundle in bundles() {
            let rate = json!([{ "major": number(major), "minor": number(minor), "rate": MIB }]);
            let io = json!({ "blockIO": { "throttleReadBpsDevice": rate } });
            let container = with(bundle, io).sleeper().start();
            assert_eq!(throttled(&container, &disk), Some(MIB));
            container.vanish();
        }
    });
}

#[test]
fn huge_pages_are_limited() {
    check(|| {
        let size = "2MB";
        if !std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
            skip("no huge pages of 2 MiB");
        }
        let has = |dir: &str| read(format!("{dir}/cgroup.controllers")).contains("hugetlb");
        if cgroups() == Cgroups::V1 && !has("/sys/fs/cgroup/unified") {
            skip("no hugetlb controller in the v2 tree");
        }
        for bundle in bundles() {
            let pages = json!({ "hugepageLimits": [{ "pageSize": size, "limit": 4 * MIB }] });
            let container = with(bundle, pages).sleeper().start();
            let table = container.proc("cgroup");
            let path = table.lines().find_map(|l| l.strip_prefix("0::")).expect("a v2 cgroup");
            let top = if cgroups() == Cgroups::V1 { "/sys/fs/cgroup/unified" } else { "/sys/fs/cgroup" };
            assert_eq!(read(format!("{top}{path}/hugetlb.{size}.max")).trim(), (4 * MIB).to_string());
            container.vanish();
        }
    });
}

#[test]
fn unified_resources_are_written_as_they_are() {
    check(|| {
        for bundle in bundles() {
            let unified = json!({ "unified": { "memory.high": "33554432", "pids.max": "77" } });
            let bundle = with(bundle, unified).sleeper();
            if cgroups() == Cgroups::V1 {
                bundle.create_fails().says("unified");
                continue;
            }
            let container = bundle.start();
            assert_eq!(container.setting("memory", "", "memory.high").expect("a limit"), "33554432");
            assert_eq!(container.setting("pids", "", "pids.max").expect("a limit"), "77");
            container.vanish();
        }
    });
}

#[test]
fn what_would_be_a_path_is_refused() {
    check(|| {
        for bundle in bundles() {
            let id = bundle.id().to_owned();
            let unified = json!({ "unified": { "../memory.high": "1" } });
            let output = with(bundle, unified).sleeper().create_fails();
            assert!(output.stderr.contains("unified"), "{id}: {output}");
        }
    });
}

#[test]
fn a_limit_that_the_kernel_refuses_is_told_and_nothing_starts() {
    check(|| {
        for bundle in bundles() {
            let bundle = with(bundle, json!({ "cpu": { "cpus": "0-9999" } }));
            let started = bundle.rootfs("/started");
            let output = bundle.script("echo >/started").create_fails();
            output.says("cpuset.cpus").says("/linux/resources/cpu/cpus").says_one_of(&[
                "numerical result out of range",
                "invalid argument",
                "permission denied",
            ]);
            assert!(!started.exists());
        }
    });
}

#[test]
fn a_device_allowed_for_reading_cannot_be_written() {
    check(|| {
        for bundle in bundles() {
            let rules = json!({ "devices": [
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
            ] });
            let node = json!({ "path": "/dev/log", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666 });
            let bundle = with(bundle, rules).push("/linux/devices", node);
            let view = bundle.probe(["write:/dev/log", "write:/dev/null", "write:/dev/zero"]);
            assert_eq!(view.errno("write:/dev/log"), 1, "{}", view.attempt("write:/dev/log"));
            assert!(view.could("write:/dev/null") && view.could("write:/dev/zero"));
        }
    });
}

#[test]
fn a_device_that_no_rule_allows_is_denied() {
    check(|| {
        for bundle in bundles() {
            let node = json!({ "path": "/dev/mem", "type": "c", "major": 1, "minor": 1, "fileMode": 0o666 });
            let rules = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
            let caps = ["effective", "permitted", "bounding"];
            let bundle = caps.iter().fold(with(bundle, rules), |bundle, set| {
                bundle.push(&format!("/process/capabilities/{set}"), "CAP_SYS_RAWIO".into())
            });
            let view = bundle.push("/linux/devices", node).probe(["read:/dev/mem", "read:/dev/zero"]);
            assert_eq!(view.errno("read:/dev/mem"), 1, "{}", view.attempt("read:/dev/mem"));
            assert!(view.could("read:/dev/zero"));
        }
    });
}

#[test]
fn a_container_killed_from_outside_leaves_no_cgroup() {
    check(|| {
        for bundle in bundles() {
            let container = with(bundle, json!({ "memory": { "limit": 64 * MIB } })).sleeper().start();
            let pid = rustix_pid(container.pid());
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
            container.wait();
            container.delete().ok();
            corten_integration::assert_nothing_left(&container.bundle);
        }
    });
}

fn rustix_pid(pid: i32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid).expect("a pid")
}

/// Waits until the file has these many lines.
fn wait_lines(path: &std::path::Path, lines: usize) {
    let end = Instant::now() + limit();
    while read(path).lines().count() < lines {
        assert!(Instant::now() < end, "{} stays at {:?}", path.display(), read(path));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn kill_all_reaches_processes_that_share_the_hosts_pids() {
    check(|| {
        for bundle in bundles() {
            let bundle = bundle.without_namespace("pid");
            let pids = bundle.rootfs("/pids");
            let script = "for i in 1 2 3; do setsid sleep 1000 & echo $! >>/pids; done; wait";
            let container = bundle.script(script).start();
            wait_lines(&pids, 3);
            container.command("kill", &["--all"]).arg("KILL").run(container.bundle.dir()).ok();
            container.wait();
            for pid in read(&pids).lines() {
                let end = Instant::now() + limit();
                while read(format!("/proc/{pid}/cmdline")).contains("sleep") {
                    assert!(Instant::now() < end, "process {pid} lives on");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            container.vanish();
        }
    });
}

#[test]
fn delete_force_ends_processes_that_share_the_hosts_pids() {
    check(|| {
        for bundle in bundles() {
            let bundle = bundle.without_namespace("pid");
            let pids = bundle.rootfs("/pids");
            let container = bundle.script("setsid sleep 1000 & echo $! >>/pids; exec sleep 1000").start();
            wait_lines(&pids, 1);
            let pid = read(&pids).trim().to_owned();
            container.vanish();
            assert!(!read(format!("/proc/{pid}/cmdline")).contains("sleep"), "process {pid} lives on");
        }
    });
}

#[test]
fn processes_left_by_a_dead_init_do_not_keep_the_container() {
    check(|| {
        for bundle in bundles() {
            let bundle = bundle.without_namespace("pid");
            let pids = bundle.rootfs("/pids");
            let container = bundle.script("setsid sleep 1000 & echo $! >>/pids; exit 0").start();
            wait_lines(&pids, 1);
            container.wait();
            container.delete().ok();
            corten_integration::assert_nothing_left(&container.bundle);
        }
    });
}
