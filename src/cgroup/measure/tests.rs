use super::*;

struct Table(&'static [(&'static str, &'static str)]);

impl Source for Table {
    fn read(&self, name: &str) -> nix::Result<String> {
        let found = self.0.iter().find(|(file, _)| *file == name);
        found.map(|(_, text)| (*text).to_owned()).ok_or(Errno::ENOENT)
    }
}

fn files(table: &'static [(&'static str, &'static str)]) -> Files {
    Files(Box::new(Table(table)))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("json")
}

/// As runc 1.1 writes it for a container that was just started, but for the values.
#[test]
fn shape_of_version_1() {
    let files = files(&[
        ("cpu.stat", "nr_periods 2\nnr_throttled 0\nthrottled_time 0\n"),
        ("cpuacct.usage", "7728689\n"),
        ("cpuacct.usage_percpu", "2681404 5047285 \n"),
        ("cpuacct.usage_all", "cpu user system\n0 0 4000000\n1 4000000 0\n"),
        ("cpuacct.stat", "user 3\nsystem 1\n"),
        ("cpuset.cpus", "0-1\n"),
        ("cpuset.mems", "0\n"),
        ("cpuset.sched_load_balance", "1\n"),
        ("cpuset.sched_relax_domain_level", "-1\n"),
        ("memory.stat", "cache 12288\nrss 53248\nhierarchical_memory_limit 67108864\n"),
        ("memory.limit_in_bytes", "67108864\n"),
        ("memory.usage_in_bytes", "548864\n"),
        ("memory.max_usage_in_bytes", "2531328\n"),
        ("memory.failcnt", "0\n"),
        ("memory.kmem.tcp.limit_in_bytes", "9223372036854771712\n"),
        ("pids.max", "max\n"),
        ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n8:0 Write 0\nTotal 4096\n"),
    ]);
    let mut stats = Stats {
        cpu: Cpu { usage: cpu_usage_v1(&files), throttling: throttling_v1(&files), psi: None },
        cpuset: cpuset(&files),
        memory: memory_v1(&files),
        pids: Pids { current: 1, limit: files.number("pids.max") },
        blkio: blkio(&files),
        ..Stats::default()
    };
    assert_eq!(
        json(&stats),
        concat!(
            r#"{"cpu":{"usage":{"total":7728689,"percpu":[2681404,5047285],"percpu_kernel":[4000000,0],"#,
            r#""percpu_user":[0,4000000],"kernel":10000000,"user":30000000},"throttling":{"periods":2}},"#,
            r#""cpuset":{"cpus":[0,1],"cpu_exclusive":0,"mems":[0],"mem_hardwall":0,"mem_exclusive":0,"#,
            r#""memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"#,
            r#""sched_load_balance":1,"sched_relax_domain_level":-1},"#,
            r#""memory":{"cache":12288,"usage":{"limit":67108864,"usage":548864,"max":2531328,"failcnt":0},"#,
            r#""swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"#,
            r#""kernelTCP":{"limit":9223372036854771712,"failcnt":0},"#,
            r#""raw":{"cache":12288,"hierarchical_memory_limit":67108864,"rss":53248}},"pids":{"current":1},"#,
            r#""blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":4096},{"major":8,"op":"Write"}]},"#,
            r#""hugetlb":{},"intel_rdt":{},"network_interfaces":null}"#
        )
    );
    stats.cpu.psi = psi(
        "some avg10=1.50 avg60=0.10 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
    );
    assert!(json(&stats.cpu).ends_with(
        r#""psi":{"some":{"avg10":1.5,"avg60":0.1,"avg300":0.0,"total":12},"full":{"avg10":0.0,"avg60":0.0,"avg300":0.0,"total":3}}}"#
    ));
    assert_eq!(psi(""), None);
}

#[test]
fn version_2_is_translated() {
    let cpu = cpu_v2(&files(&[(
        "cpu.stat",
        "usage_usec 10\nuser_usec 4\nsystem_usec 6\nnr_periods 3\nnr_throttled 2\nthrottled_usec 7\n",
    )]));
    assert_eq!((cpu.usage.total, cpu.usage.kernel, cpu.usage.user), (10_000, 6000, 4000));
    assert_eq!(cpu.throttling, Throttling { periods: 3, throttled_periods: 2, throttled_time: 7000 });

    let memory = memory_v2(&files(&[
        ("memory.stat", "anon 5\nfile 7\n"),
        ("memory.max", "100\n"),
        ("memory.current", "40\n"),
        ("memory.peak", "60\n"),
        ("memory.swap.max", "max\n"),
        ("memory.swap.current", "2\n"),
    ]));
    assert_eq!(memory.cache, 7);
    assert_eq!(memory.usage, MemoryUse { limit: 100, usage: 40, max: 60, failcnt: 0 });
    assert_eq!(memory.swap, MemoryUse { limit: u64::MAX, usage: 42, max: 0, failcnt: 0 });

    let blkio = io("8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:0\n");
    assert_eq!(
        json(&blkio),
        concat!(
            r#"{"ioServiceBytesRecursive":[{"major":8,"minor":16,"op":"Read","value":1},{"major":8,"minor":16,"op":"Write","value":2}],"#,
            r#""ioServicedRecursive":[{"major":8,"minor":16,"op":"Read","value":3},{"major":8,"minor":16,"op":"Write","value":4}]}"#
        )
    );
    let huge = hugetlb(
        &files(&[("hugetlb.2MB.current", "5"), ("hugetlb.2MB.events", "max 3\n")]),
        Version::V2,
        &["2MB".to_owned()],
    );
    assert_eq!(json(&huge), r#"{"2MB":{"usage":5,"failcnt":3}}"#);
}

#[test]
fn names_and_lists() {
    assert_eq!(page_size("hugepages-2048kB").as_deref(), Some("2MB"));
    assert_eq!(page_size("hugepages-1048576kB").as_deref(), Some("1GB"));
    assert_eq!(page_size("hugepages-64kB").as_deref(), Some("64KB"));
    assert_eq!(page_size("free"), None);
    assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
    assert_eq!(list("\n"), [] as [u16; 0]);
}
