//! The D-Bus wire format, as much of it as systemd's manager interface takes. Pure.
//!
//! <https://dbus.freedesktop.org/doc/dbus-specification.html#message-protocol-marshaling>

use std::borrow::Cow;

/// The value of a unit's property, with the D-Bus type that systemd wants for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    I32(i32),
    U64(u64),
    Text(String),
    Texts(Vec<String>),
    Pids(Vec<u32>),
    Bytes(Vec<u8>),
    /// (device node, number).
    Devices(Vec<(String, u64)>),
}

/// A property of a unit: systemd.resource-control(5), org.freedesktop.systemd1(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub name: Cow<'static, str>,
    pub value: Value,
}

/// Native byte order, which the first byte of a message announces.
const ENDIAN: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
const METHOD_CALL: u8 = 1;
const VERSION: u8 = 1;
/// A message of systemd's is some hundred bytes; more than this is nonsense.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// The fixed part of a header, with the length of its fields.
pub(super) const HEADER: usize = 16;

/// A method call in the making: its body is written first.
#[derive(Default)]
pub(super) struct Body {
    signature: String,
    bytes: Writer,
}

impl Body {
    pub(super) fn text(mut self, text: &str) -> Body {
        self.signature.push('s');
        self.bytes.text(text);
        self
    }

    pub(super) fn bool(mut self, value: bool) -> Body {
        self.signature.push('b');
        self.bytes.u32(value.into());
        self
    }

    pub(super) fn pids(mut self, pids: &[u32]) -> Body {
        self.signature += "au";
        self.bytes.pids(pids);
        self
    }

    pub(super) fn properties(mut self, properties: &[Property]) -> Body {
        self.signature += "a(sv)";
        self.bytes.array(8, |bytes| {
            for property in properties {
                bytes.align(8);
                bytes.text(&property.name);
                bytes.variant(&property.value);
            }
        });
        self
    }

    /// `StartTransientUnit` takes units to start along with the unit: none.
    pub(super) fn no_units(mut self) -> Body {
        self.signature += "a(sa(sv))";
        self.bytes.array(8, |_| {});
        self
    }

    pub(super) fn call(self, serial: u32, to: &Target, member: &str) -> Vec<u8> {
        let mut message = Writer::default();
        message.bytes.extend([ENDIAN, METHOD_CALL, 0, VERSION]);
        message.u32(self.bytes.bytes.len() as u32);
        message.u32(serial);
        message.array(8, |fields| {
            for (code, kind, text) in
                [(1, "o", to.path), (2, "s", to.interface), (3, "s", member), (6, "s", to.destination)]
            {
                fields.align(8);
                fields.bytes.push(code);
                fields.signature(kind);
                fields.text(text);
            }
            if !self.signature.is_empty() {
                fields.align(8);
                fields.bytes.push(8);
                fields.signature("g");
                fields.signature(&self.signature);
            }
        });
        message.align(8);
        message.bytes.extend(self.bytes.bytes);
        message.bytes
    }
}

/// Whom a call is for.
pub(super) struct Target {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.bytes.extend(value.to_ne_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(text.len() as u32);
        self.bytes.extend(text.bytes().chain([0]));
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(signature.len() as u8);
        self.bytes.extend(signature.bytes().chain([0]));
    }

    /// The length does not count the padding before the first element.
    fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Writer)) {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        elements(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn pids(&mut self, pids: &[u32]) {
        self.array(4, |bytes| pids.iter().for_each(|&pid| bytes.u32(pid)));
    }

    fn variant(&mut self, value: &Value) {
        self.signature(match value {
            Value::Bool(_) => "b",
            Value::I32(_) => "i",
            Value::U64(_) => "t",
            Value::Text(_) => "s",
            Value::Texts(_) => "as",
            Value::Pids(_) => "au",
            Value::Bytes(_) => "ay",
            Value::Devices(_) => "a(st)",
        });
        match value {
            Value::Bool(value) => self.u32((*value).into()),
            Value::I32(value) => self.u32(*value as u32),
            Value::U64(value) => self.u64(*value),
            Value::Text(text) => self.text(text),
            Value::Texts(texts) => self.array(4, |bytes| texts.iter().for_each(|text| bytes.text(text))),
            Value::Pids(pids) => self.pids(pids),
            Value::Bytes(value) => self.array(1, |bytes| bytes.bytes.extend(value)),
            Value::Devices(devices) => self.array(8, |bytes| {
                for (node, number) in devices {
                    bytes.align(8);
                    bytes.text(node);
                    bytes.u64(*number);
                }
            }),
        }
    }
}

/// What somebody sent us: of its header only what we look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) reply_to: u32,
    pub(super) member: String,
    pub(super) error: String,
    signature: String,
    body: Vec<u8>,
}

pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

impl Message {
    /// The whole length of the message that begins with `header`. None if it is none that we can read.
    pub(super) fn length(header: &[u8; HEADER]) -> Option<usize> {
        let mut reader = Reader { bytes: header, at: 4 };
        let body = reader.u32()? as usize;
        reader.u32()?;
        let fields = reader.u32()? as usize;
        let length = HEADER.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
        (header[0] == ENDIAN && header[3] == VERSION && length <= MOST_BYTES).then_some(length)
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader { bytes, at: 4 };
        let body = reader.u32()? as usize;
        let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
        reader.u32()?;
        let fields = HEADER.checked_add(reader.u32()? as usize)?;
        while reader.at < fields {
            reader.align(8);
            let code = reader.u8()?;
            match (code, reader.signature()?) {
                (3, "s") => message.member = reader.text()?.to_owned(),
                (4, "s") => message.error = reader.text()?.to_owned(),
                (5, "u") => message.reply_to = reader.u32()?,
                (8, "g") => message.signature = reader.signature()?.to_owned(),
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return None,
            }
        }
        let start = bytes.len().checked_sub(body)?;
        message.body = bytes[start..].to_vec();
        Some(message)
    }

    /// The body, if it has these types: of `s`, `o` and `u` alone, or a variant of text.
    pub(super) fn texts(&self, signature: &str) -> Option<Vec<String>> {
        if self.signature != signature {
            return None;
        }
        let mut reader = Reader { bytes: &self.body, at: 0 };
        signature
            .bytes()
            .map(|kind| match kind {
                b'u' => Some(reader.u32()?.to_string()),
                b'v' => (reader.signature()? == "s").then(|| reader.text().map(str::to_owned))?,
                _ => reader.text().map(str::to_owned),
            })
            .collect()
    }

    /// The explanation that most errors begin with.
    pub(super) fn explanation(&self) -> String {
        if !self.signature.starts_with('s') {
            return String::new();
        }
        Reader { bytes: &self.body, at: 0 }.text().unwrap_or_default().to_owned()
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_ne_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.u8()? == 0).then_some(text)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.u8()?.into();
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.u8()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target = Target { destination: "d", path: "/p", interface: "i" };

    /// Written out by hand after the specification's alignment rules.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_call_byte_by_byte() {
        let call = Body::default().text("ab").bool(true).call(7, &TARGET, "M");
        let expected: &[u8] = &[
            b'l', 1, 0, 1, 12, 0, 0, 0, 7, 0, 0, 0, 72, 0, 0, 0, // header, fields are 72 bytes
            1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'p', 0, 0, 0, 0, 0, 0, // path
            2, 1, b's', 0, 1, 0, 0, 0, b'i', 0, 0, 0, 0, 0, 0, 0, // interface
            3, 1, b's', 0, 1, 0, 0, 0, b'M', 0, 0, 0, 0, 0, 0, 0, // member
            6, 1, b's', 0, 1, 0, 0, 0, b'd', 0, 0, 0, 0, 0, 0, 0, // destination
            8, 1, b'g', 0, 2, b's', b'b', 0, // signature
            2, 0, 0, 0, b'a', b'b', 0, 0, 1, 0, 0, 0, // body
        ];
        assert_eq!(call, expected);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let call = Body::default().text("one").text("").text("drei").call(3, &TARGET, "Member");
        let header: &[u8; HEADER] = call[..HEADER].try_into().expect("header");
        assert_eq!(Message::length(header), Some(call.len()));
        let message = Message::parse(&call).expect("message");
        assert_eq!((message.kind, message.member.as_str()), (METHOD_CALL, "Member"));
        assert_eq!(message.texts("sss").expect("texts"), ["one", "", "drei"]);
        assert_eq!(message.texts("ss"), None);
        assert_eq!(message.explanation(), "one");
        for end in 0..call.len() {
            // Cut off anywhere: no panic. The body alone may be missing and still parse.
            let _ = Message::parse(&call[..end]).map(|message| message.texts("sss"));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let mut header = [0u8; HEADER];
        assert_eq!(Message::length(&header), None);
        header[0] = ENDIAN;
        header[3] = VERSION;
        assert_eq!(Message::length(&header), Some(HEADER));
        header[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(Message::length(&header), None);
    }
}
