//! Terminals: the console socket, sizes, /dev/console, and `run -t` in the foreground.

use corten_integration::{Bundle, ConsoleSocket, Terminal, View, check};
use serde_json::json;

/// A bundle with a terminal, and the socket its master goes to.
fn with_console() -> (Bundle, ConsoleSocket) {
    let bundle = Bundle::new().set("/process/terminal", true);
    let socket = ConsoleSocket::new(bundle.dir());
    let path = socket.path().to_string_lossy().into_owned();
    (bundle.flag("--console-socket").flag(path), socket)
}

/// What the probe says through a terminal.
fn view(terminal: &mut Terminal) -> View {
    let text = terminal.read_to_end();
    let begin = text.find('{').unwrap_or_else(|| panic!("no view: {text}"));
    View::parse(text[begin..].trim())
}

#[test]
fn the_console_socket_receives_the_master() {
    check(|| {
        let (bundle, socket) = with_console();
        let container = bundle.script("echo hello; read line; echo \"got $line\"").create();
        let mut terminal = socket.receive();
        container.start().ok();
        terminal.read_until("hello");
        terminal.write("words\n");
        terminal.read_until("got words");
        container.wait();
    });
}

#[test]
fn the_process_owns_its_terminal() {
    check(|| {
        let (bundle, socket) = with_console();
        let container = bundle.create();
        let mut terminal = socket.receive();
        container.start().ok();
        let view = view(&mut terminal);
        for fd in 0..3 {
            let name = view.at(&format!("/tty/stdio/{fd}/name"));
            let known = name.as_str().is_some_and(|n| n.starts_with("/dev/pts/") || n == "/dev/console");
            assert!(known, "descriptor {fd}: {name}");
        }
        assert_eq!(view.at("/tty/controlling"), true, "/dev/tty");
        assert_eq!(view.at("/tty/session"), "1");
        assert_eq!(view.at("/tty/foreground"), view.at("/tty/group"));
        let names: Vec<&String> = view.at("/fds").as_object().expect("fds").keys().collect();
        assert_eq!(names, ["0", "1", "2"], "{}", view.at("/fds"));
    });
}

#[test]
fn dev_console_is_the_terminal() {
    check(|| {
        let (bundle, socket) = with_console();
        let container =
            bundle.script("echo through the console >/dev/console; stat -c %t:%T /dev/console").create();
        let mut terminal = socket.receive();
        container.start().ok();
        terminal.read_until("through the console");
        // Major 136 is a pty's.
        terminal.read_until("88:");
    });
}

#[test]
fn without_a_terminal_there_is_no_console() {
    check(|| {
        let view = Bundle::new().look();
        assert!(view.at("/dev/console").is_null(), "{}", view.at("/dev/console"));
        assert_eq!(view.at("/tty/stdio"), &json!([null, null, null]));
        assert_eq!(view.at("/tty/controlling"), false);
    });
}

#[test]
fn the_size_of_the_console_is_set() {
    check(|| {
        let (bundle, socket) = with_console();
        let bundle = bundle.set("/process/consoleSize", json!({ "height": 33, "width": 101 }));
        let container = bundle.create();
        let mut terminal = socket.receive();
        assert_eq!(terminal.size(), (101, 33));
        container.start().ok();
        let view = view(&mut terminal);
        assert_eq!(view.at("/tty/stdio/0/size"), &json!({ "columns": 101, "rows": 33 }));
    });
}

#[test]
fn a_resize_reaches_the_process() {
    check(|| {
        let (bundle, socket) = with_console();
        let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 1000 & wait; done";
        let container = bundle.script(script).create();
        let mut terminal = socket.receive();
        container.start().ok();
        terminal.read_until("ready");
        terminal.resize(120, 40);
        terminal.read_until("40 120");
    });
}

#[test]
fn a_terminal_with_a_read_only_root_works() {
    check(|| {
        let (bundle, socket) = with_console();
        let container = bundle.set("/root/readonly", true).script("echo fine >/dev/console").create();
        let mut terminal = socket.receive();
        container.start().ok();
        terminal.read_until("fine");
    });
}

#[test]
fn a_terminal_in_a_user_namespace_belongs_to_its_root() {
    check(|| {
        let (bundle, socket) = with_console();
        let bundle = bundle.userns(100_000, 65536).namespace("network");
        let container = bundle.script("stat -c 'owner=%u mode=%a' $(tty); echo x >/dev/tty").create();
        let mut terminal = socket.receive();
        container.start().ok();
        terminal.read_until("owner=0 mode=6");
    });
}

#[test]
fn a_terminal_of_a_user_belongs_to_the_user() {
    check(|| {
        let (bundle, socket) = with_console();
        let bundle = bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        let container = bundle.script("stat -c owner=%u $(tty); echo x >/dev/tty && echo writable").create();
        let mut terminal = socket.receive();
        container.start().ok();
        terminal.read_until("owner=1000");
        terminal.read_until("writable");
    });
}

#[test]
fn create_with_a_terminal_needs_a_console_socket() {
    check(|| {
        Bundle::new().set("/process/terminal", true).create_fails().says("console");
    });
}

#[test]
fn a_console_socket_without_a_terminal_is_refused() {
    check(|| {
        let (bundle, _socket) = with_console();
        bundle.set("/process/terminal", false).create_fails().says("console");
    });
}

#[test]
fn a_console_socket_that_nobody_listens_on_is_an_error() {
    check(|| {
        let bundle =
            Bundle::new().set("/process/terminal", true).flag("--console-socket").flag("/no/such/socket");
        bundle.create_fails().says_one_of(&["/no/such/socket", "console socket", "no such file"]);
    });
}

#[test]
fn run_in_the_foreground_relays_the_terminal() {
    check(|| {
        let bundle = Bundle::new().set("/process/terminal", true);
        let bundle = bundle.script("echo hello; read line; echo \"got $line\"; exit 5");
        let (mut terminal, slave) = Terminal::open();
        terminal.resize(90, 30);
        let running = bundle.call("run").terminal(slave).spawn(bundle.dir());
        terminal.read_until("hello");
        assert!(terminal.is_raw(), "the outer terminal is in raw mode while the container runs");
        terminal.write("words\n");
        terminal.read_until("got words");
        let output = running.wait();
        assert_eq!(output.status, 5, "{output}");
        corten_integration::assert_nothing_left(&bundle);
    });
}

#[test]
fn run_in_the_foreground_restores_the_terminal() {
    check(|| {
        let bundle = Bundle::new().set("/process/terminal", true).args(["/bin/true"]);
        let (terminal, slave) = Terminal::open();
        let keep = slave.try_clone().expect("dup");
        bundle.call("run").terminal(slave).run(bundle.dir()).ok();
        assert!(!terminal.is_raw(), "raw mode outlives the container");
        drop(keep);
    });
}

#[test]
fn run_in_the_foreground_passes_the_window_size_on() {
    check(|| {
        let bundle = Bundle::new().set("/process/terminal", true);
        let script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 1000 & wait; done";
        let bundle = bundle.script(script);
        let (mut terminal, slave) = Terminal::open();
        terminal.resize(90, 30);
        let running = bundle.call("run").terminal(slave).spawn(bundle.dir());
        terminal.read_until("30 90");
        terminal.read_until("ready");
        terminal.resize(100, 25);
        terminal.read_until("25 100");
        bundle.runtime().args(["kill", bundle.id(), "KILL"]).run(bundle.dir()).ok();
        let output = running.wait();
        assert_eq!(output.status, 137, "{output}");
    });
}

#[test]
fn a_lot_of_output_through_a_terminal_arrives_whole() {
    check(|| {
        let bundle = Bundle::new().set("/process/terminal", true).script("seq 1 20000; echo the end");
        let (mut terminal, slave) = Terminal::open();
        let running = bundle.call("run").terminal(slave).spawn(bundle.dir());
        let text = terminal.read_until("the end");
        let numbers = text.lines().filter(|l| l.trim().parse::<u32>().is_ok()).count();
        assert_eq!(numbers, 20000);
        running.wait().ok();
    });
}
