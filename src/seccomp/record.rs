//! The kernel's record of a syscall that a filter answered by killing: an audit record of type 1326
//! (`AUDIT_SECCOMP`), which stands in the kernel's log where no audit daemon takes it.

use super::abi::Abi;
use super::explain::{Reason, explain};
use super::policy::Policy;

/// What the kernel says of a killed process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// In the initial pid namespace.
    pub pid: i32,
    /// `seccomp_data.arch` and `seccomp_data.nr`.
    pub arch: u32,
    pub nr: u32,
    /// What the filter returned.
    pub value: u32,
}

impl Record {
    /// Reads a line of the kernel's log; `None` if it is about something else.
    pub fn parse(line: &str) -> Option<Record> {
        let (_, fields) = line.split_once("audit: type=1326 ")?;
        let field = |name: &str| {
            fields.split_ascii_whitespace().find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let hexadecimal = |digits: &str| u32::from_str_radix(digits, 16).ok();
        Some(Record {
            pid: field("pid")?.parse().ok()?,
            arch: hexadecimal(field("arch")?)?,
            // Printed as a signed number.
            nr: field("syscall")?.parse::<i64>().ok()? as u32,
            value: hexadecimal(field("code")?.strip_prefix("0x")?)?,
        })
    }

    /// The syscall, the answer and the rule it comes from: "mount (165): SCMP_ACT_KILL_THREAD (...)".
    pub fn describe(&self, policy: &Policy) -> String {
        let Some(abi) = Abi::of(self.arch, self.nr) else {
            return format!("syscall {} of architecture {:#x}", self.nr, self.arch);
        };
        let syscall = match abi.syscall_name(self.nr) {
            Some(name) => format!("{name} ({})", self.nr),
            None => format!("syscall {}", self.nr),
        };
        let verdicts = explain(policy, abi, self.nr, &[None; 6]);
        // Which rule it was depends on arguments that the kernel does not tell, but not what it does.
        let verdict = verdicts.into_iter().find(|verdict| verdict.action.value() == self.value);
        match verdict {
            Some(verdict) if verdict.reason == Reason::UnknownAbi => {
                format!("{syscall} of {}: {verdict}", abi.name())
            }
            Some(verdict) => format!("{syscall}: {verdict}"),
            // Another filter than the profile's, such as one that the program installed itself.
            None => syscall,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "6,1287,4871800485,-;audit: type=1326 audit(1795204902.743:3): auid=4294967295 uid=0 gid=0 \
                        ses=4294967295 pid=22968 comm=\"pid=7\" exe=\"/\" sig=31 arch=c000003e syscall=436 \
                        compat=0 ip=0x7f4a73eae829 code=0x80000000";

    #[test]
    fn tells_the_syscall_and_the_rule() {
        let record = Record::parse(LINE).expect("a record");
        assert_eq!(record, Record { pid: 22968, arch: 0xc000_003e, nr: 436, value: 0x8000_0000 });
        assert_eq!(
            Record::parse("6,1,1,-;audit: type=1400 audit(1:1): pid=1 syscall=2 arch=c000003e code=0x0"),
            None
        );
        let describe = |json: &str| {
            let profile = serde_json::from_str(json).expect("a profile");
            record.describe(&super::super::policy::resolve(&profile, Abi::X86_64).expect("a valid profile"))
        };
        assert_eq!(
            describe(r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS"}"#),
            "close_range (436): SCMP_ACT_KILL_PROCESS (no rule: config.json#/linux/seccomp/defaultAction)"
        );
        assert_eq!(
            describe(
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    {"names": ["close_range"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "op": "SCMP_CMP_EQ"}]},
                    {"names": ["close_range"], "action": "SCMP_ACT_KILL_PROCESS",
                     "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}]}]}"#
            ),
            "close_range (436): if arg0 == 0x3: SCMP_ACT_KILL_PROCESS (config.json#/linux/seccomp/syscalls/1)"
        );
        assert_eq!(describe(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#), "close_range (436)");
    }
}
