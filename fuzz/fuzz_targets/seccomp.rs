//! Profile bytes, as JSON or as choices from what a profile can say: compiling never panics, the kernel
//! takes every program, and the program does what `explain` says.
//!
//! cargo +nightly fuzz run seccomp fuzz/corpus/seccomp src/seccomp/testdata

#![no_main]

#[path = "../../tests/seccomp/bpf.rs"]
mod bpf;

use std::sync::LazyLock;

use corten::seccomp::{self, Abi, explain, policy};
use corten::spec::{Seccomp, Syscall, SyscallArg};
use libfuzzer_sys::fuzz_target;
use seccompiler::sock_filter;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let profile = match serde_json::from_slice(bytes) {
        Ok(profile) => profile,
        Err(_) => input.profile(),
    };
    let Ok(filter) = seccomp::filter(&profile, Abi::NATIVE) else { return };
    bpf::check(&filter.program).expect("a program that the kernel takes");
    load(&filter.program);
    let policy = policy::resolve(&profile, Abi::NATIVE).expect("what compiles resolves");
    for _ in 0..8 {
        let abi = Abi::ALL[input.below(6)];
        let start = if abi == Abi::X32 { seccomp::abi::X32_BIT } else { 0 };
        let nr = start + input.below(600) as u32;
        let args = std::array::from_fn(|_| input.value());
        let data = bpf::Data { nr, arch: abi.audit(), args };
        let verdicts = explain::explain(&policy, abi, nr, &args.map(Some));
        assert_eq!(bpf::run(&filter.program, &data).0, verdicts[0].action.value(), "{data:x?} {verdicts:?}");
    }
});

/// Behind an instruction that allows everything: the kernel checks it all, and runs none of it.
fn load(program: &[sock_filter]) {
    let mut harmless = vec![sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }];
    harmless.extend_from_slice(program);
    if harmless.len() <= 4096 {
        let load = std::thread::spawn(move || seccompiler::apply_filter(&harmless));
        load.join().expect("a thread").expect("a program that the kernel takes");
    }
}

/// Every syscall's name, neighbours together.
static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let bit = |abi: Abi| if abi == Abi::X32 { seccomp::abi::X32_BIT } else { 0 };
    let names = |abi: Abi| (0..480).filter_map(move |nr| abi.syscall_name(nr | bit(abi)));
    Abi::ALL.into_iter().flat_map(names).chain(["cacheflush", "set_tls", "no_such_call"]).collect()
});

/// The bytes as a series of choices; nothing but zeros once they are used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % end
    }

    fn value(&mut self) -> u64 {
        let byte = self.byte();
        match byte >> 6 {
            0 => u64::from(byte),
            1 => 1 << (byte & 63),
            2 => (1 << (byte & 63)) - 1,
            _ => u64::MAX << (byte & 63),
        }
    }

    fn profile(&mut self) -> Seccomp {
        let lists = seccomp::features::features(|_| true);
        let pick = |from: &[&str], at: usize| from[at % from.len()].to_owned();
        let mut profile = Seccomp {
            default_action: pick(&lists.actions, self.below(9)),
            listener_path: Some("/run/agent".to_owned()),
            ..Seccomp::default()
        };
        profile.architectures = Some((0..self.below(6)).map(|_| pick(&lists.archs, self.below(6))).collect());
        profile.flags = (self.byte() & 1 == 1).then(|| vec![pick(&lists.known_flags, self.below(4))]);
        let mut rules = Vec::new();
        while !self.0.is_empty() && rules.len() < 400 {
            let first = self.below(NAMES.len());
            let last = NAMES.len().min(first + 1 + usize::from(self.byte() % 16));
            let names = NAMES[first..last].iter().map(|name| (*name).to_owned()).collect();
            let action = pick(&lists.actions, self.below(9));
            let takes_errno = ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&action.as_str());
            let errno_ret = (takes_errno && self.byte() & 1 == 1).then(|| self.below(4096) as u32);
            let args = (0..self.below(5)).map(|_| SyscallArg {
                index: self.below(6) as u32,
                value: self.value(),
                value_two: self.value(),
                op: pick(&lists.operators, self.below(7)),
            });
            let args = Some(args.collect());
            rules.push(Syscall { names, action, errno_ret, args });
        }
        profile.syscalls = Some(rules);
        profile
    }
}
