//! What systemd must know of the container's limits, and what annotations say about its unit. Pure.
//!
//! The files of the cgroup are written all the same. Without the properties systemd would write its
//! own defaults over them at `systemctl daemon-reload`. Devices are not among them: our eBPF program
//! is not systemd's, which leaves it alone, whereas one of its own would know only the devices that
//! exist now.

use std::collections::BTreeMap;

use super::{Property, Value};
use crate::cgroup::{Missing, Setting, Version};
use crate::spec::Problem;

/// systemd's "infinity".
const INFINITY: u64 = u64::MAX;
const PREFIX: &str = "org.systemd.property.";
/// cpu.idle is a weight of 0 since this version; before, systemd refuses it.
pub(super) const IDLE_SINCE: u32 = 252;
/// CPU_SET_MAX_NCPU of systemd.
const MOST_CPUS: u16 = 8192;

/// The properties that say what `settings` say, of those that systemd has.
pub(super) fn resources(settings: &[Setting], version: Version, systemd: u32) -> Vec<Property> {
    let mut properties: BTreeMap<&'static str, Value> = BTreeMap::new();
    let idle = settings.iter().any(|setting| setting.file == "cpu.idle" && setting.value.trim() == "1");
    // v1 has two files for what is one property.
    let (mut quota, mut period) = (None, None);
    for setting in settings {
        let (file, value) = match &setting.missing {
            // systemd has io.weight, and itself sees to BFQ.
            Missing::Instead(file, value) if *file == "io.weight" => (*file, value.as_str()),
            _ => (&*setting.file, setting.value.as_str()),
        };
        let value = value.trim();
        let number = || if value == "max" { Some(INFINITY) } else { value.parse().ok() };
        let name = match file {
            "memory.max" => "MemoryMax",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.swap.max" => "MemorySwapMax",
            "memory.limit_in_bytes" if value == "-1" => {
                properties.insert("MemoryLimit", Value::U64(INFINITY));
                continue;
            }
            "memory.limit_in_bytes" => "MemoryLimit",
            "pids.max" => "TasksMax",
            "cpu.idle" if idle && systemd >= IDLE_SINCE => {
                properties.insert("CPUWeight", Value::U64(0));
                continue;
            }
            "cpu.weight" if !idle => "CPUWeight",
            "cpu.shares" => "CPUShares",
            "blkio.weight" => "BlockIOWeight",
            "cpu.max" => {
                let mut words = value.split_whitespace();
                quota = words.next().and_then(|word| word.parse().ok());
                period = words.next().and_then(|word| word.parse().ok());
                continue;
            }
            "cpu.cfs_quota_us" => {
                quota = value.parse().ok();
                continue;
            }
            "cpu.cfs_period_us" => {
                period = value.parse().ok();
                continue;
            }
            "cpuset.cpus" | "cpuset.mems" if version == Version::V2 => {
                let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
                if let Some(bits) = bits(value) {
                    properties.insert(name, Value::Bytes(bits));
                }
                continue;
            }
            "io.weight" if value.contains(':') => {
                if let Some((device, weight)) = device_and(value, "") {
                    add_device(&mut properties, "IODeviceWeight", device, weight);
                }
                continue;
            }
            "io.weight" => "IOWeight",
            "io.max" => {
                for (key, name) in [
                    ("rbps=", "IOReadBandwidthMax"),
                    ("wbps=", "IOWriteBandwidthMax"),
                    ("riops=", "IOReadIOPSMax"),
                    ("wiops=", "IOWriteIOPSMax"),
                ] {
                    if let Some((device, rate)) = device_and(value, key) {
                        add_device(&mut properties, name, device, rate);
                    }
                }
                continue;
            }
            _ => continue,
        };
        if let Some(number) = number() {
            properties.insert(name, Value::U64(number));
        }
    }
    if quota.is_some() || period.is_some() {
        // Microseconds of CPU time in a second; systemd keeps whole percents across a reload, and
        // must not keep fewer than the container was promised.
        let period: u64 = period.unwrap_or(100_000).max(1);
        let quota: Option<u64> =
            quota.and_then(|quota: i64| u64::try_from(quota).ok()).filter(|&quota| quota > 0);
        let share = quota
            .map_or(INFINITY, |quota| (quota.saturating_mul(1_000_000) / period).next_multiple_of(10_000));
        properties.insert("CPUQuotaPeriodUSec", Value::U64(period));
        properties.insert("CPUQuotaPerSecUSec", Value::U64(share));
    }
    properties.into_iter().map(|(name, value)| Property { name: name.into(), value }).collect()
}

fn add_device(
    properties: &mut BTreeMap<&'static str, Value>,
    name: &'static str,
    device: String,
    number: u64,
) {
    let entry = properties.entry(name).or_insert_with(|| Value::Devices(Vec::new()));
    if let Value::Devices(devices) = entry {
        devices.retain(|(known, _)| *known != device);
        devices.push((device, number));
    }
}

/// `8:0 rbps=5`, with key `rbps=`, as a device node that systemd can resolve, and the number.
fn device_and(line: &str, key: &str) -> Option<(String, u64)> {
    let mut words = line.split_whitespace();
    let device = words.next()?;
    let number = words.find_map(|word| word.strip_prefix(key))?;
    let number = if number == "max" { INFINITY } else { number.parse().ok()? };
    Some((format!("/dev/block/{device}"), number))
}

/// `0-2,7` as bits, the lowest first. None for what is no plain list, and for what systemd refuses: the
/// kernel's answer names the file.
fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits: Vec<u8> = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last >= MOST_CPUS {
            return None;
        }
        for number in usize::from(first)..=usize::from(last) {
            if bits.len() <= number / 8 {
                bits.resize(number / 8 + 1, 0);
            }
            bits[number / 8] |= 1 << (number % 8);
        }
    }
    Some(bits)
}

/// What an annotation may set. None of these starts, stops or runs anything: `ExecStartPre` and
/// its like are how a container would run a command on the host (CVE-2024-3154).
const ALLOWED: [(&str, Kind); 18] = [
    ("After", Kind::Texts),
    ("AllowedCPUs", Kind::Bits),
    ("AllowedMemoryNodes", Kind::Bits),
    ("Before", Kind::Texts),
    ("CollectMode", Kind::Text),
    ("CPUWeight", Kind::U64),
    ("DefaultDependencies", Kind::Bool),
    ("Description", Kind::Text),
    ("IOWeight", Kind::U64),
    ("KillMode", Kind::Text),
    ("KillSignal", Kind::I32),
    ("ManagedOOMMemoryPressure", Kind::Text),
    ("ManagedOOMSwap", Kind::Text),
    ("MemoryHigh", Kind::U64),
    ("OOMPolicy", Kind::Text),
    ("RuntimeMaxUSec", Kind::U64),
    ("SendSIGKILL", Kind::Bool),
    ("TimeoutStopUSec", Kind::U64),
];

#[derive(Clone, Copy)]
enum Kind {
    Bool,
    I32,
    U64,
    Text,
    Texts,
    Bits,
}

/// The annotations `org.systemd.property.NAME`, whose values are GVariant text, as properties.
/// `NAMESec` in seconds stands for `NAMEUSec`.
pub(super) fn annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, Vec<Problem>> {
    let mut properties = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let mut problem = |message: String| {
            problems.push(Problem { pointer: format!("/annotations/{key}"), message });
        };
        let seconds =
            name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')).map(|stem| format!("{stem}USec"));
        let wanted = seconds.as_deref().unwrap_or(name);
        let Some((name, kind)) = ALLOWED.iter().find(|(known, _)| *known == wanted) else {
            let known: Vec<&str> = ALLOWED.iter().map(|(known, _)| *known).collect();
            problem(format!("{name:?} is not among the properties that may be set: {}", known.join(", ")));
            continue;
        };
        match parse(value.trim(), *kind, if seconds.is_some() { 1_000_000 } else { 1 }) {
            Some(value) => properties.push(Property { name: (*name).into(), value }),
            None => problem(format!("{value:?} is no value for {name}")),
        }
    }
    if problems.is_empty() { Ok(properties) } else { Err(problems) }
}

/// GVariant text of a known type: `true`, `uint64 5`, `'text'`, `['a', 'b']`.
fn parse(text: &str, kind: Kind, scale: u64) -> Option<Value> {
    let number = || text.rsplit(' ').next();
    Some(match kind {
        Kind::Bool => Value::Bool(text.strip_prefix("boolean ").unwrap_or(text).parse().ok()?),
        Kind::I32 => Value::I32(number()?.parse().ok()?),
        Kind::U64 if scale != 1 => {
            let seconds: f64 = number()?.parse().ok()?;
            (seconds >= 0.0).then_some(Value::U64((seconds * scale as f64) as u64))?
        }
        Kind::U64 => Value::U64(number()?.parse().ok()?),
        Kind::Text => Value::Text(quoted(text)?),
        Kind::Texts => Value::Texts(elements(text)?.into_iter().map(quoted).collect::<Option<_>>()?),
        Kind::Bits => {
            let bytes = elements(text.strip_prefix("@ay ").unwrap_or(text))?;
            let byte = |text: &str| match text.trim().trim_start_matches("byte ").strip_prefix("0x") {
                Some(digits) => u8::from_str_radix(digits, 16).ok(),
                None => text.trim().trim_start_matches("byte ").parse().ok(),
            };
            Value::Bytes(bytes.into_iter().map(byte).collect::<Option<_>>()?)
        }
    })
}

fn elements(text: &str) -> Option<Vec<&str>> {
    let inside = text.strip_prefix("@as ").unwrap_or(text).strip_prefix('[')?.strip_suffix(']')?.trim();
    Some(if inside.is_empty() { Vec::new() } else { inside.split(',').map(str::trim).collect() })
}

fn quoted(text: &str) -> Option<String> {
    let inside = ['\'', '"'].iter().find_map(|&quote| text.strip_prefix(quote)?.strip_suffix(quote))?;
    let plain = !inside.contains(['\'', '"', '\\']) && !inside.chars().any(char::is_control);
    plain.then(|| inside.to_owned())
}

#[cfg(test)]
mod tests;
