//! `linux.resources` for version 1: admin-guide/cgroup-v1/. Pure.

use super::settings::{Limit, Lowering, Missing, is_word};
use crate::spec::{LinuxBlockIo, Resources};

/// Lowers what belongs to a wanted controller.
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
    if let Some(block_io) = resources.block_io.as_ref().filter(|_| wanted("blkio")) {
        blkio(block_io, out);
    }
    if wanted("hugetlb") {
        out.hugepages(&resources.hugepage_limits, "limit_in_bytes");
    }
    if wanted("net_cls") {
        network(resources, out);
    }
    if wanted("rdma") {
        out.rdma(&resources.rdma);
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
    const FILE: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    if memory.use_hierarchy() == Some(true) {
        out.set("memory", "memory.use_hierarchy", 1, "/memory/useHierarchy");
    }
    match out.limit(memory.limit(), "/memory/limit") {
        Limit::Unset => {}
        Limit::Max => out.lift("memory", FILE, -1, "/memory/limit"),
        Limit::Of(limit) => out.set("memory", FILE, limit, "/memory/limit"),
    }
    let swap = out.limit(memory.swap(), "/memory/swap");
    match swap {
        // No memory limit, and not a word about swap: no limit of both together either.
        Limit::Unset if memory.limit() == Some(-1) => out.lift("memory", SWAP, -1, "/memory/limit"),
        Limit::Unset => {}
        Limit::Max => out.lift("memory", SWAP, -1, "/memory/swap"),
        Limit::Of(swap) if out.swap_fits(memory.limit(), memory.swap()) => {
            out.set("memory", SWAP, swap, "/memory/swap");
        }
        Limit::Of(_) => {}
    }
    for (value, file, at) in [
        (memory.reservation(), "memory.soft_limit_in_bytes", "/memory/reservation"),
        (memory.kernel(), "memory.kmem.limit_in_bytes", "/memory/kernel"),
        (memory.kernel_tcp(), "memory.kmem.tcp.limit_in_bytes", "/memory/kernelTCP"),
    ] {
        match out.limit(value, at) {
            Limit::Unset => {}
            Limit::Max => out.lift("memory", file, -1, at),
            Limit::Of(limit) => out.set("memory", file, limit, at),
        }
    }
    if memory.disable_oom_killer() == Some(true) {
        out.set("memory", "memory.oom_control", 1, "/memory/disableOOMKiller");
    }
    if let Some(swappiness) = memory.swappiness() {
        let at = "/memory/swappiness";
        if out.in_range(i64::try_from(swappiness).unwrap_or(i64::MAX), 0..=100, at) {
            out.set("memory", "memory.swappiness", swappiness, at);
        }
    }
}

fn cpu(resources: &Resources, out: &mut Lowering) {
    let Some(cpu) = &resources.cpu else { return };
    let idle = cpu.idle().filter(|&idle| out.in_range(idle, 0..=1, "/cpu/idle"));
    if let Some(idle) = idle {
        out.set("cpu", "cpu.idle", idle, "/cpu/idle");
    }
    // An idle group has no shares: the kernel refuses them (EINVAL).
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0 && idle != Some(1)) {
        if (2..=262_144).contains(&shares) {
            out.set("cpu", "cpu.shares", shares, "/cpu/shares");
        } else {
            let (word, bound) = if shares < 2 { ("minimum", 2) } else { ("maximum", 262_144) };
            out.problem("/cpu/shares", format!("the {word} allowed cpu-shares is {bound}, got {shares}"));
        }
    }
    if let Some(period) = cpu.period().filter(|&period| period != 0) {
        out.set("cpu", "cpu.cfs_period_us", period, "/cpu/period");
    }
    match cpu.quota().unwrap_or(0) {
        0 => {}
        ..0 => out.lift("cpu", "cpu.cfs_quota_us", -1, "/cpu/quota"),
        quota => out.set("cpu", "cpu.cfs_quota_us", quota, "/cpu/quota"),
    }
    if let Some(burst) = cpu.burst() {
        let missing = if burst == 0 { Missing::Ignored } else { Missing::Fails };
        out.push("cpu".into(), "cpu.cfs_burst_us".into(), burst, "/cpu/burst", missing);
    }
    if let Some(period) = cpu.realtime_period().filter(|&period| period != 0) {
        out.set("cpu", "cpu.rt_period_us", period, "/cpu/realtimePeriod");
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|&runtime| runtime != 0) {
        out.set("cpu", "cpu.rt_runtime_us", runtime, "/cpu/realtimeRuntime");
    }
}

fn blkio(block_io: &LinuxBlockIo, out: &mut Lowering) {
    let set = |out: &mut Lowering, file: &'static str, bfq: &'static str, value: String, at: &str| {
        // The one appears with the CFQ scheduler (before Linux 5.0), the other with BFQ.
        let instead = Missing::Instead(bfq, value.clone());
        out.push("blkio".into(), file.into(), value, at, instead);
    };
    if let Some(weight) = block_io.weight().filter(|&weight| weight != 0)
        && out.in_range(weight.into(), 10..=1000, "/blockIO/weight")
    {
        set(out, "blkio.weight", "blkio.bfq.weight", weight.to_string(), "/blockIO/weight");
    }
    if let Some(weight) = block_io.leaf_weight().filter(|&weight| weight != 0)
        && out.in_range(weight.into(), 10..=1000, "/blockIO/leafWeight")
    {
        out.set("blkio", "blkio.leaf_weight", weight, "/blockIO/leafWeight");
    }
    for (index, device) in block_io.weight_device().iter().flatten().enumerate() {
        let (major, minor) = (device.major(), device.minor());
        if let Some(weight) = device.weight().filter(|&weight| weight != 0) {
            let at = format!("/blockIO/weightDevice/{index}/weight");
            if out.in_range(weight.into(), 10..=1000, &at) {
                let value = format!("{major}:{minor} {weight}");
                set(out, "blkio.weight_device", "blkio.bfq.weight_device", value, &at);
            }
        }
        if let Some(weight) = device.leaf_weight().filter(|&weight| weight != 0) {
            let at = format!("/blockIO/weightDevice/{index}/leafWeight");
            if out.in_range(weight.into(), 10..=1000, &at) {
                out.set("blkio", "blkio.leaf_weight_device", format!("{major}:{minor} {weight}"), &at);
            }
        }
    }
    for (devices, name, file) in [
        (block_io.throttle_read_bps_device(), "throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
        (block_io.throttle_write_bps_device(), "throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
        (block_io.throttle_read_iops_device(), "throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
        (
            block_io.throttle_write_iops_device(),
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
        ),
    ] {
        for (index, device) in devices.iter().flatten().enumerate() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            out.set("blkio", file, value, &format!("/blockIO/{name}/{index}"));
        }
    }
}

fn network(resources: &Resources, out: &mut Lowering) {
    let Some(network) = &resources.network else { return };
    if let Some(class) = network.class_id().filter(|&class| class != 0) {
        out.set("net_cls", "net_cls.classid", class, "/network/classID");
    }
    for (index, priority) in network.priorities().iter().flatten().enumerate() {
        let at = format!("/network/priorities/{index}");
        if is_word(priority.name()) {
            let value = format!("{} {}", priority.name(), priority.priority());
            out.set("net_prio", "net_prio.ifpriomap", value, &at);
        } else {
            out.problem(&format!("{at}/name"), "must be the name of a network interface");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::cgroup::{Layout, Setting, Version, settings};
    use crate::spec::{Problem, Resources};

    fn lower(json: serde_json::Value) -> Result<Vec<Setting>, Vec<Problem>> {
        let resources: Resources = serde_json::from_value(json).expect("resources");
        settings(&resources, &Layout { version: Version::V1, hierarchies: Vec::new() }, "/linux/resources")
    }

    /// "file=value" of every setting.
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
                "memory": {"limit": 100, "reservation": 50, "swap": 200, "kernel": 7, "kernelTCP": 8,
                    "swappiness": 60, "disableOOMKiller": true, "useHierarchy": true},
                "cpu": {"shares": 1024, "quota": 5000, "burst": 100, "period": 10000, "realtimeRuntime": 95,
                    "realtimePeriod": 100, "cpus": "0-1", "mems": "0", "idle": 0},
                "pids": {"limit": 32},
                "blockIO": {"weight": 10, "leafWeight": 20,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 18446744073709551615u64}],
                "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx5_2": {}}
            })),
            [
                "cpuset.cpus=0-1",
                "cpuset.mems=0",
                "memory.use_hierarchy=1",
                "memory.limit_in_bytes=100",
                "memory.memsw.limit_in_bytes=200",
                "memory.soft_limit_in_bytes=50",
                "memory.kmem.limit_in_bytes=7",
                "memory.kmem.tcp.limit_in_bytes=8",
                "memory.oom_control=1",
                "memory.swappiness=60",
                "cpu.idle=0",
                "cpu.shares=1024",
                "cpu.cfs_period_us=10000",
                "cpu.cfs_quota_us=5000",
                "cpu.cfs_burst_us=100",
                "cpu.rt_period_us=100",
                "cpu.rt_runtime_us=95",
                "pids.max=32",
                "blkio.weight=10",
                "blkio.leaf_weight=20",
                "blkio.weight_device=8:0 500",
                "blkio.leaf_weight_device=8:0 300",
                "blkio.throttle.read_bps_device=8:0 1",
                "blkio.throttle.write_bps_device=8:0 2",
                "blkio.throttle.read_iops_device=8:0 3",
                "blkio.throttle.write_iops_device=8:0 4",
                "hugetlb.2MB.limit_in_bytes=18446744073709551615",
                "hugetlb.2MB.rsvd.limit_in_bytes=18446744073709551615",
                "net_cls.classid=1048577",
                "net_prio.ifpriomap=eth0 500",
                "rdma.max=mlx5_1 hca_handle=3 hca_object=10000",
            ]
        );
    }

    #[test]
    fn nothing_is_asked_for() {
        let none: [&str; 0] = [];
        assert_eq!(lines(serde_json::json!({})), none);
        assert_eq!(
            lines(serde_json::json!({
                "memory": {"limit": 0, "swap": 0, "disableOOMKiller": false, "useHierarchy": false},
                "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "", "realtimeRuntime": 0},
                "pids": {"limit": null},
                "blockIO": {"weight": 0, "weightDevice": []},
                "network": {"classID": 0, "priorities": []},
                "unified": {}
            })),
            none
        );
    }

    #[test]
    fn no_limit_and_the_limit_zero() {
        assert_eq!(
            lines(
                serde_json::json!({"memory": {"limit": -1}, "cpu": {"quota": -1, "idle": 1, "shares": 5}, "pids": {"limit": -1}})
            ),
            [
                "memory.limit_in_bytes=-1",
                "memory.memsw.limit_in_bytes=-1",
                "cpu.idle=1",
                "cpu.cfs_quota_us=-1",
                "pids.max=max"
            ]
        );
        assert_eq!(lines(serde_json::json!({"pids": {"limit": 0}})), ["pids.max=1"]);
    }

    #[test]
    fn wrong_values() {
        assert_eq!(
            problems(serde_json::json!({
                "memory": {"limit": -2, "swap": 5, "swappiness": 101},
                "cpu": {"shares": 1, "cpus": "0\n1", "idle": 2},
                "pids": {"limit": -2},
                "blockIO": {"weight": 5},
                "hugepageLimits": [{"pageSize": "../../x", "limit": 1}, {"pageSize": "02MB", "limit": 1}],
                "network": {"priorities": [{"name": "a b", "priority": 1}]},
                "rdma": {"../x": {"hcaHandles": 1}},
                "unified": {"memory.max": "1"}
            })),
            [
                "/linux/resources/cpu/cpus: must be a list such as \"0-3,7\", got \"0\\n1\"",
                "/linux/resources/memory/limit: must be -1 (no limit) or positive, got -2",
                "/linux/resources/memory/swappiness: must be from 0 to 100, got 101",
                "/linux/resources/cpu/idle: must be from 0 to 1, got 2",
                "/linux/resources/cpu/shares: the minimum allowed cpu-shares is 2, got 1",
                "/linux/resources/pids/limit: must be -1 (no limit) or not negative, got -2",
                "/linux/resources/blockIO/weight: must be from 10 to 1000, got 5",
                "/linux/resources/hugepageLimits/0/pageSize: must be a size such as \"2MB\", got \"../../x\"",
                "/linux/resources/hugepageLimits/1/pageSize: must be a size such as \"2MB\", got \"02MB\"",
                "/linux/resources/network/priorities/0/name: must be the name of a network interface",
                "/linux/resources/rdma/..~1x: must be the name of a device",
                "/linux/resources/unified: invalid configuration: cannot use unified on cgroup v1",
            ]
        );
        assert_eq!(
            problems(serde_json::json!({"memory": {"swap": 5}})),
            ["/linux/resources/memory/swap: unable to set swap limit without memory limit"]
        );
        assert_eq!(
            problems(serde_json::json!({"memory": {"limit": 9, "swap": 5}})),
            ["/linux/resources/memory/swap: memory+swap limit should be >= memory limit 9, got 5"]
        );
    }
}
