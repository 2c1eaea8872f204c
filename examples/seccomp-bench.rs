//! What a seccomp filter costs: `seccomp-bench PROFILE [PROGRAM...]` compiles a profile and compares it with
//! programs of others for it (as hack/seccomp-diff leaves them). One line for each number.
//!
//! The syscalls measured are getppid(2), which the profile must allow, and unshare(2), which most deny.

#[path = "../tests/seccomp/bpf.rs"]
mod bpf;

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use corten::seccomp::{Abi, filter};
use corten::spec::Seccomp;
use nix::sched::{CloneFlags, unshare};
use seccompiler::sock_filter;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [flag, profile] if flag == "--cold" => {
            let profile: Seccomp = serde_json::from_slice(&fs::read(profile)?)?;
            println!("{}", compile_time(&profile).as_nanos());
            Ok(())
        }
        [profile, programs @ ..] => report(Path::new(profile), programs),
        [] => Err("usage: seccomp-bench PROFILE [PROGRAM...]".into()),
    }
}

fn report(path: &Path, programs: &[String]) -> Result<(), Box<dyn Error>> {
    let profile: Seccomp = serde_json::from_slice(&fs::read(path)?)?;
    let program = filter(&profile, Abi::NATIVE).map_err(|problems| format!("{problems:?}"))?.program;
    let warm: Vec<Duration> = (0..2000).map(|_| compile_time(&profile)).collect();
    let cold = (0..200).map(|_| cold_compile_time(path)).collect::<Result<Vec<_>, _>>()?;
    println!(
        "corten compile warm {:.1} us, in a fresh process {:.1} us",
        micros(median(warm)),
        micros(median(cold))
    );
    println!(
        "no filter: allowed {:.0} ns, denied {:.0} ns",
        nanos(syscall_time(&[], true)),
        nanos(syscall_time(&[], false))
    );
    measure("corten", &program)?;
    for path in programs {
        let bytes = fs::read(path)?;
        let instruction = |b: &[u8]| sock_filter {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        };
        measure(path, &bytes.chunks_exact(8).map(instruction).collect::<Vec<_>>())?;
    }
    Ok(())
}

fn measure(name: &str, program: &[sock_filter]) -> Result<(), Box<dyn Error>> {
    bpf::check(program)?;
    let path = |nr| bpf::run(program, &bpf::Data { nr, arch: Abi::NATIVE.audit(), args: [0; 6] }).1;
    let paths: Vec<usize> = (0..450).map(path).collect();
    let load = (0..100).map(|_| load_time(program)).collect::<Vec<_>>();
    let data = bpf::Data { nr: libc::SYS_unshare as u32, arch: Abi::NATIVE.audit(), args: [0; 6] };
    if bpf::run(program, &data).0 == libc::SECCOMP_RET_ALLOW {
        println!("(this profile allows unshare: \"denied\" is the time of an allowed syscall)");
    }
    println!(
        "{name}: {} instructions, path mean {:.1} max {}, load {:.0} us, allowed {:.0} ns, denied {:.0} ns",
        program.len(),
        paths.iter().sum::<usize>() as f64 / paths.len() as f64,
        paths.iter().max().unwrap_or(&0),
        micros(median(load)),
        nanos(syscall_time(program, true)),
        nanos(syscall_time(program, false)),
    );
    Ok(())
}

fn compile_time(profile: &Seccomp) -> Duration {
    let start = Instant::now();
    let _ = black_box(filter(black_box(profile), Abi::NATIVE));
    start.elapsed()
}

fn cold_compile_time(profile: &Path) -> Result<Duration, Box<dyn Error>> {
    let output = Command::new(std::env::current_exe()?).arg("--cold").arg(profile).output()?;
    Ok(Duration::from_nanos(String::from_utf8(output.stdout)?.trim().parse()?))
}

/// In a thread of its own, which ends with its filter.
fn load_time(program: &[sock_filter]) -> Duration {
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let start = Instant::now();
            seccompiler::apply_filter(program).expect("a program that the kernel accepts");
            start.elapsed()
        });
        load.join().expect("a thread")
    })
}

/// The shortest of several means, of a syscall that the program allows, or denies.
fn syscall_time(program: &[sock_filter], allowed: bool) -> Duration {
    // Short enough that many batches run without being interrupted.
    const CALLS: u32 = 2_000;
    let run = || {
        if !program.is_empty() {
            seccompiler::apply_filter(program).expect("a program that the kernel accepts");
        }
        let means = (0..500).map(|_| {
            let start = Instant::now();
            for _ in 0..CALLS {
                if allowed {
                    black_box(nix::unistd::getppid());
                } else {
                    // Without a filter this does nothing at all, and succeeds.
                    let _ = black_box(unshare(CloneFlags::empty()));
                }
            }
            start.elapsed() / CALLS
        });
        means.min().unwrap_or_default()
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("a thread"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
