//! The syscall ABIs: how the kernel tells them apart in `struct seccomp_data`, and their numbers.

pub use super::syscalls::Entry;
use super::syscalls::TABLE;

/// The bit that tells an x32 syscall from an x86_64 one; both have the same audit architecture.
pub const X32_BIT: u32 = 0x4000_0000;

/// The first of the calls that only 32-bit ARM kernels have (`__ARM_NR_BASE`), far above the others.
pub const ARM_PRIVATE: u32 = 0x000f_0000;

/// A way to enter the kernel, with its own syscall numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Abi {
    X86_64,
    I386,
    X32,
    Aarch64,
    Arm,
    Riscv64,
}

impl Abi {
    /// In the order of the table's columns.
    pub const ALL: [Abi; 6] = [Abi::X86_64, Abi::I386, Abi::X32, Abi::Aarch64, Abi::Arm, Abi::Riscv64];

    /// The ABI this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Abi = Abi::X86_64;
    /// The ABI this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Abi = Abi::Aarch64;
    /// The ABI this program was built for.
    #[cfg(target_arch = "riscv64")]
    pub const NATIVE: Abi = Abi::Riscv64;

    /// The name in `linux.seccomp.architectures`.
    pub fn name(self) -> &'static str {
        match self {
            Abi::X86_64 => "SCMP_ARCH_X86_64",
            Abi::I386 => "SCMP_ARCH_X86",
            Abi::X32 => "SCMP_ARCH_X32",
            Abi::Aarch64 => "SCMP_ARCH_AARCH64",
            Abi::Arm => "SCMP_ARCH_ARM",
            Abi::Riscv64 => "SCMP_ARCH_RISCV64",
        }
    }

    /// The ABI of a name in `linux.seccomp.architectures`.
    pub fn from_name(name: &str) -> Option<Abi> {
        Abi::ALL.into_iter().find(|abi| abi.name() == name)
    }

    /// `seccomp_data.arch`: an `AUDIT_ARCH_*` of `linux/audit.h`.
    pub fn audit(self) -> u32 {
        const LITTLE_ENDIAN: u32 = 0x4000_0000;
        const WIDE: u32 = 0x8000_0000;
        match self {
            Abi::X86_64 | Abi::X32 => 62 | WIDE | LITTLE_ENDIAN,
            Abi::I386 => 3 | LITTLE_ENDIAN,
            Abi::Aarch64 => 183 | WIDE | LITTLE_ENDIAN,
            Abi::Arm => 40 | LITTLE_ENDIAN,
            Abi::Riscv64 => 243 | WIDE | LITTLE_ENDIAN,
        }
    }

    /// The ABI of a syscall, by `seccomp_data.arch` and `seccomp_data.nr`.
    pub fn of(arch: u32, nr: u32) -> Option<Abi> {
        let is_x32 = arch == Abi::X32.audit() && nr & X32_BIT != 0;
        let mut all = Abi::ALL.into_iter().filter(|abi| (*abi == Abi::X32) == is_x32);
        all.find(|abi| abi.audit() == arch)
    }

    /// Whether arguments are compared in 64 bits; otherwise the low 32 bits count, as in libseccomp.
    pub fn is_wide(self) -> bool {
        matches!(self, Abi::X86_64 | Abi::Aarch64 | Abi::Riscv64)
    }

    /// The number of the syscall `entry` as the kernel puts it into `seccomp_data.nr`.
    pub fn number(self, entry: &Entry) -> Option<u32> {
        let number = u32::try_from(entry.1[self as usize]).ok()?;
        Some(if self == Abi::X32 { number | X32_BIT } else { number })
    }

    /// The i386 syscall that multiplexes `entry`, and the first argument that selects it there.
    pub fn multiplexer(self, entry: &Entry) -> Option<(u32, u64)> {
        const SOCKETCALL: u32 = 102;
        const IPC: u32 = 117;
        match entry.2 {
            0 => None,
            _ if self != Abi::I386 => None,
            socket @ 1..200 => Some((SOCKETCALL, u64::from(socket) - 100)),
            ipc => Some((IPC, u64::from(ipc) - 200)),
        }
    }

    /// The name of the syscall with this `seccomp_data.nr`.
    pub fn syscall_name(self, nr: u32) -> Option<&'static str> {
        TABLE.iter().find(|entry| self.number(entry) == Some(nr)).map(|entry| entry.0)
    }
}

/// Looks the syscall `name` up.
pub fn find(name: &str) -> Option<&'static Entry> {
    Lookup::default().find(name)
}

/// A series of look-ups. Engines list most names in alphabetical order, so that the next one is near.
#[derive(Default)]
pub struct Lookup {
    next: usize,
}

impl Lookup {
    /// Looks the syscall `name` up.
    pub fn find(&mut self, name: &str) -> Option<&'static Entry> {
        const NEAR: usize = 4;
        let end = TABLE.len().min(self.next + NEAR);
        let near = TABLE[self.next..end].iter().position(|entry| entry.0 == name);
        let at = match near {
            Some(distance) => self.next + distance,
            None => TABLE.binary_search_by(|entry| entry.0.cmp(name)).ok()?,
        };
        self.next = at + 1;
        Some(&TABLE[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_unique() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_name_is_found_whatever_came_before_it() {
        for next in 0..=TABLE.len() {
            for entry in TABLE {
                assert_eq!(Lookup { next }.find(entry.0), Some(entry));
            }
            assert_eq!(Lookup { next }.find("no_such_call"), None);
            assert_eq!(Lookup { next }.find(""), None);
            assert_eq!(Lookup { next }.find("zzz"), None);
        }
    }

    #[test]
    fn numbers_are_those_of_the_c_library() {
        let entry = |name| find(name).unwrap();
        assert_eq!(Abi::NATIVE.number(entry("openat2")), Some(libc::SYS_openat2 as u32));
        assert_eq!(Abi::NATIVE.number(entry("execve")), Some(libc::SYS_execve as u32));
        assert_eq!(Abi::X32.number(entry("execve")), Some(X32_BIT | 520));
        assert_eq!(Abi::I386.multiplexer(entry("sendmmsg")), Some((102, 20)));
        assert_eq!(Abi::I386.multiplexer(entry("shmctl")), Some((117, 24)));
        assert_eq!(Abi::X86_64.multiplexer(entry("socket")), None);
        assert_eq!(Abi::Arm.number(entry("set_tls")), Some(ARM_PRIVATE + 5));
        assert_eq!(Abi::I386.syscall_name(102), Some("socketcall"));
        assert_eq!(Abi::I386.syscall_name(117), Some("ipc"));
    }
}
