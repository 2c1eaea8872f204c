//! Reads the container's [`Stats`] from its cgroup.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::file::{is_gone, open_dir, read, value_of};
use super::stats::{
    Blkio, BlkioEntry, Cpu, CpuSet, CpuUsage, Hugetlb, Memory, MemoryUse, Pids, Psi, PsiLine, Stats,
    Throttling,
};
use super::{Cgroup, Version};
use crate::error::{Error, Result};

/// cpuacct.stat counts in USER_HZ, which is 100 on every architecture that Linux still has.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

impl Cgroup {
    /// What the processes of the cgroup and of those below it use now.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        if let Some((version, files)) = self.files("cpu")? {
            stats.cpu = match version {
                Version::V1 => Cpu { throttling: throttling_v1(&files), ..Cpu::default() },
                Version::V2 => cpu_v2(&files),
            };
        }
        if let Some((Version::V1, files)) = self.files("cpuacct")? {
            stats.cpu.usage = cpu_usage_v1(&files);
        }
        if let Some((Version::V1, files)) = self.files("cpuset")? {
            stats.cpuset = cpuset(&files);
        }
        if let Some((version, files)) = self.files("memory")? {
            stats.memory = match version {
                Version::V1 => memory_v1(&files),
                Version::V2 => memory_v2(&files),
            };
        }
        if let Some((_, files)) = self.files("pids")? {
            stats.pids = Pids { current: files.number("pids.current"), limit: files.number("pids.max") };
        }
        if let Some((Version::V1, files)) = self.files("blkio")? {
            stats.blkio = blkio(&files);
        }
        if let Some((Version::V2, files)) = self.files("io")? {
            stats.blkio = io(&files.text("io.stat"));
        }
        if let Some((version, files)) = self.files("hugetlb")? {
            stats.hugetlb = hugetlb(&files, version, &page_sizes());
        }
        if let Some(dir) = self.unified()
            && let Ok(fd) = open_dir(&dir.full_path())
        {
            let files = Files(Box::new(fd));
            stats.cpu.psi = psi(&files.text("cpu.pressure"));
            stats.memory.psi = psi(&files.text("memory.pressure"));
            stats.blkio.psi = psi(&files.text("io.pressure"));
        }
        Ok(stats)
    }

    fn files(&self, controller: &str) -> Result<Option<(Version, Files)>> {
        let Some(dir) = self.dir(controller) else {
            return Ok(None);
        };
        match open_dir(&dir.full_path()) {
            Ok(fd) => Ok(Some((dir.version, Files(Box::new(fd))))),
            Err(errno) => {
                let what = format!("cannot read statistics of cgroup {}", dir.full_path().display());
                Err(Error::kernel(what, "open", errno))
            }
        }
    }
}

/// Where the texts come from: a directory, or a table in tests.
trait Source {
    fn read(&self, name: &str) -> nix::Result<String>;
}

impl Source for OwnedFd {
    fn read(&self, name: &str) -> nix::Result<String> {
        read(self, name)
    }
}

struct Files(Box<dyn Source>);

impl Files {
    /// Empty for a file that this kernel does not have, has switched off (EOPNOTSUPP: pressure), or
    /// that went away with the cgroup while we read.
    fn text(&self, name: &str) -> String {
        match self.0.read(name) {
            Ok(text) => text,
            Err(errno) => {
                if !is_gone(errno) && errno != Errno::EOPNOTSUPP {
                    tracing::debug!("no statistics from {name}: {}", crate::error::describe(errno));
                }
                String::new()
            }
        }
    }

    /// 0 for what is no number, such as `max`.
    fn number(&self, name: &str) -> u64 {
        self.text(name).trim().parse().unwrap_or(0)
    }

    /// As [`Files::number`], but `max` is the largest number.
    fn limit(&self, name: &str) -> u64 {
        limit(&self.text(name))
    }
}

fn limit(text: &str) -> u64 {
    if text.trim() == "max" { u64::MAX } else { text.trim().parse().unwrap_or(0) }
}

fn number_of(text: &str, key: &str) -> u64 {
    value_of(text, key).and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn numbers(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
        .collect()
}

fn throttling_v1(files: &Files) -> Throttling {
    let stat = files.text("cpu.stat");
    Throttling {
        periods: number_of(&stat, "nr_periods"),
        throttled_periods: number_of(&stat, "nr_throttled"),
        throttled_time: number_of(&stat, "throttled_time"),
    }
}

fn cpu_usage_v1(files: &Files) -> CpuUsage {
    let stat = files.text("cpuacct.stat");
    let mut usage = CpuUsage {
        total: files.number("cpuacct.usage"),
        percpu: files
            .text("cpuacct.usage_percpu")
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect(),
        kernel: number_of(&stat, "system") * NANOSECONDS_PER_TICK,
        user: number_of(&stat, "user") * NANOSECONDS_PER_TICK,
        ..CpuUsage::default()
    };
    // "cpu user system", with a heading.
    for line in files.text("cpuacct.usage_all").lines().skip(1) {
        let mut columns = line.split(' ').skip(1).filter_map(|n| n.parse().ok());
        if let (Some(user), Some(kernel)) = (columns.next(), columns.next()) {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    usage
}

fn cpu_v2(files: &Files) -> Cpu {
    let stat = files.text("cpu.stat");
    let nanoseconds = |key| number_of(&stat, key) * 1000;
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: number_of(&stat, "nr_periods"),
            throttled_periods: number_of(&stat, "nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
        psi: None,
    }
}

fn cpuset(files: &Files) -> CpuSet {
    CpuSet {
        cpus: list(&files.text("cpuset.cpus")),
        cpu_exclusive: files.number("cpuset.cpu_exclusive"),
        mems: list(&files.text("cpuset.mems")),
        mem_hardwall: files.number("cpuset.mem_hardwall"),
        mem_exclusive: files.number("cpuset.mem_exclusive"),
        memory_migrate: files.number("cpuset.memory_migrate"),
        memory_spread_page: files.number("cpuset.memory_spread_page"),
        memory_spread_slab: files.number("cpuset.memory_spread_slab"),
        memory_pressure: files.number("cpuset.memory_pressure"),
        sched_load_balance: files.number("cpuset.sched_load_balance"),
        sched_relax_domain_level: files.text("cpuset.sched_relax_domain_level").trim().parse().unwrap_or(0),
    }
}

/// `0-2,7` one by one.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

fn memory_v1(files: &Files) -> Memory {
    let raw = numbers(&files.text("memory.stat"));
    let usage = |name: &str| MemoryUse {
        limit: files.number(&format!("memory.{name}limit_in_bytes")),
        usage: files.number(&format!("memory.{name}usage_in_bytes")),
        max: files.number(&format!("memory.{name}max_usage_in_bytes")),
        failcnt: files.number(&format!("memory.{name}failcnt")),
    };
    Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: usage(""),
        swap: usage("memsw."),
        kernel: usage("kmem."),
        kernel_tcp: usage("kmem.tcp."),
        raw,
        psi: None,
    }
}

fn memory_v2(files: &Files) -> Memory {
    let raw = numbers(&files.text("memory.stat"));
    let usage = |name: &str| MemoryUse {
        limit: files.limit(&format!("memory.{name}max")),
        usage: files.number(&format!("memory.{name}current")),
        max: files.number(&format!("memory.{name}peak")),
        failcnt: 0,
    };
    let memory = usage("");
    let mut swap = usage("swap.");
    // As on version 1: both together.
    swap.usage = swap.usage.saturating_add(memory.usage);
    swap.limit = swap.limit.saturating_add(memory.limit);
    swap.max = 0;
    Memory { cache: raw.get("file").copied().unwrap_or(0), usage: memory, swap, raw, ..Memory::default() }
}

fn blkio(files: &Files) -> Blkio {
    let entries = |name: &str| blkio_entries(&files.text(name));
    // BFQ counts for itself alone; the throttling layer counts whatever the scheduler.
    let either = |bfq: &str, throttle: &str| {
        let entries = blkio_entries(&files.text(bfq));
        if entries.is_empty() { blkio_entries(&files.text(throttle)) } else { entries }
    };
    Blkio {
        io_service_bytes_recursive: either(
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ),
        io_serviced_recursive: either(
            "blkio.bfq.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
        ),
        io_queued_recursive: entries("blkio.bfq.io_queued_recursive"),
        io_service_time_recursive: entries("blkio.bfq.io_service_time_recursive"),
        io_wait_time_recursive: entries("blkio.bfq.io_wait_time_recursive"),
        io_merged_recursive: entries("blkio.bfq.io_merged_recursive"),
        io_time_recursive: entries("blkio.bfq.time_recursive"),
        sectors_recursive: entries("blkio.bfq.sectors_recursive"),
        psi: None,
    }
}

/// Lines `8:0 Read 4096`, or `8:0 4096`; the total of all devices is left out.
fn blkio_entries(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (major, minor) = words.next()?.split_once(':')?;
            let (op, value) = match (words.next()?, words.next()) {
                (op, Some(value)) => (op, value),
                (value, None) => ("", value),
            };
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: op.to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io(text: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else {
            continue;
        };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            // Discards have no name on version 1.
            let (table, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let value = value.parse().unwrap_or(0);
            table.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    blkio
}

fn hugetlb(files: &Files, version: Version, sizes: &[String]) -> BTreeMap<String, Hugetlb> {
    let of = |size: &String| {
        let hugetlb = match version {
            Version::V1 => Hugetlb {
                usage: files.number(&format!("hugetlb.{size}.usage_in_bytes")),
                max: files.number(&format!("hugetlb.{size}.max_usage_in_bytes")),
                failcnt: files.number(&format!("hugetlb.{size}.failcnt")),
            },
            Version::V2 => Hugetlb {
                usage: files.number(&format!("hugetlb.{size}.current")),
                max: 0,
                failcnt: number_of(&files.text(&format!("hugetlb.{size}.events")), "max"),
            },
        };
        (size.clone(), hugetlb)
    };
    sizes.iter().map(of).collect()
}

/// The page sizes that the kernel offers, as it writes them in file names of the controller.
fn page_sizes() -> Vec<String> {
    let Ok(listing) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    listing.flatten().filter_map(|entry| page_size(entry.file_name().to_str()?)).collect()
}

fn page_size(directory: &str) -> Option<String> {
    let kilobytes: u64 = directory.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    })
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; None if there are none.
fn psi(text: &str) -> Option<Psi> {
    let mut psi = Psi::default();
    let mut found = false;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let target = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        found = true;
        let value =
            |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let average = |key| value(key).and_then(|value| value.parse().ok()).unwrap_or(0.0);
        *target = PsiLine {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: value("total").and_then(|value| value.parse().ok()).unwrap_or(0),
        };
    }
    found.then_some(psi)
}

#[cfg(test)]
mod tests;
