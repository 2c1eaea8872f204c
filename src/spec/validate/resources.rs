//! The rules for cgroup resources, whose pointers are relative to them. What a controller makes of
//! a number is the kernel's business; what becomes a file name or a line of a file is checked here.

use super::linux::interface;
use super::{Report, escape};
use crate::spec::{DeviceRule, LinuxBlockIo, LinuxCpu, LinuxMemory, Resources};

pub(super) fn check(resources: &Resources, report: &mut Report) {
    for (i, rule) in resources.devices.iter().flatten().enumerate() {
        device_rule(i, rule, report);
    }
    if let Some(memory) = &resources.memory {
        swappiness(memory, report);
    }
    if let Some(cpu) = &resources.cpu {
        self::cpu(cpu, report);
    }
    if let Some(block_io) = &resources.block_io {
        weights(block_io, report);
    }
    for (i, limit) in resources.hugepage_limits.iter().flatten().enumerate() {
        if !page_size(&limit.page_size) {
            report.add(
                format_args!("/hugepageLimits/{i}/pageSize"),
                format_args!("must be a page size such as \"2MB\", got {:?}", limit.page_size),
            );
        }
    }
    let priorities = resources.network.as_ref().and_then(|network| network.priorities().as_ref());
    for (i, priority) in priorities.into_iter().flatten().enumerate() {
        interface(format_args!("/network/priorities/{i}/name"), priority.name(), report);
    }
    for device in resources.rdma.iter().flatten().map(|(device, _)| device) {
        let at = format!("/rdma/{}", escape(device));
        if report.name(&at, device) && device.contains([' ', '=']) {
            report.add(&at, "must not contain a space or an equals sign");
        }
    }
    for (file, value) in resources.unified.iter().flatten() {
        let at = format!("/unified/{}", escape(file));
        report.name(&at, file);
        // Several lines are legal here: each is written by itself.
        report.text(&at, value);
    }
}

fn device_rule(i: usize, rule: &DeviceRule, report: &mut Report) {
    let kind = rule.kind.as_deref().unwrap_or_default();
    if !matches!(kind, "" | "a" | "b" | "c") {
        report.add(
            format_args!("/devices/{i}/type"),
            format_args!("must be \"a\", \"b\" or \"c\", got {kind:?}"),
        );
    }
    for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
        if let Some(number) = number.filter(|number| !(-1..=i64::from(u32::MAX)).contains(number)) {
            report.add(
                format_args!("/devices/{i}/{name}"),
                format_args!("must be a device number, or -1 for all, got {number}"),
            );
        }
    }
    let access = rule.access.as_deref().unwrap_or_default();
    if !access.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
        report.add(
            format_args!("/devices/{i}/access"),
            format_args!("must consist of the letters r, w and m, got {access:?}"),
        );
    }
}

fn swappiness(memory: &LinuxMemory, report: &mut Report) {
    // Docker's -1 arrives as the largest number and leaves the host's value alone.
    if let Some(value) = memory.swappiness().filter(|value| *value > 100 && *value != u64::MAX) {
        report.add("/memory/swappiness", format_args!("must be between 0 and 100, got {value}"));
    }
}

fn cpu(cpu: &LinuxCpu, report: &mut Report) {
    if let Some(idle) = cpu.idle().filter(|idle| !(0..=1).contains(idle)) {
        report.add("/cpu/idle", format_args!("must be 0 or 1, got {idle}"));
    }
    for (name, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        if let Some(list) = list {
            report.line(format_args!("/cpu/{name}"), list);
        }
    }
}

fn weights(block_io: &LinuxBlockIo, report: &mut Report) {
    let mut check = |pointer: String, weight: Option<u16>| {
        if let Some(weight) = weight.filter(|weight| *weight > 1000) {
            report.add(pointer, format_args!("must be between 10 and 1000, got {weight}"));
        }
    };
    check("/blockIO/weight".into(), block_io.weight());
    check("/blockIO/leafWeight".into(), block_io.leaf_weight());
    for (i, device) in block_io.weight_device().iter().flatten().enumerate() {
        check(format!("/blockIO/weightDevice/{i}/weight"), device.weight());
        check(format!("/blockIO/weightDevice/{i}/leafWeight"), device.leaf_weight());
    }
}

/// The schema's `^[1-9][0-9]*[KMG]B$`: it becomes a part of a file name (GHSA-5g49-rx9x-qfc6).
fn page_size(text: &str) -> bool {
    let digits = text.strip_suffix('B').and_then(|text| text.strip_suffix(['K', 'M', 'G']));
    digits.is_some_and(|digits| {
        !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|c| c.is_ascii_digit())
    })
}
