use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command};

use nix::pty::openpty;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::*;

fn spawn(script: &str) -> (Child, OwnedFd) {
    let pty = openpty(None, None).unwrap();
    prepare(pty.master.as_fd()).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command.stdin(pty.slave.try_clone().unwrap()).stdout(pty.slave.try_clone().unwrap()).stderr(pty.slave);
    (command.spawn().unwrap(), pty.master)
}

/// Relays until the child has ended; `never` stands for the signals.
fn relay(child: &mut Child, master: OwnedFd, input: OwnedFd, output: OwnedFd) -> i32 {
    let (never, _keep) = std::io::pipe().unwrap();
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let input = private(input.as_fd(), OFlag::O_RDONLY).unwrap();
    let output = private(output.as_fd(), OFlag::O_WRONLY).unwrap();
    let mut relay = Relay::between(master, input, output, None).unwrap();
    let mut steps = 0;
    while child.try_wait().unwrap().is_none() {
        relay.step([never.as_fd(), pidfd.as_fd()], None).unwrap();
        steps += 1;
        assert!(steps < 20_000, "it spins");
    }
    relay.finish(never.as_fd(), || true).unwrap();
    child.wait().unwrap().code().unwrap()
}

fn nothing() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

#[test]
fn bytes_go_both_ways() {
    let (mut child, master) = spawn("stty -echo; echo ready; read x; echo got $x; exit 3");
    let (input, mut keyboard) = std::io::pipe().unwrap();
    let (mut screen, output) = std::io::pipe().unwrap();
    keyboard.write_all(b"hello\n").unwrap();
    let code = relay(&mut child, master, input.into(), output.into());
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    assert_eq!(code, 3);
    assert!(text.ends_with("ready\ngot hello\n") || text.ends_with("got hello\n"), "{text:?}");
    assert!(!text.contains('\r'), "newlines are the user's terminal's business: {text:?}");
}

#[test]
fn a_slow_reader_loses_nothing() {
    let (mut child, master) = spawn("head -c 1000000 /dev/zero | tr '\\0' x; printf END");
    let (mut screen, output) = std::io::pipe().unwrap();
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        let mut text = Vec::new();
        screen.read_to_end(&mut text).unwrap();
        text
    });
    relay(&mut child, master, nothing(), output.into());
    let text = reader.join().unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'x').count(), 1_000_000);
    assert!(text.ends_with(b"END"));
}

#[test]
fn a_closed_output_does_not_stop_the_container() {
    let (mut child, master) = spawn("head -c 1000000 /dev/zero; exit 4");
    let (screen, output) = std::io::pipe().unwrap();
    drop(screen);
    assert_eq!(relay(&mut child, master, nothing(), output.into()), 4);
}

#[test]
fn the_end_of_the_input_is_typed() {
    for text in ["", "line\n", "unfinished"] {
        let (mut child, master) = spawn("cat >/dev/null; exit 5");
        let (input, mut keyboard) = std::io::pipe().unwrap();
        keyboard.write_all(text.as_bytes()).unwrap();
        drop(keyboard);
        let (_screen, output) = std::io::pipe().unwrap();
        assert_eq!(relay(&mut child, master, input.into(), output.into()), 5, "{text:?}");
    }
}

#[test]
fn the_end_of_the_input_stays_the_end() {
    let (mut child, master) = spawn("cat >/dev/null; cat >/dev/null; exit 5");
    let (_screen, output) = std::io::pipe().unwrap();
    assert_eq!(relay(&mut child, master, nothing(), output.into()), 5);
}

#[test]
fn who_keeps_the_terminal_open_does_not_delay_the_end() {
    let (mut child, master) = spawn("(trap '' HUP; sleep 20) & printf end; exit 0");
    let (mut screen, output) = std::io::pipe().unwrap();
    let started = Instant::now();
    relay(&mut child, master, nothing(), output.into());
    assert!(started.elapsed() < Duration::from_secs(5));
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("end"), "{text:?}");
}

#[test]
fn a_closed_terminal_is_no_busy_loop() {
    // The number of steps is checked by relay().
    let (mut child, master) = spawn("exec <&- >&- 2>&-; sleep 1; exit 6");
    let (_screen, output) = std::io::pipe().unwrap();
    assert_eq!(relay(&mut child, master, nothing(), output.into()), 6);
}

#[test]
fn the_users_terminal_gets_its_modes_back() {
    let user = openpty(None, None).unwrap();
    // The kernel's c_cc has 19 entries; what a C library has behind them is anything.
    let modes = || {
        let modes = tcgetattr(&user.slave).unwrap();
        let flags = (modes.input_flags, modes.output_flags, modes.control_flags, modes.local_flags);
        (flags, modes.control_chars[..19].to_vec())
    };
    let before = modes();
    let host = HostTerminal::of(user.slave.as_fd()).unwrap();
    let raw = tcgetattr(&user.slave).unwrap();
    assert_ne!(raw.local_flags, before.0.3);
    assert!(raw.output_flags.contains(OutputFlags::OPOST));
    drop(host);
    assert_eq!(modes(), before);
    assert!(HostTerminal::of(nothing().as_fd()).is_none());
}

#[test]
fn the_container_gets_the_users_size() {
    let user = openpty(None, None).unwrap();
    sys::set_window_size(user.slave.as_raw_fd(), 33, 77).unwrap();
    let (mut child, master) = spawn("sleep 0.3; stty size");
    let (mut screen, output) = std::io::pipe().unwrap();
    let output: OwnedFd = output.into();
    let host = HostTerminal::of(user.slave.as_fd());
    let mut relay = Relay::between(master, nothing(), output, host).unwrap();
    relay.resize();
    let (never, _keep) = std::io::pipe().unwrap();
    while child.try_wait().unwrap().is_none() {
        relay.step([never.as_fd()], Some(Instant::now() + PAUSE)).unwrap();
    }
    relay.finish(never.as_fd(), || true).unwrap();
    let mut text = String::new();
    screen.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("33 77\n"), "{text:?}");
}

#[test]
fn a_descriptor_arrives_with_a_name() {
    let dir = std::env::temp_dir().join(format!("corten-{}-{}", "long".repeat(40), std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("s");
    let error = DescriptorSocket::connect(&path, "console socket").unwrap_err();
    assert!(error.to_string().starts_with("cannot connect to console socket /"), "{error}");
    assert!(error.to_string().ends_with("connect: no such file or directory"), "{error}");

    let listener = {
        let dir = std::fs::File::open(&dir).unwrap();
        UnixListener::bind(format!("/proc/self/fd/{}/s", dir.as_raw_fd())).unwrap()
    };
    let socket = DescriptorSocket::connect(&path, "console socket").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    socket.send(writer.as_fd(), "/dev/ptmx").unwrap();
    drop(writer);
    let (peer, _) = listener.accept().unwrap();
    let (mut name, mut space) = ([0; 64], nix::cmsg_space!([i32; 4]));
    let mut slices = [std::io::IoSliceMut::new(&mut name)];
    let message =
        recvmsg::<()>(peer.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let fds: Vec<i32> = match message.cmsgs().unwrap().next() {
        Some(ControlMessageOwned::ScmRights(fds)) => fds,
        other => panic!("{other:?}"),
    };
    let length = message.bytes;
    assert_eq!((&name[..length], fds.len()), (b"/dev/ptmx".as_slice(), 1));
    sys::write(fds[0], b"through").unwrap();
    sys::close(fds[0]);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    drop(listener);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn terminals_are_somebodys() {
    let socket = Some(Path::new("s"));
    for (terminal, detach, console_socket, is_fine) in [
        (true, true, None, false),
        (true, true, socket, true),
        (true, false, None, true),
        (true, false, socket, false),
        (false, true, socket, false),
        (false, true, None, true),
    ] {
        assert_eq!(check(terminal, detach, console_socket).is_ok(), is_fine);
    }
}
