//! The one error of the runtime: a complete sentence that says what was tried, where in
//! `config.json` it was asked for, which call failed, and why.
//!
//! ```text
//! cannot mount sysfs on /sys (config.json#/mounts/5): fsmount: operation not permitted
//! ```

use std::fmt;

use nix::errno::Errno;

/// What every function of the runtime that can fail returns.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it is. The command line chooses exit codes by it; nothing else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// config.json, process.json or a resources document violates the specification.
    InvalidSpec,
    /// The command line is wrong.
    InvalidArgument,
    /// No such container.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// The container's status forbids the operation.
    WrongStatus,
    /// Legal, but this kernel, machine or build cannot do it.
    Unsupported,
    /// The kernel refused a call.
    Kernel,
    /// A hook, a peer or corten itself misbehaved.
    Internal,
}

/// One failure, worded once where it happens. Boxed, so that `Result` stays small.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    what: String,
    place: Option<String>,
    call: Option<String>,
    cause: Option<String>,
    errno: Option<Errno>,
    /// The cause says what the errno says.
    worded: bool,
}

impl Error {
    /// `what` is "cannot VERB OBJECT".
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            what: what.into(),
            place: None,
            call: None,
            cause: None,
            errno: None,
            worded: false,
        }))
    }

    /// The kernel refused `call` while we tried `what`.
    pub fn kernel(what: impl Into<String>, call: &str, errno: Errno) -> Error {
        Error::new(Kind::Kernel, what).call(call, errno)
    }

    /// An I/O failure of the standard library during `call`.
    pub fn io(what: impl Into<String>, call: &str, cause: std::io::Error) -> Error {
        match cause.raw_os_error() {
            Some(raw) => Error::kernel(what, call, Errno::from_raw(raw)),
            None => {
                let mut error = Error::new(Kind::Kernel, what).because(cause);
                error.0.call = Some(call.to_owned());
                error
            }
        }
    }

    /// The JSON pointer in config.json that asked for it.
    #[must_use]
    pub fn at(self, pointer: impl AsRef<str>) -> Error {
        self.at_in("config.json", pointer)
    }

    /// As [`Error::at`], in another document.
    #[must_use]
    pub fn at_in(mut self, document: &str, pointer: impl AsRef<str>) -> Error {
        if self.0.place.is_none() && !pointer.as_ref().is_empty() {
            self.0.place = Some(format!("{document}#{}", pointer.as_ref()));
        }
        self
    }

    /// The kernel refused this call.
    #[must_use]
    pub fn call(mut self, call: &str, errno: Errno) -> Error {
        self.0.call = Some(call.to_owned());
        self.0.errno = Some(errno);
        self
    }

    /// Remembers the errno for those who ask, where the cause says it in better words.
    #[must_use]
    pub fn errno_only(mut self, errno: Errno) -> Error {
        self.0.errno = Some(errno);
        self.0.worded = true;
        self
    }

    /// The reason, in words or as another error.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Error {
        self.0.cause = Some(cause.to_string());
        self
    }

    /// One more fact behind the reason: "because; more".
    #[must_use]
    pub fn and(mut self, more: impl fmt::Display) -> Error {
        self.0.cause = Some(match self.0.cause {
            Some(cause) => format!("{cause}; {more}"),
            None => more.to_string(),
        });
        self
    }

    /// Puts a sentence before this one, which becomes its cause: "what: self".
    #[must_use]
    pub fn during(mut self, what: impl fmt::Display) -> Error {
        self.0.what = format!("{what}: {}", self.0.what);
        self
    }

    /// The same sentence with another kind.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Error {
        self.0.kind = kind;
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the kernel answered, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        self.0.errno
    }
}

/// The kernel's words for an errno, in lower case, as Go, and so every engine, writes them: engines
/// and scripts match "no such file or directory", "device or resource busy" and others, whatever C
/// library we are built with.
pub fn describe(errno: Errno) -> String {
    let text = match errno {
        Errno::EAGAIN => "resource temporarily unavailable",
        Errno::EBADF => "bad file descriptor",
        Errno::EBUSY => "device or resource busy",
        Errno::EDQUOT => "disk quota exceeded",
        Errno::EIO => "input/output error",
        Errno::ELOOP => "too many levels of symbolic links",
        Errno::ENAMETOOLONG => "file name too long",
        Errno::ENOMEM => "cannot allocate memory",
        Errno::ENOSYS => "function not implemented",
        Errno::EOPNOTSUPP => "operation not supported",
        Errno::ERANGE => "numerical result out of range",
        Errno::EXDEV => "invalid cross-device link",
        other => other.desc(),
    };
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // "RFS specific error" and its like keep their capitals.
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        f.write_str(&inner.what)?;
        if let Some(place) = &inner.place {
            write!(f, " ({place})")?;
        }
        if let Some(call) = &inner.call {
            write!(f, ": {call}")?;
        }
        if let Some(errno) = inner.errno.filter(|_| !inner.worded) {
            write!(f, ": {}", describe(errno))?;
        }
        if let Some(cause) = &inner.cause {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {self}", self.0.kind)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_sentence() {
        let error = Error::kernel("cannot mount sysfs on /sys", "fsmount", Errno::EPERM).at("/mounts/5");
        assert_eq!(
            error.to_string(),
            "cannot mount sysfs on /sys (config.json#/mounts/5): fsmount: operation not permitted"
        );
    }

    #[test]
    fn words_are_those_that_engines_match() {
        assert_eq!(describe(Errno::ENOENT), "no such file or directory");
        assert_eq!(describe(Errno::EACCES), "permission denied");
        assert_eq!(describe(Errno::EISDIR), "is a directory");
        assert_eq!(describe(Errno::ENOTDIR), "not a directory");
        assert_eq!(describe(Errno::EPERM), "operation not permitted");
        assert_eq!(describe(Errno::ESRCH), "no such process");
        assert_eq!(describe(Errno::EOVERFLOW), "value too large for defined data type");
        assert_eq!(describe(Errno::ENOEXEC), "exec format error");
        assert_eq!(describe(Errno::EINVAL), "invalid argument");
        assert_eq!(describe(Errno::EROFS), "read-only file system");
    }
}
