//! sd_notify(3) through the runtime: whoever supervises it hears that the container is ready.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use corten_integration::{Bundle, check, limit};

/// What supervises services.
struct Supervisor(UnixDatagram);

impl Supervisor {
    /// Listens in the bundle's directory; the bundle's runtime will know of it.
    fn of(bundle: Bundle) -> (Supervisor, Bundle) {
        let path = bundle.dir().join("supervisor");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(limit() / 6)).expect("a timeout");
        (Supervisor(socket), bundle.runtime_env("NOTIFY_SOCKET", &path.to_string_lossy()))
    }

    /// The lines that come until there are these two.
    fn hears(&self) -> (String, i32) {
        let mut lines: Vec<String> = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = self.0.recv(&mut buffer).expect("a notification");
            lines.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
            let find = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name));
            if let (Some(ready), Some(pid)) = (find("READY="), find("MAINPID=")) {
                return (ready.to_owned(), pid.parse().expect("a pid"));
            }
        }
    }

    fn hears_nothing(&self) {
        self.0.set_nonblocking(true).expect("non-blocking");
        let mut buffer = [0; 4096];
        let heard = self.0.recv(&mut buffer).map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned());
        assert!(heard.is_err(), "the supervisor heard {heard:?}");
    }
}

#[test]
fn start_waits_until_the_container_is_ready() {
    check(|| {
        let (supervisor, bundle) = Supervisor::of(Bundle::new());
        let ready = "READY=1\nSTATUS=up\nMAINPID=1";
        let container =
            bundle.script(&format!("sleep 0.3; /probe 'notify:{ready}' >/out; exec sleep 1000")).create();
        let before = Instant::now();
        let hears = std::thread::spawn(move || supervisor.hears());
        container.start().ok();
        assert!(before.elapsed() >= Duration::from_millis(300), "start waited");
        assert_eq!(hears.join().expect("no panic"), ("1".to_owned(), container.pid()));
        container.vanish();
    });
}

#[test]
fn a_detached_run_waits_until_the_container_is_ready() {
    check(|| {
        let (supervisor, bundle) = Supervisor::of(Bundle::new());
        let bundle = bundle.flag("--detach").flag("--pid-file");
        let pid_file = bundle.dir().join("pid");
        let bundle = bundle.flag(pid_file.to_string_lossy());
        let bundle = bundle.script("sleep 0.2; /probe notify:READY=1 >/out; exec sleep 1000");
        let call = bundle.call("run");
        let hears = std::thread::spawn(move || supervisor.hears());
        call.run(bundle.dir()).ok();
        let (_, pid) = hears.join().expect("no panic");
        assert_eq!(std::fs::read_to_string(pid_file).expect("a pid file"), pid.to_string());
        bundle.runtime().arg("delete").arg("--force").arg(bundle.id()).run(bundle.dir()).ok();
        corten_integration::assert_nothing_left(&bundle);
    });
}

#[test]
fn a_run_in_the_foreground_is_itself_the_process_to_watch() {
    check(|| {
        let (supervisor, bundle) = Supervisor::of(Bundle::new());
        let bundle = bundle.script("/probe notify:READY=1; sleep 0.5");
        let running = bundle.call("run").spawn(bundle.dir());
        let pid = running.pid();
        assert_eq!(supervisor.hears(), ("1".to_owned(), pid as i32));
        running.wait().ok();
    });
}

#[test]
fn a_container_that_ends_before_it_is_ready_holds_nobody() {
    check(|| {
        let (supervisor, bundle) = Supervisor::of(Bundle::new());
        let container = bundle.args(["/probe", "notify:STATUS=soon"]).create();
        container.start().ok();
        container.wait();
        supervisor.hears_nothing();
        container.vanish();
    });
}

#[test]
fn the_container_sees_the_socket_and_cannot_put_another_there() {
    check(|| {
        let (_supervisor, bundle) = Supervisor::of(Bundle::new().env("NOTIFY_SOCKET=/somewhere/else"));
        let container = bundle.args(["/probe", "create:/run/notify/x", "list:/run/notify"]).create();
        let view = container.look();
        assert_eq!(view.errno("create:/run/notify/x"), 30, "EROFS");
        assert_eq!(view.attempt("list:/run/notify")["ok"], serde_json::json!(["notify.sock"]));
        let env = view.at("/env").as_array().expect("a list");
        let told: Vec<_> = env.iter().filter_map(|e| e.as_str()?.strip_prefix("NOTIFY_SOCKET=")).collect();
        assert_eq!(told, ["/run/notify/notify.sock"]);
    });
}

#[test]
fn nobody_is_notified_who_did_not_ask() {
    check(|| {
        let view = Bundle::new().probe(["stat:/run/notify"]);
        assert_eq!(view.errno("stat:/run/notify"), 2, "ENOENT");
        assert!(!view.at("/env").to_string().contains("NOTIFY_SOCKET"));
    });
}
