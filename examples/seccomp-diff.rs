//! The two halves of hack/seccomp-diff that are not libseccomp: `write DIRECTORY ROUNDS` writes profiles,
//! `compare DIRECTORY` runs corten's and libseccomp's programs for them and tells every difference.

#[path = "../tests/seccomp/bpf.rs"]
mod bpf;
#[path = "../tests/seccomp/random.rs"]
#[allow(dead_code, reason = "the tests pick numbers at random, too")]
mod random;

use std::error::Error;
use std::fs;
use std::path::Path;

use corten::seccomp::abi::{self, Abi};
use corten::spec::{Problem, Seccomp};
use seccompiler::sock_filter;

const ENGINES: [(&str, &str); 4] = [
    ("docker", include_str!("../src/seccomp/testdata/docker.json")),
    ("podman", include_str!("../src/seccomp/testdata/podman.json")),
    ("containerd", include_str!("../src/seccomp/testdata/containerd.json")),
    ("cri-o", include_str!("../src/seccomp/testdata/cri-o.json")),
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", directory, rounds] => write(Path::new(directory), rounds.parse()?),
        ["compare", directory] => compare_all(Path::new(directory)),
        _ => Err("usage: seccomp-diff write DIRECTORY ROUNDS | compare DIRECTORY".into()),
    }
}

fn write(directory: &Path, rounds: u32) -> Result<(), Box<dyn Error>> {
    for (name, json) in ENGINES {
        fs::write(directory.join(name).with_extension("json"), json)?;
    }
    let mut random = random::Random::new(22);
    for round in 0..rounds {
        let json = serde_json::to_vec_pretty(&random.judgeable_profile())?;
        fs::write(directory.join(format!("random-{round}.json")), json)?;
    }
    Ok(())
}

fn compare_all(directory: &Path) -> Result<(), Box<dyn Error>> {
    let (mut profiles, mut differing, mut total) = (0, 0, Count::default());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let profile: Seccomp = serde_json::from_slice(&fs::read(&path)?)?;
        let theirs =
            [read_program(&path.with_extension("linear"))?, read_program(&path.with_extension("tree"))?];
        profiles += 1;
        if let Err(difference) = compare(&profile, &theirs, &mut total) {
            differing += 1;
            println!("{}: {difference}", path.display());
        }
    }
    let Count { cases, contradictions } = total;
    println!("{profiles} profiles, {cases} cases: {differing} profiles differ");
    println!(
        "{contradictions} more cases where libseccomp's own two programs differ, and corten is like one of them"
    );
    if differing > 0 || profiles == 0 { Err("corten and libseccomp disagree".into()) } else { Ok(()) }
}

#[derive(Default)]
struct Count {
    cases: usize,
    contradictions: usize,
}

fn read_program(path: &Path) -> Result<Vec<sock_filter>, std::io::Error> {
    let bytes = fs::read(path)?;
    let instruction = |b: &[u8]| sock_filter {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    Ok(bytes.chunks_exact(8).map(instruction).collect())
}

/// Tells the first difference.
fn compare(
    profile: &Seccomp,
    theirs: &[Vec<sock_filter>; 2],
    total: &mut Count,
) -> Result<(), Box<dyn Error>> {
    let problems = |problems: Vec<Problem>| problems.iter().map(|p| format!("{p}; ")).collect::<String>();
    let program = corten::seccomp::filter(profile, Abi::X86_64).map_err(problems)?.program;
    bpf::check(&program)?;
    let values = random::boundaries(profile);
    // Some 20 of the boundaries for each number, others for the next.
    let stride = 1 + values.len() / 20;
    for abi in Abi::ALL {
        let start = if abi == Abi::X32 { abi::X32_BIT } else { 0 };
        let stub = Stub::new(profile, abi);
        for nr in (start..start + 500).chain(start + abi::ARM_PRIVATE..start + abi::ARM_PRIVATE + 8) {
            for (at, value) in values.iter().enumerate().skip(nr as usize % stride).step_by(stride) {
                let mut args = [values[(at * 5 + nr as usize) % values.len()]; 6];
                args[(at + nr as usize) % 6] = *value;
                let data = bpf::Data { nr, arch: abi.audit(), args };
                let ours = bpf::run(&program, &data).0;
                let theirs = theirs
                    .each_ref()
                    .map(|their| stub.answer(nr).unwrap_or_else(|| bpf::run(their, &data).0));
                match theirs.map(|their| ours == their) {
                    [true, true] => total.cases += 1,
                    [false, false] => {
                        return Err(format!("{ours:#x}, libseccomp {theirs:#x?}: {data:x?}").into());
                    }
                    _ => total.contradictions += 1,
                }
            }
        }
    }
    Ok(())
}

/// The ENOSYS rule that runc puts before libseccomp's program.
struct Stub {
    newest: Option<u32>,
    is_arm: bool,
}

impl Stub {
    fn new(profile: &Seccomp, abi: Abi) -> Stub {
        let listed = abi == Abi::X86_64
            || profile.architectures.iter().flatten().any(|name| name.as_str() == abi.name());
        let lets_through = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        let names = profile.syscalls.iter().flatten().flat_map(|rule| &rule.names);
        let numbers = names.filter_map(|name| abi::find(name)).flat_map(|entry| {
            [abi.number(entry), abi.multiplexer(entry).map(|(by, _)| by)].into_iter().flatten()
        });
        let newest = numbers.filter(|nr| abi != Abi::Arm || *nr < abi::ARM_PRIVATE).max();
        let applies = listed && !lets_through.contains(&profile.default_action.as_str());
        Stub { newest: newest.filter(|newest| applies && *newest > 0), is_arm: abi == Abi::Arm }
    }

    fn answer(&self, nr: u32) -> Option<u32> {
        let is_unknown =
            self.newest.is_some_and(|newest| nr > newest) && !(self.is_arm && nr >= abi::ARM_PRIVATE);
        is_unknown.then_some(0x0005_0000 | libc::ENOSYS as u32)
    }
}
