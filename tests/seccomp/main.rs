//! The seccomp compiler against a machine and a model that were written from the documents alone, and
//! against the kernel's own checker.

mod bpf;
mod model;
mod random;

use corten::seccomp::{self, Abi, Filter, explain, policy};
use corten::spec::{Problem, Seccomp};
use seccompiler::sock_filter;

use crate::model::Model;
use crate::random::Random;

const PROFILES: [(&str, &str); 4] = [
    ("docker", include_str!("../../src/seccomp/testdata/docker.json")),
    ("podman", include_str!("../../src/seccomp/testdata/podman.json")),
    ("containerd", include_str!("../../src/seccomp/testdata/containerd.json")),
    ("cri-o", include_str!("../../src/seccomp/testdata/cri-o.json")),
];

/// An architecture that no profile lists: s390x.
const STRANGER: u32 = 22 | 0xc000_0000;

fn parse(json: &str) -> Seccomp {
    serde_json::from_str(json).expect("a profile")
}

fn compile(profile: &Seccomp, native: Abi) -> Filter {
    let filter = seccomp::filter(profile, native).expect("a valid profile");
    bpf::check(&filter.program).expect("what the kernel's checker accepts");
    filter
}

fn problems(json: &str) -> Vec<String> {
    match seccomp::filter(&parse(json), Abi::X86_64) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(Problem::to_string).collect(),
    }
}

#[test]
fn engines_profiles_mean_what_the_model_says_for_every_number_and_boundary() {
    for (name, json) in PROFILES {
        for native in [Abi::X86_64, Abi::Aarch64, Abi::Riscv64] {
            let mut profile = parse(json);
            if native == Abi::Aarch64 {
                profile.architectures = Some(vec!["SCMP_ARCH_AARCH64".into(), "SCMP_ARCH_ARM".into()]);
            }
            let program = compile(&profile, native).program;
            let model = Model::new(&profile, native);
            let values = random::boundaries(&profile);
            let mut audits = Abi::ALL.map(Abi::audit).to_vec();
            audits.push(STRANGER);
            audits.sort_unstable();
            audits.dedup();
            for arch in audits {
                let near = |start: u32| start..start + 600;
                let ends = [0xf0000, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
                for nr in near(0).chain(near(0x4000_0000)).chain(0xf0000..0xf0008).chain(ends) {
                    let want = model.answers(arch, nr);
                    // One argument at a time over all boundaries, the others at one of them.
                    for (at, value) in values.iter().enumerate() {
                        let mut args = [values[(at * 7 + nr as usize) % values.len()]; 6];
                        args[at % 2 * 2] = *value;
                        let data = bpf::Data { nr, arch, args };
                        assert_eq!(bpf::run(&program, &data).0, want(&args), "{name} {data:x?}");
                    }
                }
            }
        }
    }
}

/// Whether `data` is a syscall that `abi` has, or could have one day.
fn is_of(abi: Abi, data: &bpf::Data) -> bool {
    data.arch == abi.audit() && (abi == Abi::X32) == (data.nr >> 30 == 1) && data.nr < 0x8000_0000
}

#[test]
fn random_profiles_mean_what_the_model_says() {
    let mut random = Random::new(20);
    for round in 0..400 {
        let profile = if round % 4 == 0 { random.judgeable_profile() } else { random.profile() };
        let native = random.pick(&[Abi::X86_64, Abi::X86_64, Abi::Aarch64, Abi::Riscv64]);
        let program = compile(&profile, native).program;
        let model = Model::new(&profile, native);
        let policy = policy::resolve(&profile, native).expect("a valid profile");
        let values = random::boundaries(&profile);
        for _ in 0..400 {
            let data = bpf::Data {
                nr: random.number(&profile),
                arch: random.pick(&Abi::ALL).audit(),
                args: std::array::from_fn(|_| random.pick(&values)),
            };
            let want = model.answers(data.arch, data.nr)(&data.args);
            assert_eq!(bpf::run(&program, &data).0, want, "round {round} {data:x?} {profile:#?}");
            if let Some(abi) = Abi::ALL.into_iter().find(|abi| is_of(*abi, &data)) {
                let verdicts = explain::explain(&policy, abi, data.nr, &data.args.map(Some));
                assert_eq!(verdicts.len(), 1);
                assert_eq!(verdicts[0].action.value(), want, "round {round} {data:x?} {verdicts:?}");
            }
        }
    }
}

/// Loads `program` behind an instruction that allows everything: the kernel checks it all, and runs none.
fn load(program: &[sock_filter]) -> Result<(), seccompiler::Error> {
    let mut harmless = vec![sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }];
    harmless.extend_from_slice(program);
    std::thread::spawn(move || seccompiler::apply_filter(&harmless)).join().expect("a thread")
}

#[test]
fn the_kernel_accepts_every_program() {
    for (name, json) in PROFILES {
        load(&compile(&parse(json), Abi::X86_64).program).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let mut random = Random::new(21);
    for _ in 0..300 {
        let profile = random.profile();
        load(&compile(&profile, Abi::X86_64).program).unwrap_or_else(|error| panic!("{error}\n{profile:#?}"));
    }
}

#[test]
fn a_docker_container_start_needs_few_instructions() {
    let profile = parse(PROFILES[0].1);
    let program = compile(&profile, Abi::X86_64).program;
    assert!(program.len() < 450, "{} instructions", program.len());
    let longest = (0..500)
        .map(|nr| bpf::run(&program, &bpf::Data { nr, arch: Abi::X86_64.audit(), args: [u64::MAX; 6] }).1);
    assert!(longest.max() < Some(60));
}

#[test]
fn two_ranges_of_one_argument_do_not_hide_each_other() {
    // libseccomp (2.5.4 and later) allows 0xffffffff here.
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["readahead"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
         "args": [{"index": 5, "value": 1, "op": "SCMP_CMP_LE"}]},
        {"names": ["readahead"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
         "args": [{"index": 5, "value": 9223372036854775807, "op": "SCMP_CMP_LE"}]}]}"#;
    let program = compile(&parse(json), Abi::X86_64).program;
    for (value, want) in
        [(0, 0x50005), (0xffff_ffff, 0x50005), (i64::MAX as u64, 0x50005), (1 << 63, 0x7fff_0000)]
    {
        let data = bpf::Data { nr: 187, arch: Abi::X86_64.audit(), args: [0, 0, 0, 0, 0, value] };
        assert_eq!(bpf::run(&program, &data).0, want, "{value:#x}");
    }
}

#[test]
fn every_problem_is_told_with_its_place() {
    let json = r#"{"defaultAction": "SCMP_ACT_PERMIT", "architectures": ["SCMP_ARCH_X86_64", "x86"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "LOG"], "listenerMetadata": "m", "syscalls": [
        {"names": ["read", ""], "action": "SCMP_ACT_ALLOW", "errnoRet": 1},
        {"names": [], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096,
         "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 0, "op": "=="}]},
        {"names": ["write"], "action": "SCMP_ACT_NOTIFY"}, {"names": ["open"], "action": ""}]}"#;
    assert_eq!(
        problems(json),
        [
            "/defaultAction: \"SCMP_ACT_PERMIT\" is not a seccomp action",
            "/architectures/1: \"x86\" is not a seccomp architecture",
            "/flags/1: \"LOG\" is not a seccomp flag",
            "/syscalls/0/errnoRet: SCMP_ACT_ALLOW takes no errno",
            "/syscalls/0/names/1: must not be empty",
            "/syscalls/1/errnoRet: must be at most 4095, got 4096",
            "/syscalls/1/args/0/index: must be at most 5, got 6",
            "/syscalls/1/args/1/op: \"==\" is not a seccomp comparison",
            "/syscalls/1/names: must name at least one syscall",
            "/syscalls/2/names/0: SCMP_ACT_NOTIFY cannot be used for the write syscall",
            "/syscalls/3/action: is required",
            "/listenerMetadata: must not be set without listenerPath",
            "/listenerPath: SCMP_ACT_NOTIFY needs it",
        ]
    );
    assert_eq!(
        problems(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#),
        ["/defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"]
    );
    assert_eq!(
        problems(r#"{"defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1}"#),
        ["/defaultErrnoRet: SCMP_ACT_KILL takes no errno"]
    );
    let killable = problems(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
    );
    assert!(killable[0].contains("error adding WaitKill flag to seccomp filter: SetWaitKill requires "));
}

#[test]
fn flags_listener_and_notes_follow_the_profile() {
    let filter = |json| compile(&parse(json), Abi::X86_64);
    assert_eq!(filter(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).flags, 4);
    assert_eq!(filter(r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": []}"#).flags, 0);
    let flags = filter(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"],
            "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [{"names": ["frobnicate", "sync_file_range2"], "action": "SCMP_ACT_LOG"}]}"#,
    );
    assert_eq!((flags.flags, flags.listener), (6, None));
    assert_eq!(
        flags.notes,
        [
            "seccomp architecture SCMP_ARCH_S390X does not occur on this machine: ignored",
            "unknown seccomp syscall \"frobnicate\" ignored",
            "seccomp filter flags: 6",
        ]
    );
    let notify = filter(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent", "listenerMetadata": "m",
            "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]}"#,
    );
    let listener = seccomp::Listener { path: "/run/agent".into(), metadata: "m".into() };
    assert_eq!((notify.flags, notify.listener), (0x28, Some(listener)));
}

#[test]
fn a_program_that_is_too_long_is_refused_with_its_length() {
    let mut profile = Seccomp { default_action: "SCMP_ACT_ALLOW".into(), ..Seccomp::default() };
    let arg = |value| corten::spec::SyscallArg { index: 0, value, value_two: 0, op: "SCMP_CMP_EQ".into() };
    let rule = |value| corten::spec::Syscall {
        names: vec!["ioctl".into()],
        action: "SCMP_ACT_ERRNO".into(),
        args: Some(vec![arg(value)]),
        errno_ret: None,
    };
    profile.syscalls = Some((0..800).map(rule).collect());
    load(&compile(&profile, Abi::X86_64).program).expect("a long program");
    profile.syscalls = Some((0..900).map(rule).collect());
    let problems = seccomp::filter(&profile, Abi::X86_64).expect_err("too long");
    assert_eq!(
        problems[0].to_string(),
        "/syscalls: compiles to 4513 BPF instructions, the kernel takes at most 4096"
    );
}
