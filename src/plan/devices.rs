//! /dev: the devices every container has, those that config.json asks for, and the links.

use std::path::{Path, PathBuf};

use corten_init::program::Op;

use super::create::Create;
use super::mounts;
use super::namespaces::Namespaces;
use super::{Builder, Origin};
use crate::error::{Kind, Result};
use crate::host::CAP_MKNOD;
use crate::spec::Device;

/// <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices>
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// <https://github.com/opencontainers/runtime-spec/blob/main/runtime-linux.md#file-descriptors>
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

pub(super) fn devices(b: &mut Builder, create: &Create, namespaces: &Namespaces) -> Result<()> {
    if mounts::binds_dev(create.spec.mounts.as_deref().unwrap_or_default()) {
        return Ok(());
    }
    let linux = create.spec.linux();
    let asked: Vec<_> = linux.devices.iter().flatten().collect();
    let own = |path: &str| asked.iter().any(|device| clean(&device.path) == Path::new(path));
    // Only the root of the initial user namespace may make nodes.
    let makes = namespaces.is_shared("user") && create.host.initial_userns && create.host.has(CAP_MKNOD);
    let mount_api = create.host.calls.mount_setattr;
    b.from(Origin::NONE);
    for (path, major, minor) in DEFAULT.into_iter().filter(|(path, ..)| !own(path)) {
        let text = b.text(path);
        let (mode, device) = (libc::S_IFCHR | 0o666, libc::makedev(major, minor));
        b.step(if makes {
            Op::MakeNode { path: text, mode, device, uid: 0, gid: 0 }
        } else {
            Op::BindNode { source: text, path: text, mode, device, mount_api }
        });
    }
    for (index, device) in asked.iter().enumerate() {
        b.from(Origin::item("/linux/devices", index));
        asked_for(b, device, makes, mount_api)?;
    }
    b.from(Origin::NONE);
    for (content, path) in LINKS {
        let (content, path) = (b.text(content), b.text(path));
        b.step(Op::Link { content, path, replace: false });
    }
    let (content, path) = (b.text("/proc/kcore"), b.text("/dev/core"));
    b.step(Op::LinkIfPresent { content, path });
    let (content, path) = (b.text("pts/ptmx"), b.text("/dev/ptmx"));
    b.step(Op::Link { content, path, replace: true });
    Ok(())
}

fn clean(path: &str) -> PathBuf {
    Path::new("/").join(path).components().collect()
}

fn asked_for(b: &mut Builder, device: &Device, makes: bool, mount_api: bool) -> Result<()> {
    let kind = match device.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        other => {
            return Err(b
                .refuse(Kind::InvalidSpec, format!("cannot make {}", device.path))
                .because(format!("unknown type {other:?}")));
        }
    };
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
    let mode = kind | device.file_mode.unwrap_or(0o666) & 0o7777;
    let number =
        if kind == libc::S_IFIFO { 0 } else { libc::makedev(number(device.major), number(device.minor)) };
    let path = b.text(&device.path);
    b.step(if makes || kind == libc::S_IFIFO {
        let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
        Op::MakeNode { path, mode, device: number, uid, gid }
    } else {
        Op::BindNode { source: path, path, mode, device: number, mount_api }
    });
    Ok(())
}
