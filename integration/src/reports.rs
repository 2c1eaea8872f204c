//! A fifo through which a container reports to its test.
//!
//! It is open for reading and writing here, so that nobody blocks in open(2) and no end of file comes
//! between two writers.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::host::limit;
use crate::invocation::readable_within;

/// The test's end of a fifo.
#[derive(Debug)]
pub struct Reports {
    fifo: File,
    pending: Vec<u8>,
}

impl Reports {
    /// Makes a fifo that everybody may write to.
    pub fn new(path: &Path) -> Reports {
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("mkfifo");
        // umask would take the write bits that a container's user needs.
        rustix::fs::chmod(path, Mode::from_raw_mode(0o666)).expect("chmod");
        let fifo = OpenOptions::new().read(true).write(true).open(path).expect("open a fifo");
        Reports { fifo, pending: Vec::new() }
    }

    /// The next line that a container writes. Panics when none comes in time.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let end = Instant::now() + limit() / 3;
        loop {
            if let Some(at) = self.pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=at).collect();
                return String::from_utf8_lossy(&line[..at]).into_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(readable_within(&self.fifo, left), "no report came, only {:?}", self.pending);
            let mut buffer = [0; 4096];
            let n = self.fifo.read(&mut buffer).expect("read a fifo");
            self.pending.extend_from_slice(&buffer[..n]);
        }
    }

    /// Writes a line, for a container that waits on the other end.
    pub fn tell(&mut self, line: &str) {
        self.fifo.write_all(format!("{line}\n").as_bytes()).expect("write to a fifo");
    }
}
