//! Values of flags, from text. Parsing is total and strict: a value is either understood as a whole
//! or refused, never partly used (CVE-2026-30892: `-u 1` became 0:0).

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::container::{Rootless, UserOption};

/// As glibc numbers them for every program; other C libraries keep more for themselves.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// `UID[:GID]`. 4294967295 is no id: setuid(2) takes it for "unchanged".
pub fn user(text: &str) -> std::result::Result<UserOption, String> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    Ok(UserOption { uid: id(uid)?, gid: gid.map(id).transpose()? })
}

/// A user or group id: decimal digits, below 4294967295.
pub fn id(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(id) if digits && id != u32::MAX => Ok(id),
        _ => Err(format!("{text:?} is not an id from 0 to 4294967294")),
    }
}

/// `NAME=VALUE`.
pub fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("", _)) | None => Err("not of the form NAME=VALUE".to_owned()),
        Some(_) => Ok(text.to_owned()),
    }
}

/// `true`, `false` or `auto`, and what else Go takes for a boolean.
pub fn rootless(text: &str) -> Result<Rootless, String> {
    match boolean(text) {
        Some(true) => Ok(Rootless::True),
        Some(false) => Ok(Rootless::False),
        None if text == "auto" => Ok(Rootless::Auto),
        None => Err("must be true, false or auto".to_owned()),
    }
}

/// Go's strconv.ParseBool.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A signal: its number, or its name in any case with or without SIG; also `RTMIN+2`, `RTMAX-1`.
pub fn signal(text: &str) -> Result<i32, String> {
    let unknown = || format!("unknown signal {text:?}");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(number) = realtime_signal(name) {
        return number.ok_or_else(unknown);
    }
    let name = match name {
        "POLL" => "IO",
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        name => name,
    };
    Signal::from_str(&format!("SIG{name}")).map(|signal| signal as i32).map_err(|_| unknown())
}

/// `Some(None)`: the name is meant for a real-time signal that does not exist.
fn realtime_signal(name: &str) -> Option<Option<i32>> {
    let (start, offset) = if let Some(offset) = name.strip_prefix("RTMIN") {
        (RTMIN, offset)
    } else {
        (RTMAX, name.strip_prefix("RTMAX")?)
    };
    let sign = if start == RTMIN { '+' } else { '-' };
    let offset = match offset.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
        None if offset.is_empty() => Some(0),
        _ => None,
    };
    let number =
        offset.map(|offset| if start == RTMIN { RTMIN.saturating_add(offset) } else { RTMAX - offset });
    Some(number.filter(|number| (RTMIN..=RTMAX).contains(number)))
}

/// A size in bytes as Docker's tools write it: `67108864`, `64m`, `1.5 GiB`; `-1` is no limit.
pub fn size(text: &str) -> Result<i64, String> {
    let invalid = || format!("{text:?} is no size such as 67108864, 64m or 1.5g");
    if text == "-1" {
        return Ok(-1);
    }
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let power = match unit.strip_prefix(' ').unwrap_or(unit) {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(invalid()),
    };
    if number.starts_with('.') || number.ends_with('.') {
        return Err(invalid());
    }
    let scale = 1_i64 << (10 * power);
    if let Ok(number) = number.parse::<i64>() {
        return number.checked_mul(scale).ok_or_else(invalid);
    }
    let bytes = number.parse::<f64>().map_err(|_| invalid())? * scale as f64;
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(invalid()) }
}

/// A time as Go's time.ParseDuration reads it: `5s`, `100ms`, `1m30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is no duration such as 5s or 100ms");
    let mut rest = text;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let mut seconds = 0.0;
    loop {
        let end = rest.find(|c| !is_number(c)).ok_or_else(invalid)?;
        let (number, behind) = rest.split_at(end);
        let (unit, behind) = behind.split_at(behind.find(is_number).unwrap_or(behind.len()));
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(invalid()),
        };
        seconds += number.parse::<f64>().map_err(|_| invalid())? * scale;
        rest = behind;
        if rest.is_empty() {
            return Duration::try_from_secs_f64(seconds).map_err(|_| invalid());
        }
    }
}

/// The name of a bundle's directory, as far as it can stand in an id.
pub fn bundle_name(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_default();
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let name: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(40).collect();
    if name.is_empty() { "container".to_owned() } else { name }
}

/// An id for a container of the bundle in `dir`: its name and something random.
pub fn generated_id(dir: &Path) -> String {
    // RandomState's keys come from getrandom(2).
    let random = RandomState::new().build_hasher().finish() as u32;
    format!("{}-{random:08x}", bundle_name(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_and_complete() {
        assert_eq!(user("1"), Ok(UserOption { uid: 1, gid: None }));
        assert_eq!(user("1:2"), Ok(UserOption { uid: 1, gid: Some(2) }));
        assert_eq!(user("4294967294:0"), Ok(UserOption { uid: 4_294_967_294, gid: Some(0) }));
        for text in
            ["", "-1", "+1", "4294967295", "4294967296", "1:", ":1", "1:2:3", "root", "1 ", "0x1", "1:-1"]
        {
            assert!(user(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("Usr1", 10),
            ("CLD", 17),
            ("SIGIOT", 6),
            ("POLL", 29),
            ("WINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("RTMIN+30", 64),
        ] {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        let unknown = [
            "",
            "SIG",
            "FOO",
            "-9",
            "65",
            "99999999999",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX-31",
            "RTMIN++1",
            "9 ",
        ];
        for text in unknown {
            assert_eq!(signal(text), Err(format!("unknown signal {text:?}")));
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", 0),
            ("67108864", 67_108_864),
            ("64m", 64 << 20),
            ("64M", 64 << 20),
            ("64MB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5 g", 3 << 29),
            ("2t", 2 << 40),
            ("7b", 7),
            ("-1", -1),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "m", "-2", "1x", "1mm", "1 mb ", ".5m", "5.m", "1.2.3k", "99999999999999999999", "9e9p"]
        {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, millis) in [("5s", 5000), ("100ms", 100), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "-5s", "s", "5x", "5s3", "1..5s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn variables_have_a_name() {
        assert!(variable("A=").is_ok() && variable("A=b=c").is_ok());
        assert!(variable("A").is_err() && variable("=b").is_err() && variable("").is_err());
    }

    #[test]
    fn generated_ids_are_ids_and_differ() {
        let ids = ["/", "/tmp", "/nowhere/at all"].map(|dir| generated_id(Path::new(dir)));
        for id in &ids {
            crate::container::store::check_id(id).unwrap();
        }
        assert!(ids[1].starts_with("tmp-"));
        assert_ne!(ids[1], generated_id(Path::new("/tmp")));
    }
}
