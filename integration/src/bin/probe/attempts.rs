//! Things a contained process may or may not be able to do. Each is tried, and the outcome told as
//! `{"ok": WHAT}` or `{"errno": NUMBER}`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use rustix::fs::{CWD, FileType, Mode, StatVfsMountFlags, chmodat, makedev, mknodat, statfs, statvfs};
use rustix::mount::{MountFlags, mount};
use rustix::system::sethostname;
use serde_json::{Value, json};

/// Makes one attempt, "VERB:PATH". Panics on an unknown verb: a misspelt attempt must not look refused.
pub fn attempt(attempt: &str) -> Value {
    let (verb, object) = attempt.split_once(':').unwrap_or((attempt, ""));
    let outcome = match verb {
        "read" => read(object),
        "write" => OpenOptions::new().write(true).custom_flags(0o4000).open(object).map(|_| json!(true)),
        "put" => put(object),
        "create" => create(object),
        "list" => list(object),
        "mkdir" => fs::create_dir(object).and_then(|()| fs::remove_dir(object)).map(|()| json!(true)),
        "stat" => stat(object),
        "link" => fs::read_link(object).map(|target| json!(target)),
        "mknod" => mknod(object),
        "mount" => {
            mount("attempt", object, "tmpfs", MountFlags::empty(), None).map_err(io).map(|()| json!(true))
        }
        "remount" => {
            rustix::mount::mount_remount(object, MountFlags::BIND, c"").map_err(io).map(|()| json!(true))
        }
        "umount" => unmount(object),
        "chmod" => chmodat(CWD, object, Mode::from_raw_mode(0o700), rustix::fs::AtFlags::empty())
            .map_err(io)
            .map(|()| json!(true)),
        "exec" => std::process::Command::new(object).status().map(|status| json!(status.code())),
        "statfs" => filesystem(object),
        "connect" => std::os::unix::net::UnixStream::connect(object).map(|_| json!(true)),
        "notify" => notify(object),
        "sethostname" => sethostname(object.as_bytes()).map_err(io).map(|()| json!(true)),
        _ => panic!("unknown attempt {attempt}"),
    };
    match outcome {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "errno": error.raw_os_error(), "error": error.to_string() }),
    }
}

fn io(errno: rustix::io::Errno) -> io::Error {
    io::Error::from(errno)
}

/// At most the first 4096 bytes, as text.
fn read(path: &str) -> io::Result<Value> {
    let mut bytes = vec![0; 4096];
    let n = OpenOptions::new().read(true).custom_flags(0o4000).open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..n]).into_owned().into())
}

/// Sends a message to the socket that NOTIFY_SOCKET names, as sd_notify(3).
fn notify(message: &str) -> io::Result<Value> {
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    let sent = std::os::unix::net::UnixDatagram::unbound()?.send_to(message.as_bytes(), path)?;
    Ok(json!(sent))
}

/// "PATH=TEXT": writes the text to a file that exists.
fn put(object: &str) -> io::Result<Value> {
    let (path, text) = object.split_once('=').unwrap_or((object, ""));
    let mut file = OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(json!(true))
}

fn create(path: &str) -> io::Result<Value> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::remove_file(path)?;
    Ok(json!(true))
}

fn list(path: &str) -> io::Result<Value> {
    let mut names: Vec<String> =
        fs::read_dir(path)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(json!(names))
}

fn stat(path: &str) -> io::Result<Value> {
    let meta = fs::symlink_metadata(path)?;
    let kind = match meta.file_type() {
        t if t.is_dir() => "dir",
        t if t.is_file() => "file",
        t if t.is_symlink() => "link",
        t if t.is_char_device() => "c",
        t if t.is_block_device() => "b",
        t if t.is_fifo() => "p",
        _ => "socket",
    };
    let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    Ok(
        json!({ "kind": kind, "mode": format!("{:o}", meta.mode() & 0o7777), "uid": meta.uid(), "gid": meta.gid(),
               "size": meta.size(), "ino": meta.ino(), "major": major, "minor": minor }),
    )
}

/// Makes a node for /dev/null and opens it.
fn mknod(path: &str) -> io::Result<Value> {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(1, 3)).map_err(io)?;
    let opened = fs::File::open(path);
    fs::remove_file(path)?;
    opened.map(|_| json!(true))
}

fn unmount(path: &str) -> io::Result<Value> {
    rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH).map_err(io)?;
    Ok(json!(true))
}

/// The magic number, and whether the mount is read-only.
fn filesystem(path: &str) -> io::Result<Value> {
    let kind = statfs(path).map_err(io)?.f_type;
    let read_only = statvfs(path).map_err(io)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    Ok(json!({ "magic": format!("{kind:x}"), "readOnly": read_only }))
}
