//! Wall-clock time in the one form that logs and states use: RFC 3339 in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, to the second, as logrus writes it: `2026-11-20T16:38:45Z`.
pub fn seconds() -> String {
    date_time(since_epoch()) + "Z"
}

/// Now, to the nanosecond without trailing zeros, as Go's RFC3339Nano: `2026-11-20T16:38:45.1203Z`.
pub fn now() -> String {
    with_fraction(since_epoch())
}

fn since_epoch() -> Duration {
    // A clock before 1970 is no reason to fail a container.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn with_fraction(time: Duration) -> String {
    let fraction = format!(".{:09}", time.subsec_nanos());
    date_time(time) + fraction.trim_end_matches('0').trim_end_matches('.') + "Z"
}

fn date_time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 0000-03-01, so that the leap day ends a year, in cycles of 400 years.
    let days = days + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year_of_cycle = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_798_761_599, "2026-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(date_time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn fractions_end_with_their_last_digit() {
        assert_eq!(with_fraction(Duration::new(0, 120_300_000)), "1970-01-01T00:00:00.1203Z");
        assert_eq!(with_fraction(Duration::new(5, 0)), "1970-01-01T00:00:05Z");
        assert_eq!(with_fraction(Duration::new(5, 1)), "1970-01-01T00:00:05.000000001Z");
    }
}
