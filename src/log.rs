//! Log records in logrus's shapes, because engines parse runc's log: containerd and Docker show the
//! message of the last `"level":"error"` record of the `--log` file as the reason of a failure.
//!
//! Every record is one line, in a file one write(2). This module must never block for long and
//! never fail the operation that it reports: a record that a full pipe does not take is dropped.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::clock;
use crate::error::{Error, Kind, Result};

/// How long a full pipe or a stopped terminal may delay one record, in milliseconds.
const PATIENCE: u16 = 1000;

/// What a pipe takes in one piece once poll(2) says it is writable: PIPE_BUF of pipe(7).
const PIECE: usize = 4096;

/// `--log-format`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=error msg="..."`
    #[default]
    Text,
    /// `{"level":"error","msg":"...","time":"..."}`
    Json,
    /// `error: ...`, for a person at a terminal.
    Plain,
}

/// The destination of all records of this process.
#[derive(Debug)]
pub struct Log {
    /// Absent: standard error.
    file: Option<File>,
    format: Format,
    level: LevelFilter,
}

impl Log {
    /// A log on standard error.
    pub fn stderr(format: Format, debug: bool) -> Log {
        Log { file: None, format, level: level(debug) }
    }

    /// A log that is appended to `path`, which is created (0644) if need be.
    ///
    /// # Errors
    /// The file cannot be opened. A FIFO that nobody reads is such a failure (ENXIO), because waiting
    /// for its reader would be waiting without a bound.
    pub fn file(path: &Path, format: Format, debug: bool) -> Result<Log> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|e| Error::io(format!("cannot open log file {}", path.display()), "open", e))?;
        Ok(Log { file: Some(file), format, level: level(debug) })
    }

    /// Makes this the log of the process.
    ///
    /// # Errors
    /// There is one already.
    pub fn install(self) -> Result<()> {
        tracing::subscriber::set_global_default(self)
            .map_err(|e| Error::new(Kind::Internal, "cannot install the log").because(e))
    }
}

fn level(debug: bool) -> LevelFilter {
    if debug { LevelFilter::DEBUG } else { LevelFilter::INFO }
}

/// Writes `line` where possible, in one call where the file allows it.
fn deliver(fd: BorrowedFd, line: &[u8]) {
    let kind = nix::sys::stat::fstat(fd).map_or(0, |stat| stat.st_mode & libc::S_IFMT);
    let mut rest = line;
    while !rest.is_empty() {
        let piece = if kind == libc::S_IFREG { rest } else { &rest[..rest.len().min(PIECE)] };
        if kind != libc::S_IFREG && !writable(fd) {
            return;
        }
        match nix::unistd::write(fd, piece) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return,
        }
    }
}

/// Waits, for a bounded time, until a write of [`PIECE`] bytes would not block.
fn writable(fd: BorrowedFd) -> bool {
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Ok(0) => return false,
            Ok(_) => return fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT)),
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut record = Record::new(*event.metadata().level());
        event.record(&mut record);
        let line = record.line(self.format, &clock::seconds());
        match &self.file {
            Some(file) => deliver(file.as_fd(), line.as_bytes()),
            None => deliver(std::io::stderr().as_fd(), line.as_bytes()),
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// One event, as text.
#[derive(Debug)]
struct Record {
    level: &'static str,
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Record {
    fn new(level: Level) -> Record {
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        Record { level, message: String::new(), fields: Vec::new() }
    }

    /// The record in `format`, with its newline.
    fn line(mut self, format: Format, time: &str) -> String {
        // logrus writes fields in the order of their names.
        self.fields.sort();
        let mut line = String::with_capacity(self.message.len() + 96);
        match format {
            Format::Text => {
                line.push_str(&format!("time=\"{time}\" level={} msg=", self.level));
                go_value(&mut line, &self.message);
                for (name, value) in &self.fields {
                    line.push(' ');
                    line.push_str(name);
                    line.push('=');
                    go_value(&mut line, value);
                }
            }
            Format::Json => {
                let fixed = [("level", self.level), ("msg", &self.message), ("time", time)];
                let fields = self.fields.iter().map(|(name, value)| (*name, value.as_str()));
                let members = fixed.into_iter().chain(fields);
                line = members
                    .map(|(name, value)| (name.to_owned(), Value::from(value)))
                    .collect::<Value>()
                    .to_string();
            }
            Format::Plain => {
                line.push_str(self.level);
                line.push_str(": ");
                line.push_str(&self.message);
                for (name, value) in &self.fields {
                    line.push_str(", ");
                    line.push_str(name);
                    line.push(' ');
                    line.push_str(value);
                }
            }
        }
        line.push('\n');
        line
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A value as logrus's text form has it: bare if it is one plain word, else quoted as Go quotes.
fn go_value(line: &mut String, value: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if value.chars().all(plain) {
        line.push_str(value);
    } else {
        go_quote(line, value);
    }
}

/// Go's strconv.Quote.
fn go_quote(line: &mut String, value: &str) {
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            '\u{07}' => line.push_str("\\a"),
            '\u{08}' => line.push_str("\\b"),
            '\u{0c}' => line.push_str("\\f"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\u{0b}' => line.push_str("\\v"),
            ' '..='~' => line.push(c),
            _ if c < '\u{80}' => line.push_str(&format!("\\x{:02x}", c as u32)),
            _ if c.is_control() || c.is_whitespace() => line.push_str(&format!("\\u{:04x}", c as u32)),
            _ => line.push(c),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const TIME: &str = "2026-11-20T16:38:45Z";

    fn record(message: &str, fields: &[(&'static str, &str)]) -> Record {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Record { level: "error", message: message.to_owned(), fields }
    }

    #[test]
    fn text_is_quoted_as_logrus_quotes() {
        for (message, quoted) in [
            ("plain", "plain"),
            ("two words", "\"two words\""),
            ("exec: \"sh\"\n", "\"exec: \\\"sh\\\"\\n\""),
            ("bell\u{7} esc\u{1b} \u{85} é", "\"bell\\a esc\\x1b \\u0085 é\""),
        ] {
            let line = record(message, &[]).line(Format::Text, TIME);
            assert_eq!(line, format!("time=\"{TIME}\" level=error msg={quoted}\n"));
        }
        assert_eq!(
            record("a b", &[("pid", "7"), ("error", "x y")]).line(Format::Text, TIME),
            format!("time=\"{TIME}\" level=error msg=\"a b\" error=\"x y\" pid=7\n")
        );
    }

    #[test]
    fn json_has_the_keys_that_engines_read() {
        assert_eq!(
            record("exec: \"sh\"", &[]).line(Format::Json, TIME),
            format!("{{\"level\":\"error\",\"msg\":\"exec: \\\"sh\\\"\",\"time\":\"{TIME}\"}}\n")
        );
    }

    #[test]
    fn a_person_reads_a_sentence() {
        assert_eq!(record("no way", &[("pid", "7")]).line(Format::Plain, TIME), "error: no way, pid 7\n");
    }

    #[test]
    fn records_are_appended_to_the_file() {
        let path = std::env::temp_dir().join(format!("corten-log-{}", std::process::id()));
        std::fs::write(&path, "before\n").unwrap();
        for debug in [false, true] {
            let log = Log::file(&path, Format::Json, debug).unwrap();
            tracing::subscriber::with_default(log, || {
                tracing::debug!("step");
                tracing::error!(pid = 3, "failed: {}", "why");
            });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "before");
        assert_eq!(lines.len(), 4);
        assert!(lines[1].starts_with(r#"{"level":"error","msg":"failed: why","pid":"3","time":""#), "{text}");
        assert!(lines[2].starts_with(r#"{"level":"debug","msg":"step","time":""#), "{text}");
    }

    #[test]
    fn a_full_pipe_does_not_block() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let line = vec![b'x'; 200_000];
        let start = std::time::Instant::now();
        deliver(writer.as_fd(), &line);
        assert!(start.elapsed().as_secs() < 10);
        drop(writer);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(!read.is_empty() && read.len() < line.len());
    }
}
