//! What a profile means, read off the specification and runc's documentation, one syscall at a time. Slow
//! and plain on purpose; it shares only the table of syscall numbers with the compiler.

use corten::seccomp::abi::{self, Abi, Entry};
use corten::spec::{Seccomp, Syscall, SyscallArg};

const KILL_THREAD: u32 = 0;
const ENOSYS: u32 = 0x0005_0000 | 38;

/// From a syscall's arguments to what the filter must return.
pub type Answers<'a> = Box<dyn Fn(&[u64; 6]) -> u32 + 'a>;

/// A profile, with its names looked up.
pub struct Model<'a> {
    profile: &'a Seccomp,
    native: Abi,
    rules: Vec<(&'a Syscall, Vec<&'static Entry>)>,
}

impl<'a> Model<'a> {
    pub fn new(profile: &'a Seccomp, native: Abi) -> Model<'a> {
        let rules = profile.syscalls.iter().flatten();
        let entries = |rule: &Syscall| rule.names.iter().filter_map(|name| abi::find(name)).collect();
        Model { profile, native, rules: rules.map(|rule| (rule, entries(rule))).collect() }
    }

    /// The value the filter must return for a syscall, by its arguments.
    pub fn answers(&self, arch: u32, nr: u32) -> Answers<'_> {
        let default = action(&self.profile.default_action, self.profile.default_errno_ret);
        let architectures = self.profile.architectures.as_deref().unwrap_or_default();
        let listed = |abi: Abi| abi == self.native || architectures.iter().any(|name| name == abi.name());
        let is_x32 = arch == Abi::X86_64.audit() && nr >= 0x4000_0000;
        if is_x32 && listed(Abi::X86_64) && !listed(Abi::X32) && nr == u32::MAX {
            return Box::new(move |_| default);
        }
        let same_arch = |abi: &Abi| abi.audit() == arch && (*abi == Abi::X32) == is_x32;
        let Some(abi) = Abi::ALL.into_iter().filter(|abi| listed(*abi)).find(same_arch) else {
            return Box::new(|_| KILL_THREAD);
        };

        // A rule for this syscall: directly, or with the first argument that i386 multiplexes it by.
        let mut matching = Vec::new();
        for (rule, entries) in &self.rules {
            if action(&rule.action, rule.errno_ret) == default {
                continue;
            }
            for entry in entries {
                if abi.number(entry) == Some(nr) {
                    matching.push((*rule, None));
                }
                if let Some((_, first)) = abi.multiplexer(entry).filter(|(by, _)| *by == nr) {
                    matching.push((*rule, Some(first)));
                }
            }
        }
        let newest = self.rules.iter().flat_map(|(_, entries)| entries).flat_map(|entry| {
            let direct = abi.number(entry).filter(|nr| abi != Abi::Arm || *nr < 0xf0000);
            direct.into_iter().chain(abi.multiplexer(entry).map(|(by, _)| by))
        });
        let newest = newest.max().unwrap_or(0);
        let lets_through = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"];
        let is_private = abi == Abi::Arm && nr >= 0xf0000;
        let is_unknown = newest > 0
            && nr > newest
            && !is_private
            && !lets_through.contains(&self.profile.default_action.as_str());
        let otherwise = if is_unknown { ENOSYS } else { default };
        Box::new(move |args| decide(&matching, args, abi).unwrap_or(otherwise))
    }
}

/// The action of the rule that matches, if any: each rule with what it demands of the first argument.
fn decide(matching: &[(&Syscall, Option<u64>)], args: &[u64; 6], abi: Abi) -> Option<u32> {
    for (rule, selector) in matching {
        if selector.is_none() && rule.args.as_ref().is_none_or(|args| args.is_empty()) {
            return Some(action(&rule.action, rule.errno_ret));
        }
    }
    for (rule, selector) in matching {
        let tests = rule.args.as_deref().unwrap_or_default();
        let repeated = (0..6).any(|index| tests.iter().filter(|test| test.index == index).count() > 1);
        let holds = |test: &SyscallArg| match (test.index, selector) {
            (0, Some(_)) => true,
            _ => compare(test, args[test.index as usize], abi),
        };
        let selected = selector.is_none_or(|first| args[0] as u32 == first as u32);
        let matches = if repeated { tests.iter().any(holds) } else { tests.iter().all(holds) };
        if selected && matches {
            return Some(action(&rule.action, rule.errno_ret));
        }
    }
    None
}

fn action(name: &str, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1);
    match name {
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => 0x0005_0000 | data,
        "SCMP_ACT_NOTIFY" => 0x7fc0_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        _ => panic!("{name}"),
    }
}

fn compare(test: &SyscallArg, argument: u64, abi: Abi) -> bool {
    let wide = matches!(abi, Abi::X86_64 | Abi::Aarch64 | Abi::Riscv64);
    let cut = |value: u64| if wide { value } else { u64::from(value as u32) };
    let (argument, value, second) = (cut(argument), cut(test.value), cut(test.value_two));
    match test.op.as_str() {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        // libseccomp's manual: equal to the masked datum; the specification leaves it open.
        "SCMP_CMP_MASKED_EQ" => argument & value == second & value,
        other => panic!("{other}"),
    }
}
