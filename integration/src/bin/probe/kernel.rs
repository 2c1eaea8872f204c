//! What only a system call tells: limits, terminals, scheduling, clocks, the loopback interface.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::BorrowedFd;

use rustix::process::{Resource, getrlimit};
use rustix::termios::{isatty, tcgetwinsize, ttyname};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

/// Soft and hard value of every limit; null is "unlimited".
pub fn limits() -> Value {
    let all = [
        ("RLIMIT_AS", Resource::As),
        ("RLIMIT_CORE", Resource::Core),
        ("RLIMIT_CPU", Resource::Cpu),
        ("RLIMIT_DATA", Resource::Data),
        ("RLIMIT_FSIZE", Resource::Fsize),
        ("RLIMIT_LOCKS", Resource::Locks),
        ("RLIMIT_MEMLOCK", Resource::Memlock),
        ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
        ("RLIMIT_NICE", Resource::Nice),
        ("RLIMIT_NOFILE", Resource::Nofile),
        ("RLIMIT_NPROC", Resource::Nproc),
        ("RLIMIT_RSS", Resource::Rss),
        ("RLIMIT_RTPRIO", Resource::Rtprio),
        ("RLIMIT_RTTIME", Resource::Rttime),
        ("RLIMIT_SIGPENDING", Resource::Sigpending),
        ("RLIMIT_STACK", Resource::Stack),
    ];
    let mut found = Map::new();
    for (name, resource) in all {
        let limit = getrlimit(resource);
        found.insert(name.to_owned(), json!([limit.current, limit.maximum]));
    }
    Value::Object(found)
}

/// For stdin, stdout, stderr: the terminal's name and size, null where it is none.
pub fn terminals() -> Value {
    let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let one = |fd: BorrowedFd<'_>| {
        if !isatty(fd) {
            return Value::Null;
        }
        let name = ttyname(fd, Vec::new()).map(|n| n.to_string_lossy().into_owned());
        let size = tcgetwinsize(fd).map(|s| json!({ "columns": s.ws_col, "rows": s.ws_row }));
        json!({ "name": name.ok(), "size": size.ok() })
    };
    let stat = stat();
    json!({
        "stdio": standard.map(one),
        "controlling": fs::File::open("/dev/tty").is_ok(),
        "session": stat.get(3), "group": stat.get(2), "foreground": stat.get(5),
    })
}

/// Policy, real-time priority and nice value, see proc_pid_stat(5) fields 41, 40, 19.
pub fn scheduler() -> Value {
    let stat = stat();
    let at = |field: usize| stat.get(field - 3).cloned();
    let details = fs::read_to_string("/proc/self/sched").unwrap_or_default();
    let deadline: Vec<&str> = details.lines().filter(|l| l.starts_with("dl.")).collect();
    json!({ "policy": at(41), "priority": at(40), "nice": at(19), "deadline": deadline })
}

/// /proc/self/stat from field 3 (state) on: what stands after the name, which may hold blanks.
fn stat() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split_whitespace().map(str::to_owned).collect()
}

/// Seconds of the clocks that a time namespace moves.
pub fn clocks() -> Value {
    let seconds = |clock| clock_gettime(clock).tv_sec;
    json!({ "monotonic": seconds(ClockId::Monotonic), "boottime": seconds(ClockId::Boottime) })
}

/// Whether a connection through 127.0.0.1 works, which needs an interface lo that is up.
pub fn loopback_works() -> bool {
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { return false };
    listener.local_addr().is_ok_and(|address| TcpStream::connect(address).is_ok())
}
