use super::*;
use crate::cgroup::{Layout, settings};
use crate::spec::Resources;

fn lowered(json: serde_json::Value, layout: &Layout) -> Vec<String> {
    let wanted: Resources = serde_json::from_value(json).expect("resources");
    let settings = settings(&wanted, layout, "").expect("no problem");
    let properties = resources(&settings, layout.version, 257);
    properties.iter().map(|property| format!("{}={:?}", property.name, property.value)).collect()
}

#[test]
fn version_2() {
    assert_eq!(
        lowered(
            serde_json::json!({
                "memory": {"limit": 100, "swap": 150, "reservation": -1},
                "cpu": {"shares": 1024, "quota": 12345, "period": 50000, "cpus": "0-1,9", "mems": "0"},
                "pids": {"limit": 0},
                "blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 8}, {"major": 8, "minor": 16, "rate": 0}]},
                "unified": {"memory.high": "90", "memory.oom.group": "1"}
            }),
            &Layout::unified("/sys/fs/cgroup", "/")
        ),
        [
            "AllowedCPUs=Bytes([3, 2])",
            "AllowedMemoryNodes=Bytes([1])",
            "CPUQuotaPerSecUSec=U64(250000)",
            "CPUQuotaPeriodUSec=U64(50000)",
            "CPUWeight=U64(100)",
            "IODeviceWeight=Devices([(\"/dev/block/8:0\", 1)])",
            "IOReadBandwidthMax=Devices([(\"/dev/block/8:0\", 7)])",
            "IOWeight=U64(10000)",
            "IOWriteIOPSMax=Devices([(\"/dev/block/8:0\", 8), (\"/dev/block/8:16\", 18446744073709551615)])",
            "MemoryHigh=U64(90)",
            "MemoryLow=U64(18446744073709551615)",
            "MemoryMax=U64(100)",
            "MemorySwapMax=U64(50)",
            "TasksMax=U64(1)",
        ]
    );
    let unlimited = lowered(
        serde_json::json!({"cpu": {"quota": -1, "idle": 1}, "pids": {"limit": -1}}),
        &Layout::unified("/sys/fs/cgroup", "/"),
    );
    assert_eq!(
        unlimited,
        [
            "CPUQuotaPerSecUSec=U64(18446744073709551615)",
            "CPUQuotaPeriodUSec=U64(100000)",
            "CPUWeight=U64(0)",
            "TasksMax=U64(18446744073709551615)"
        ]
    );
}

#[test]
fn version_1() {
    let layout = Layout { version: Version::V1, hierarchies: Vec::new() };
    assert_eq!(
        lowered(
            serde_json::json!({"memory": {"limit": 100}, "cpu": {"shares": 5, "quota": 5000}, "blockIO": {"weight": 10}}),
            &layout
        ),
        [
            "BlockIOWeight=U64(10)",
            "CPUQuotaPerSecUSec=U64(50000)",
            "CPUQuotaPeriodUSec=U64(100000)",
            "CPUShares=U64(5)",
            "MemoryLimit=U64(100)"
        ]
    );
}

fn annotated(pairs: &[(&str, &str)]) -> Result<Vec<Property>, Vec<Problem>> {
    annotations(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
}

#[test]
fn annotations_become_properties() {
    let properties = annotated(&[
        ("org.systemd.property.After", "['crio.service', \"x.service\"]"),
        ("org.systemd.property.AllowedCPUs", "[byte 0x03, 1]"),
        ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
        ("org.systemd.property.DefaultDependencies", "true"),
        ("org.systemd.property.KillSignal", "9"),
        ("org.systemd.property.TimeoutStopSec", "uint64 3"),
        ("org.systemd.property.TimeoutStopUSec", "uint64 30000000"),
        ("org.other", "x"),
    ])
    .expect("properties");
    let texts: Vec<String> = properties.iter().map(|p| format!("{}={:?}", p.name, p.value)).collect();
    assert_eq!(
        texts,
        [
            "After=Texts([\"crio.service\", \"x.service\"])",
            "AllowedCPUs=Bytes([3, 1])",
            "CollectMode=Text(\"inactive-or-failed\")",
            "DefaultDependencies=Bool(true)",
            "KillSignal=I32(9)",
            "TimeoutStopUSec=U64(3000000)",
            "TimeoutStopUSec=U64(30000000)",
        ]
    );
}

#[test]
fn other_properties_are_refused() {
    for (name, value) in [
        ("ExecStartPre", "'/bin/sh'"),
        ("ExecStart", "[('/bin/sh', ['sh'], false)]"),
        ("OnFailure", "['x.service']"),
        ("TimeoutStopUSec", "'text'"),
        ("CollectMode", "inactive"),
        ("CollectMode", "'a\nb'"),
        ("", "1"),
    ] {
        let key = format!("org.systemd.property.{name}");
        let problems = annotated(&[(&key, value)]).expect_err(name);
        assert_eq!(problems[0].pointer, format!("/annotations/{key}"));
    }
}

#[test]
fn lists_of_numbers() {
    assert_eq!(bits("0-3,8"), Some(vec![0x0f, 1]));
    assert_eq!(bits("9-10"), Some(vec![0, 6]));
    assert_eq!(bits("0-7:2"), None);
    assert_eq!(bits("99999"), None);
}
