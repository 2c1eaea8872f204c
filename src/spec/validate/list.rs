//! Lists of small numbers, as Linux writes CPUs and NUMA nodes: `0-3,7`.

use std::ops::RangeInclusive;

/// More than any kernel of today is built for (`CONFIG_NR_CPUS` is at most 8192).
const CPUS: u32 = 8192;

/// `MAX_NUMNODES` where `CONFIG_NODES_SHIFT` is its maximum of 10.
const NODES: u32 = 1024;

/// The CPUs of `process.execCPUAffinity`; the empty text is the empty list. The error says what is wrong.
pub fn cpu_list(text: &str) -> Result<Vec<RangeInclusive<u32>>, String> {
    id_list(text, CPUS)
}

/// The nodes of `linux.memoryPolicy`; the empty text is the empty list. The error says what is wrong.
pub fn node_list(text: &str) -> Result<Vec<RangeInclusive<u32>>, String> {
    id_list(text, NODES)
}

/// Numbers below `limit` and ranges of them, separated by commas, with spaces allowed around each.
/// Nothing is sorted or merged. The error says what is wrong.
pub fn id_list(text: &str, limit: u32) -> Result<Vec<RangeInclusive<u32>>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    text.split(',').map(|item| range(item.trim(), limit)).collect()
}

fn range(item: &str, limit: u32) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (number(first, limit)?, number(last, limit)?);
    if first > last {
        return Err(format!("the range {item:?} runs backwards"));
    }
    Ok(first..=last)
}

fn number(text: &str, limit: u32) -> Result<u32, String> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(format!("{text:?} is not a number"));
    }
    // What does not fit 32 bits is too large all the same.
    match digits.parse::<u32>() {
        Ok(number) if number < limit => Ok(number),
        _ => Err(format!("{digits} is more than {}", limit - 1)),
    }
}
