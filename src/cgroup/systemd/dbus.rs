//! A connection to a systemd manager: method calls and signals over a Unix socket.
//!
//! As root it is the manager's own socket, which needs no message bus; otherwise, and where that is
//! not reachable, the bus. Authentication and greeting are sent together with the first call.
//! Every wait has a bound.

use std::io::{self, ErrorKind, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use super::message::{Body, ERROR, HEADER, METHOD_RETURN, Message, SIGNAL, Target};
use crate::error::{Error, Kind, Result};

/// How long systemd may take for a job.
const TIMEOUT: Duration = Duration::from_secs(30);

const MANAGER: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};
const PROPERTIES: Target = Target { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
const BUS: Target = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};
const JOBS: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";

/// No identity is claimed: the peer takes the one that the kernel tells it, which is right in a
/// user namespace too.
const AUTHENTICATION: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
    /// Bytes that were read but not used.
    buffer: Vec<u8>,
    /// Jobs that ended while we waited for something else: (path, result).
    ended: Vec<(String, String)>,
    deadline: Instant,
}

/// Why a call gave no answer.
#[derive(Debug)]
pub(super) enum Failure {
    Io(io::Error),
    /// systemd's answer: the name of the error, and its explanation.
    Refused {
        name: String,
        message: String,
    },
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl Failure {
    /// As the cause of `what`.
    pub(super) fn during(self, what: String) -> Error {
        match self {
            Failure::Io(error) => Error::io(what, "D-Bus", error),
            Failure::Refused { name, message } if message.is_empty() => {
                Error::new(Kind::Internal, what).because(name)
            }
            Failure::Refused { name, message } => {
                // systemd's own wording first; engines match "permission denied" in it.
                Error::new(Kind::Internal, what).because(format!("{message} ({name})"))
            }
        }
    }

    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Failure::Refused { name, .. } if name == wanted)
    }
}

impl Connection {
    /// Connects to the system's manager, or with `user` to that of our own user.
    pub(super) fn open(user: bool) -> Result<Connection> {
        let what = || {
            let whose = if user { "user's" } else { "system's" };
            format!("cannot connect to the {whose} systemd")
        };
        Connection::try_open(user)
            .map_err(|error| Error::io(what(), "connect", error).of_kind(Kind::Unsupported))
    }

    fn try_open(user: bool) -> io::Result<Connection> {
        if !user {
            return match Connection::greet(UnixStream::connect("/run/systemd/private"), false) {
                Ok(connection) => Ok(connection),
                // Not root, or the socket is not mounted here: over the bus.
                Err(_) => Connection::greet(UnixStream::connect("/run/dbus/system_bus_socket"), true),
            };
        }
        let directory = std::env::var("XDG_RUNTIME_DIR").ok().filter(|path| path.starts_with('/'));
        let private = directory.as_ref().map(|path| Path::new(path).join("systemd/private"));
        if let Some(Ok(connection)) = private.map(|path| Connection::greet(UnixStream::connect(path), false))
        {
            return Ok(connection);
        }
        let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
        match (address, directory) {
            (Some(address), _) => Connection::greet(connect_address(&address), true),
            (None, Some(path)) => Connection::greet(UnixStream::connect(Path::new(&path).join("bus")), true),
            (None, None) => {
                let message = "neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set";
                Err(io::Error::new(ErrorKind::NotFound, message))
            }
        }
    }

    fn greet(stream: io::Result<UnixStream>, bus: bool) -> io::Result<Connection> {
        let deadline = Instant::now() + TIMEOUT;
        let mut connection =
            Connection { stream: stream?, serial: 0, buffer: Vec::new(), ended: Vec::new(), deadline };
        let mut greeting = AUTHENTICATION.to_vec();
        if bus {
            greeting.extend(Body::default().call(connection.next_serial(), &BUS, "Hello"));
            let subscription = Body::default().text(JOBS);
            greeting.extend(subscription.call(connection.next_serial(), &BUS, "AddMatch"));
        }
        connection.stream.set_write_timeout(Some(TIMEOUT))?;
        connection.stream.write_all(&greeting)?;
        // "DATA", then "OK" with the server's id.
        loop {
            let line = connection.line()?;
            if line.starts_with("OK ") {
                return Ok(connection);
            }
            if line.trim_end() != "DATA" {
                let message = format!("authentication refused: {}", line.trim_end());
                return Err(io::Error::new(ErrorKind::PermissionDenied, message));
            }
        }
    }

    /// Calls a method of the manager and waits for its answer.
    pub(super) fn manager(&mut self, member: &str, body: Body) -> std::result::Result<Message, Failure> {
        self.call(&MANAGER, member, body)
    }

    /// A property of the manager that is text, such as `ControlGroup`.
    pub(super) fn property(&mut self, name: &str) -> std::result::Result<String, Failure> {
        let answer = self.call(&PROPERTIES, "Get", Body::default().text(MANAGER.interface).text(name))?;
        match answer.texts("v").as_deref() {
            Some([value]) => Ok(value.clone()),
            _ => Err(unexpected("a property that is no text").into()),
        }
    }

    /// Starts a job, and waits for its end: `done`, `failed`, `canceled`, `timeout` or `dependency`.
    pub(super) fn job(&mut self, member: &str, body: Body) -> std::result::Result<String, Failure> {
        let answer = self.manager(member, body)?;
        let Some([job]) = answer.texts("o").and_then(|texts| <[String; 1]>::try_from(texts).ok()) else {
            return Err(unexpected("an answer without a job").into());
        };
        loop {
            if let Some(index) = self.ended.iter().position(|(path, _)| *path == job) {
                return Ok(self.ended.swap_remove(index).1);
            }
            let message = self.message()?;
            self.note(&message);
        }
    }

    fn call(&mut self, to: &Target, member: &str, body: Body) -> std::result::Result<Message, Failure> {
        self.deadline = Instant::now() + TIMEOUT;
        let serial = self.next_serial();
        self.stream.write_all(&body.call(serial, to, member))?;
        loop {
            let message = self.message()?;
            match message.kind {
                METHOD_RETURN if message.reply_to == serial => return Ok(message),
                ERROR if message.reply_to == serial => {
                    return Err(Failure::Refused { message: message.explanation(), name: message.error });
                }
                _ => self.note(&message),
            }
        }
    }

    fn note(&mut self, message: &Message) {
        if message.kind == SIGNAL
            && message.member == "JobRemoved"
            && let Some([_, path, _, result]) =
                message.texts("uoss").and_then(|texts| <[String; 4]>::try_from(texts).ok())
        {
            self.ended.push((path, result));
        }
    }

    fn next_serial(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    fn message(&mut self) -> io::Result<Message> {
        while self.buffer.len() < HEADER {
            self.fill()?;
        }
        let header: &[u8; HEADER] =
            self.buffer[..HEADER].try_into().map_err(|_| unexpected("a short header"))?;
        let length = Message::length(header).ok_or_else(|| unexpected("no D-Bus message"))?;
        while self.buffer.len() < length {
            self.fill()?;
        }
        let message =
            Message::parse(&self.buffer[..length]).ok_or_else(|| unexpected("a malformed message"))?;
        self.buffer.drain(..length);
        Ok(message)
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                return Ok(
                    String::from_utf8_lossy(&self.buffer.drain(..=end).collect::<Vec<u8>>()).into_owned()
                );
            }
            if self.buffer.len() > 4096 {
                return Err(unexpected("an endless line"));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT));
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")),
            Ok(length) => {
                self.buffer.extend(&chunk[..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT))
            }
            Err(error) => Err(error),
        }
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("systemd sent {what}"))
}

/// The first Unix socket of a D-Bus address: `unix:path=/run/user/1000/bus,guid=...;...`.
fn connect_address(address: &str) -> io::Result<UnixStream> {
    for (key, value) in address
        .split(';')
        .filter_map(|one| one.strip_prefix("unix:"))
        .flat_map(|one| one.split(','))
        .filter_map(|pair| pair.split_once('='))
    {
        match key {
            "path" => return UnixStream::connect(unescape(value)),
            "abstract" => {
                return UnixStream::connect_addr(&SocketAddr::from_abstract_name(unescape(value))?);
            }
            _ => {}
        }
    }
    Err(io::Error::new(ErrorKind::InvalidInput, format!("no Unix socket in D-Bus address {address:?}")))
}

/// `%2f` for a slash, and so on.
fn unescape(value: &str) -> String {
    let mut parts = value.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend(format!("%{part}").bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(unescape("/run/a%20b%zz"), "/run/a b%zz");
        let error = connect_address("tcp:host=x").expect_err("no socket");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = connect_address("tcp:host=x;unix:path=/nowhere,guid=1").expect_err("no such socket");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
