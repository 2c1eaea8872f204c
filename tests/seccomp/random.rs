//! Random profiles in which rules overlap, names are unknown, and values sit on the edges.

use corten::seccomp::abi::{self, Abi};
use corten::spec::{Seccomp, Syscall, SyscallArg};

/// xorshift64*: the same seed gives the same profiles.
pub struct Random(u64);

const NAMES: [&str; 24] = [
    "read",
    "write",
    "openat",
    "socket",
    "connect",
    "accept",
    "accept4",
    "socketcall",
    "ipc",
    "semop",
    "shmctl",
    "personality",
    "clone",
    "ioctl",
    "execve",
    "setsockopt",
    "readahead",
    "set_tls",
    "cacheflush",
    "mkdir",
    "riscv_hwprobe",
    "file_setattr",
    "_llseek",
    "no_such_call",
];
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const VALUES: [u64; 14] = [
    0,
    1,
    2,
    8,
    40,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Values around every constant of the profile, in both halves.
pub fn boundaries(profile: &Seccomp) -> Vec<u64> {
    let mut values = vec![0, 1, u64::from(u32::MAX), 1 << 32, 1 << 31, u64::MAX];
    for arg in profile.syscalls.iter().flatten().flat_map(|rule| rule.args.iter().flatten()) {
        for value in [arg.value, arg.value_two, arg.value & arg.value_two, !arg.value | arg.value_two] {
            values.extend([
                value.wrapping_sub(1),
                value,
                value.wrapping_add(1),
                value ^ 1 << 32,
                value | 1 << 63,
            ]);
        }
    }
    values.sort_unstable();
    values.dedup();
    values
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// A syscall number near those the profile speaks of.
    pub fn number(&mut self, profile: &Seccomp) -> u32 {
        let names: Vec<&String> = profile.syscalls.iter().flatten().flat_map(|rule| &rule.names).collect();
        if names.is_empty() || self.below(6) == 0 {
            let number = self.below(600) as u32;
            return self.pick(&[
                number,
                number | 0x4000_0000,
                0xf0000 + number % 8,
                u32::MAX - number,
                102,
                117,
            ]);
        }
        let name = self.pick(&names);
        let Some(entry) = abi::find(name) else { return 102 };
        let number = self.pick(&Abi::ALL).number(entry).unwrap_or(117);
        number.wrapping_add(self.pick(&[0, 0, 0, 1, u32::MAX]))
    }

    pub fn profile(&mut self) -> Seccomp {
        let architectures =
            Abi::ALL.iter().filter(|_| self.below(2) == 0).map(|abi| abi.name().to_owned()).collect();
        let default =
            self.pick(&ACTIONS.map(|name| if name == "SCMP_ACT_NOTIFY" { "SCMP_ACT_ERRNO" } else { name }));
        let rules = self.below(24);
        Seccomp {
            default_errno_ret: self.errno(default),
            default_action: default.to_owned(),
            architectures: (self.below(5) > 0).then_some(architectures),
            flags: None,
            listener_path: Some("/run/agent.sock".to_owned()),
            listener_metadata: None,
            syscalls: Some((0..rules).map(|_| self.rule()).collect()),
        }
    }

    fn errno(&mut self, action: &str) -> Option<u32> {
        let takes = ["SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"].contains(&action);
        (takes && self.below(3) > 0).then(|| self.pick(&[0, 1, 2, 38, 4094]))
    }

    fn rule(&mut self) -> Syscall {
        let action = self.pick(&ACTIONS);
        let mut names: Vec<String> = (0..=self.below(4)).map(|_| self.pick(&NAMES).to_owned()).collect();
        if self.below(4) == 0 {
            // Runs of neighbours, so that trees get deep and jumps long.
            let first = self.below(400) as u32;
            names
                .extend((first..first + 30).filter_map(|nr| Abi::X86_64.syscall_name(nr)).map(str::to_owned));
        }
        names.retain(|name| action != "SCMP_ACT_NOTIFY" || !["write", "sendmsg"].contains(&name.as_str()));
        names.push("getppid".to_owned());
        let args = (0..self.below(4)).map(|_| self.arg()).collect();
        Syscall { names, action: action.to_owned(), errno_ret: self.errno(action), args: Some(args) }
    }

    fn arg(&mut self) -> SyscallArg {
        SyscallArg {
            index: self.pick(&[0, 0, 1, 2, 5]),
            value: self.pick(&VALUES),
            value_two: self.pick(&VALUES),
            op: self.pick(&OPS).to_owned(),
        }
    }

    /// A profile that libseccomp can judge: one rule for each syscall, and no argument tested twice.
    pub fn judgeable_profile(&mut self) -> Seccomp {
        // What multiplexes others would get their rules as well.
        let mut names: Vec<&str> = (0..450).filter_map(|nr| Abi::X86_64.syscall_name(nr)).collect();
        names.retain(|name| abi::find(name).is_none_or(|entry| Abi::I386.multiplexer(entry).is_none()));
        names.extend(["socket", "connect", "accept", "shmat"]);
        let mut profile = self.profile();
        while profile.default_action == "SCMP_ACT_NOTIFY" {
            profile = self.profile();
        }
        profile.listener_path = None;
        let mut syscalls = Vec::new();
        while self.below(60) > 0 && names.len() > 50 {
            let count = self.pick(&[1, 1, 3, 40]);
            let some = (0..count).map(|_| names.swap_remove(self.below(names.len())).to_owned()).collect();
            let action = self
                .pick(&ACTIONS.map(|name| if name == "SCMP_ACT_NOTIFY" { "SCMP_ACT_TRAP" } else { name }));
            let mut args: Vec<SyscallArg> = (0..self.below(4)).map(|_| self.arg()).collect();
            args.sort_by_key(|arg| arg.index);
            args.dedup_by_key(|arg| arg.index);
            syscalls.push(Syscall {
                names: some,
                action: action.to_owned(),
                errno_ret: self.errno(action),
                args: Some(args),
            });
        }
        profile.syscalls = Some(syscalls);
        profile
    }
}
