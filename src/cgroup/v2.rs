//! `linux.resources`, which was designed for version 1, for version 2: admin-guide/cgroup-v2.rst.
//! Pure.

use super::settings::{Limit, Lowering, Missing, escape, is_word};
use crate::spec::{LinuxBlockIo, Resources};

/// The default of `cpu.max`, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Lowers what belongs to a wanted controller, but for `unified`.
pub(super) fn lower(resources: &Resources, wanted: &dyn Fn(&str) -> bool, out: &mut Lowering) {
    if wanted("cpuset") {
        cpuset(resources, out);
    }
    if wanted("memory") {
        memory(resources, out);
    }
    if wanted("cpu") {
        cpu(resources, out);
    }
    if wanted("pids") {
        out.pids(resources);
    }
    if let Some(block_io) = resources.block_io.as_ref().filter(|_| wanted("io")) {
        io(block_io, out);
    }
    if wanted("hugetlb") {
        out.hugepages(&resources.hugepage_limits, "max");
    }
    if let Some(network) = resources.network.as_ref().filter(|_| wanted("net_cls")) {
        if network.class_id().is_some_and(|class| class != 0) {
            out.problem("/network/classID", "cgroup v2 has no network classes");
        }
        if network.priorities().as_ref().is_some_and(|priorities| !priorities.is_empty()) {
            out.problem("/network/priorities", "cgroup v2 has no network priorities");
        }
    }
    if wanted("rdma") {
        out.rdma(&resources.rdma);
    }
}

/// `unified`: files and values as they are, one write(2) for each line. After everything else, so
/// that it has the last word.
pub(super) fn unified(resources: &Resources, out: &mut Lowering) {
    for (file, value) in resources.unified.iter().flatten() {
        let at = format!("/unified/{}", escape(file));
        let controller = match file.split_once('.') {
            _ if !is_word(file) => {
                let message = format!(
                    "invalid configuration: unified resource {file:?} must be a file name (no slashes)"
                );
                out.problem(&at, message);
                continue;
            }
            Some((controller, parameter)) if !controller.is_empty() && !parameter.is_empty() => controller,
            _ => {
                let message = format!(
                    "invalid configuration: unified resource {file:?} must be in the form CONTROLLER.PARAMETER"
                );
                out.problem(&at, message);
                continue;
            }
        };
        for line in value.lines().filter(|line| !line.is_empty()) {
            out.push(controller.to_owned().into(), file.clone().into(), line, &at, Missing::Fails);
        }
    }
}

fn cpuset(resources: &Resources, out: &mut Lowering) {
    let Some(cpu) = &resources.cpu else { return };
    if let Some(cpus) = out.cpu_list(cpu.cpus(), "/cpu/cpus") {
        out.set("cpuset", "cpuset.cpus", cpus, "/cpu/cpus");
    }
    if let Some(mems) = out.cpu_list(cpu.mems(), "/cpu/mems") {
        out.set("cpuset", "cpuset.mems", mems, "/cpu/mems");
    }
}

fn memory(resources: &Resources, out: &mut Lowering) {
    let Some(memory) = &resources.memory else { return };
    // `swap` of the specification is memory and swap together, memory.swap.max is swap alone.
    match out.limit(memory.swap(), "/memory/swap") {
        Limit::Unset if memory.limit() == Some(-1) => {
            out.lift("memory", "memory.swap.max", "max", "/memory/limit");
        }
        Limit::Unset => {}
        Limit::Max => out.lift("memory", "memory.swap.max", "max", "/memory/swap"),
        Limit::Of(swap) if out.swap_fits(memory.limit(), memory.swap()) => {
            let alone = swap - memory.limit().unwrap_or(0).max(0);
            // A kernel without swap accounting cannot give any swap either.
            let missing = if alone == 0 { Missing::Ignored } else { Missing::Fails };
            out.push("memory".into(), "memory.swap.max".into(), alone, "/memory/swap", missing);
        }
        Limit::Of(_) => {}
    }
    for (value, file, at) in [
        (memory.limit(), "memory.max", "/memory/limit"),
        (memory.reservation(), "memory.low", "/memory/reservation"),
    ] {
        match out.limit(value, at) {
            Limit::Unset => {}
            Limit::Max => out.lift("memory", file, "max", at),
            Limit::Of(limit) => out.set("memory", file, limit, at),
        }
    }
    for (value, at) in [(memory.kernel(), "/memory/kernel"), (memory.kernel_tcp(), "/memory/kernelTCP")] {
        if let Limit::Of(_) = out.limit(value, at) {
            out.problem(at, "cgroup v2 has no limit of kernel memory alone");
        }
    }
    if memory.swappiness().is_some() {
        out.problem("/memory/swappiness", "cgroup v2 has no swappiness of a cgroup");
    }
    if memory.disable_oom_killer() == Some(true) {
        out.problem("/memory/disableOOMKiller", "cgroup v2 cannot disable the OOM killer");
    }
}

fn cpu(resources: &Resources, out: &mut Lowering) {
    let Some(cpu) = &resources.cpu else { return };
    let idle = cpu.idle().filter(|&idle| out.in_range(idle, 0..=1, "/cpu/idle"));
    if let Some(idle) = idle {
        out.set("cpu", "cpu.idle", idle, "/cpu/idle");
    }
    // An idle group has no weight: the kernel refuses it (EINVAL).
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0 && idle != Some(1)) {
        out.set("cpu", "cpu.weight", cpu_weight(shares), "/cpu/shares");
    }
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if quota != 0 || period != 0 {
        let at = if quota != 0 { "/cpu/quota" } else { "/cpu/period" };
        let period_or_default = if period == 0 { DEFAULT_PERIOD } else { period };
        if quota > 0 {
            out.set("cpu", "cpu.max", format!("{quota} {period_or_default}"), at);
        } else {
            out.lift("cpu", "cpu.max", format!("max {period_or_default}"), at);
        }
    }
    if let Some(burst) = cpu.burst() {
        let missing = if burst == 0 { Missing::Ignored } else { Missing::Fails };
        out.push("cpu".into(), "cpu.max.burst".into(), burst, "/cpu/burst", missing);
    }
    for (asked, at) in [
        (cpu.realtime_runtime().is_some_and(|runtime| runtime != 0), "/cpu/realtimeRuntime"),
        (cpu.realtime_period().is_some_and(|period| period != 0), "/cpu/realtimePeriod"),
    ] {
        if asked {
            out.problem(at, "cgroup v2 has no realtime limits");
        }
    }
}

/// Shares (2 to 262144, default 1024) as weight (1 to 10000, default 100): a quadratic in the
/// logarithms that meets both ends and the default, which runc 1.3.2 and crun 1.23 use. The linear
/// map before gave the default container a weight of 39.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        1024 => 100,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// A blkio weight (10 to 1000) on the scale of io.weight (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

fn io(block_io: &LinuxBlockIo, out: &mut Lowering) {
    // With the BFQ scheduler there is io.bfq.weight, which has the scale of blkio; without, only
    // io.weight, for which the iocost controller cares.
    if let Some(weight) = block_io.weight().filter(|&weight| weight != 0)
        && out.in_range(weight.into(), 10..=1000, "/blockIO/weight")
    {
        let instead = Missing::Instead("io.weight", io_weight(weight).to_string());
        out.push("io".into(), "io.bfq.weight".into(), weight, "/blockIO/weight", instead);
    }
    let leaf = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
    if leaf(block_io.leaf_weight()) {
        out.problem("/blockIO/leafWeight", "cgroup v2 has no leaf weight");
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        let at = format!("/blockIO/weightDevice/{index}/weight");
        if let Some(weight) = device.weight().filter(|&weight| weight != 0)
            && out.in_range(weight.into(), 10..=1000, &at)
        {
            let name = format!("{}:{}", device.major(), device.minor());
            let instead = Missing::Instead("io.weight", format!("{name} {}", io_weight(weight)));
            out.push("io".into(), "io.bfq.weight".into(), format!("{name} {weight}"), &at, instead);
        }
        if leaf(device.leaf_weight()) {
            let at = format!("/blockIO/weightDevice/{index}/leafWeight");
            out.problem(&at, "cgroup v2 has no leaf weight");
        }
    }
    for (devices, name, key) in [
        (block_io.throttle_read_bps_device(), "throttleReadBpsDevice", "rbps"),
        (block_io.throttle_write_bps_device(), "throttleWriteBpsDevice", "wbps"),
        (block_io.throttle_read_iops_device(), "throttleReadIOPSDevice", "riops"),
        (block_io.throttle_write_iops_device(), "throttleWriteIOPSDevice", "wiops"),
    ] {
        for (index, device) in devices.iter().flatten().enumerate() {
            // 0 is no limit on v1, and invalid on v2.
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            out.set("io", "io.max", value, &format!("/blockIO/{name}/{index}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Layout, Setting, settings};
    use crate::spec::Problem;

    fn lower(json: serde_json::Value) -> Result<Vec<Setting>, Vec<Problem>> {
        let resources: Resources = serde_json::from_value(json).expect("resources");
        settings(&resources, &Layout::unified("/sys/fs/cgroup", "/"), "")
    }

    fn lines(json: serde_json::Value) -> Vec<String> {
        let settings = lower(json).expect("no problem");
        settings.iter().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
    }

    fn problems(json: serde_json::Value) -> Vec<String> {
        lower(json).expect_err("problems").iter().map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn every_property() {
        assert_eq!(
            lines(serde_json::json!({
                "memory": {"limit": 100, "reservation": 50, "swap": 250},
                "cpu": {"shares": 512, "quota": 5000, "burst": 100, "period": 10000, "cpus": "0-1", "mems": "0", "idle": 0},
                "pids": {"limit": 32},
                "blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
                "rdma": {"mlx5_1": {"hcaObjects": 10000}},
                "unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "memory.high": "5"}
            })),
            [
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "memory.swap.max=150",
                "memory.max=100",
                "memory.low=50",
                "cpu.idle=0",
                "cpu.weight=59",
                "cpu.max=5000 10000",
                "cpu.max.burst=100",
                "pids.max=32",
                "io.bfq.weight=10",
                "io.bfq.weight=8:0 1000",
                "io.max=8:0 rbps=1",
                "io.max=8:0 wbps=2",
                "io.max=8:0 riops=3",
                "io.max=8:0 wiops=max",
                "hugetlb.2MB.max=0",
                "hugetlb.2MB.rsvd.max=0",
                "rdma.max=mlx5_1 hca_object=10000",
                "io.max=8:0 rbps=1",
                "io.max=8:16 rbps=2",
                "memory.high=5",
            ]
        );
    }

    #[test]
    fn swap() {
        for (memory, expected) in [
            (r#"{"limit": 100, "swap": 100}"#, vec!["memory.swap.max=0", "memory.max=100"]),
            (r#"{"limit": 100, "swap": -1}"#, vec!["memory.swap.max=max", "memory.max=100"]),
            (r#"{"limit": 100, "swap": 0}"#, vec!["memory.max=100"]),
            (r#"{"limit": -1}"#, vec!["memory.swap.max=max", "memory.max=max"]),
            (r#"{"limit": -1, "swap": 7}"#, vec!["memory.swap.max=7", "memory.max=max"]),
            (r#"{"swap": -1}"#, vec!["memory.swap.max=max"]),
        ] {
            let memory: serde_json::Value = serde_json::from_str(memory).expect("json");
            assert_eq!(lines(serde_json::json!({ "memory": memory })), expected, "{memory}");
        }
    }

    #[test]
    fn cpu_limits() {
        for (cpu, expected) in [
            (r#"{"quota": 5000}"#, vec!["cpu.max=5000 100000"]),
            (r#"{"period": 5000}"#, vec!["cpu.max=max 5000"]),
            (r#"{"quota": -1}"#, vec!["cpu.max=max 100000"]),
            (r#"{"idle": 1, "shares": 1024}"#, vec!["cpu.idle=1"]),
        ] {
            let cpu: serde_json::Value = serde_json::from_str(cpu).expect("json");
            assert_eq!(lines(serde_json::json!({ "cpu": cpu })), expected, "{cpu}");
        }
    }

    #[test]
    fn weights() {
        for (shares, weight) in [
            (1, 1),
            (2, 1),
            (10, 4),
            (256, 35),
            (1024, 100),
            (2048, 174),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        let mut last = 0;
        for shares in 2..=262_144 {
            let weight = cpu_weight(shares);
            assert!(weight >= last && weight <= 10_000, "{shares}");
            last = weight;
        }
        assert_eq!([io_weight(10), io_weight(500), io_weight(1000)], [1, 4950, 10_000]);
    }

    #[test]
    fn what_version_2_cannot() {
        assert_eq!(
            problems(serde_json::json!({
                "memory": {"kernel": 1, "kernelTCP": 1, "swappiness": 1, "disableOOMKiller": true},
                "cpu": {"realtimeRuntime": 1, "realtimePeriod": 1},
                "blockIO": {"leafWeight": 10},
                "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
                "unified": {"../x": "1", "a/b.c": "1", "memory": "1"}
            })),
            [
                "/memory/kernel: cgroup v2 has no limit of kernel memory alone",
                "/memory/kernelTCP: cgroup v2 has no limit of kernel memory alone",
                "/memory/swappiness: cgroup v2 has no swappiness of a cgroup",
                "/memory/disableOOMKiller: cgroup v2 cannot disable the OOM killer",
                "/cpu/realtimeRuntime: cgroup v2 has no realtime limits",
                "/cpu/realtimePeriod: cgroup v2 has no realtime limits",
                "/blockIO/leafWeight: cgroup v2 has no leaf weight",
                "/network/classID: cgroup v2 has no network classes",
                "/network/priorities: cgroup v2 has no network priorities",
                "/unified/..~1x: invalid configuration: unified resource \"../x\" must be a file name (no slashes)",
                "/unified/a~1b.c: invalid configuration: unified resource \"a/b.c\" must be a file name (no slashes)",
                "/unified/memory: invalid configuration: unified resource \"memory\" must be in the form CONTROLLER.PARAMETER",
            ]
        );
        let nothing = serde_json::json!({
            "memory": {"kernel": -1, "kernelTCP": 0, "disableOOMKiller": false, "useHierarchy": true},
            "cpu": {"realtimeRuntime": 0}, "network": {"classID": 0, "priorities": []}
        });
        assert_eq!(lines(nothing), [] as [&str; 0]);
    }
}
