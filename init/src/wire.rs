//! The messages between the init process and whoever set it going: one datagram each.
//!
//! From the init process to the parent (and, after `create`, to `start`): [`Message`]. The answer
//! is one byte, [`GO`]; end of file instead of it means that the parent is gone or gave up.

use crate::program::{Fault, Sync};

/// "Continue".
pub const GO: &[u8] = b"g";
/// What `start` says to a container that waits. A connection without it is only somebody looking.
pub const START: &[u8] = b"start";

/// The most bytes of a program's head that come with a failed execve(2).
pub const HEAD: usize = 1024;
/// The most bytes of words or names in a message.
const WORDS: usize = 4096;
/// The length of the longest message.
pub const LONGEST: usize = 16 + 32 + WORDS + HEAD;

const FORKED: u8 = 1;
const SYNC: u8 = 2;
const TERMINAL: u8 = 3;
const COPY_UP: u8 = 4;
const LISTENER: u8 = 5;
const WARNING: u8 = 6;
const FAULT: u8 = 7;
const HOOK: u8 = 8;

/// What the init process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// The container goes on in another child of the parent's, whose pidfd comes along.
    Forked,
    Sync {
        step: u32,
        what: Sync,
    },
    /// With the master of the terminal.
    Terminal {
        step: u32,
    },
    /// With the new file system and the directory to copy from.
    CopyUp {
        step: u32,
    },
    /// With the listener of the seccomp filter.
    Listener {
        step: u32,
    },
    /// Something that was skipped; no answer is expected.
    Warning {
        step: u32,
        call: &'a [u8],
        errno: i32,
        number: u32,
    },
    /// A step failed; the process exits.
    Fault(Report<'a>),
    /// A startContainer hook ended with this wait status, or was killed at its timeout; the process exits.
    Hook {
        step: u32,
        status: i32,
        timed_out: bool,
        words: &'a [u8],
        output: &'a [u8],
    },
}

/// A [`Fault`] as it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    pub step: u32,
    pub errno: i32,
    /// The call that failed.
    pub call: &'a [u8],
    /// The step in words, where the receiver has no plan.
    pub words: &'a [u8],
    /// The first bytes of the file that could not be executed, or what the kernel says of a mount.
    pub head: &'a [u8],
}

impl<'a> Report<'a> {
    /// A fault of a step, without words.
    pub fn new(step: u32, fault: Fault) -> Report<'static> {
        Report { step, errno: fault.errno.0, call: fault.call.as_bytes(), words: b"", head: b"" }
    }
}

fn number(what: Sync) -> u32 {
    match what {
        Sync::IdMaps => 0,
        Sync::TimeOffsets => 1,
        Sync::Network => 2,
        Sync::Hooks => 3,
        Sync::Ready => 4,
        Sync::Cgroup => 5,
    }
}

impl<'a> Message<'a> {
    /// Writes the message into `buffer` and returns how long it is.
    pub fn encode(&self, buffer: &mut [u8; LONGEST]) -> usize {
        let (kind, a, b, c, texts): (u8, u32, u32, u32, [&[u8]; 3]) = match *self {
            Message::Forked => (FORKED, 0, 0, 0, [b""; 3]),
            Message::Sync { step, what } => (SYNC, step, number(what), 0, [b""; 3]),
            Message::Terminal { step } => (TERMINAL, step, 0, 0, [b""; 3]),
            Message::CopyUp { step } => (COPY_UP, step, 0, 0, [b""; 3]),
            Message::Listener { step } => (LISTENER, step, 0, 0, [b""; 3]),
            Message::Warning { step, call, errno, number } => {
                (WARNING, step, errno as u32, number, [call, b"", b""])
            }
            Message::Fault(report) => {
                (FAULT, report.step, report.errno as u32, 0, [report.call, report.words, report.head])
            }
            Message::Hook { step, status, timed_out, words, output } => {
                (HOOK, step, status as u32, u32::from(timed_out), [b"", words, output])
            }
        };
        buffer[0] = kind;
        for (index, value) in [a, b, c].into_iter().enumerate() {
            buffer[4 + index * 4..8 + index * 4].copy_from_slice(&value.to_ne_bytes());
        }
        let mut end = 16;
        for (text, most) in texts.into_iter().zip([32 - 6, WORDS, HEAD]) {
            let text = &text[..text.len().min(most)];
            buffer[end..end + 2].copy_from_slice(&(text.len() as u16).to_ne_bytes());
            buffer[end + 2..end + 2 + text.len()].copy_from_slice(text);
            end += 2 + text.len();
        }
        end
    }

    /// Reads a message; `None` if it is none.
    pub fn decode(buffer: &'a [u8]) -> Option<Message<'a>> {
        let kind = *buffer.first()?;
        let word = |index: usize| -> Option<u32> {
            let bytes = buffer.get(4 + index * 4..8 + index * 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let (step, b, c) = (word(0)?, word(1)?, word(2)?);
        let mut rest = buffer.get(16..)?;
        let mut texts: [&[u8]; 3] = [b""; 3];
        for text in &mut texts {
            let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
            *text = rest.get(2..2 + length)?;
            rest = rest.get(2 + length..)?;
        }
        let [call, words, head] = texts;
        Some(match kind {
            FORKED => Message::Forked,
            SYNC => Message::Sync {
                step,
                what: [
                    Sync::IdMaps,
                    Sync::TimeOffsets,
                    Sync::Network,
                    Sync::Hooks,
                    Sync::Ready,
                    Sync::Cgroup,
                ]
                .into_iter()
                .find(|what| number(*what) == b)?,
            },
            TERMINAL => Message::Terminal { step },
            COPY_UP => Message::CopyUp { step },
            LISTENER => Message::Listener { step },
            WARNING => Message::Warning { step, call, errno: b as i32, number: c },
            FAULT => Message::Fault(Report { step, errno: b as i32, call, words, head }),
            HOOK => Message::Hook { step, status: b as i32, timed_out: c == 1, words, output: head },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let report =
            Report { step: 7, errno: 2, call: b"execve", words: b"cannot execute /a", head: b"\x7fELF" };
        let messages = [
            Message::Forked,
            Message::Sync { step: 3, what: Sync::Ready },
            Message::Sync { step: 0, what: Sync::Cgroup },
            Message::Terminal { step: 9 },
            Message::CopyUp { step: 9 },
            Message::Listener { step: 1 },
            Message::Warning { step: 5, call: b"prctl", errno: 1, number: 12 },
            Message::Fault(report),
            Message::Hook { step: 8, status: 256, timed_out: true, words: b"error running", output: b"oops" },
        ];
        for message in messages {
            let mut buffer = [0; LONGEST];
            let length = message.encode(&mut buffer);
            assert_eq!(Message::decode(&buffer[..length]), Some(message));
            for cut in 0..length {
                assert_eq!(Message::decode(&buffer[..cut]), None, "{message:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn the_longest_message_fits() {
        let long = [b'x'; 70_000];
        let report = Report { step: u32::MAX, errno: i32::MAX, call: &long, words: &long, head: &long };
        let mut buffer = [0; LONGEST];
        assert!(Message::Fault(report).encode(&mut buffer) <= LONGEST);
    }
}
