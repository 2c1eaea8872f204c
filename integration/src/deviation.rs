//! Judging a test: it passes, it is skipped for a reason that is printed, or `deviations.toml` says
//! that this runtime differs, and then it must really fail.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use serde::Deserialize;

use crate::Runtime;

/// One line of `deviations.toml`.
#[derive(Debug, Deserialize)]
struct Deviation {
    /// "subject::test".
    test: String,
    /// "runc 1.1": matched against the beginning of name and version.
    runtime: String,
    /// Why this is no fault of the test.
    reason: String,
    /// It is a race, and sometimes passes.
    #[serde(default)]
    race: bool,
}

#[derive(Debug, Deserialize)]
struct Deviations {
    deviation: Vec<Deviation>,
}

/// What [`skip`] unwinds with.
struct Skipped(String);

/// Ends the running test: it cannot be judged here, for this reason.
pub fn skip(reason: impl Into<String>) -> ! {
    resume_unwind(Box::new(Skipped(reason.into())))
}

/// Runs a test's body and judges it. The test's name is the name of the function that holds the closure.
pub fn check<F: FnOnce()>(body: F) {
    let name = test_name(std::any::type_name::<F>());
    let runtime = Runtime::get();
    let table: Deviations = toml::from_str(include_str!("../deviations.toml")).expect("deviations.toml");
    let deviation =
        table.deviation.iter().find(|d| d.test == name && runtime.version.starts_with(&d.runtime));
    // Straight to the descriptor: what the test harness captures of a test that passes is never shown.
    let say = |text: String| {
        let _ = std::io::stderr().write_all(text.as_bytes());
    };
    match (catch_unwind(AssertUnwindSafe(body)), deviation) {
        (Ok(()), None) => {}
        (Ok(()), Some(d)) if d.race => {}
        (Ok(()), Some(d)) => {
            panic!("{} passes {name}, but deviations.toml says it fails: {}", runtime.version, d.reason)
        }
        (Err(cause), deviation) => match (cause.downcast::<Skipped>(), deviation) {
            (Ok(skipped), _) => say(format!("skipped {name}: {}\n", skipped.0)),
            (Err(_), Some(d)) => say(format!("deviates {name}: {} ({})\n", d.reason, d.runtime)),
            (Err(cause), None) => resume_unwind(cause),
        },
    }
}

/// "suite::lifecycle::kill_by_name::{{closure}}" is "lifecycle::kill_by_name".
fn test_name(closure: &str) -> &str {
    let name = closure.split("::{{closure}}").next().unwrap_or(closure);
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_by_its_subject_and_function() {
        assert_eq!(test_name("suite::lifecycle::kill_by_name::{{closure}}"), "lifecycle::kill_by_name");
    }
}
