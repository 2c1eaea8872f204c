//! Why a file cannot be executed. The kernel says "exec format error" for a program of another
//! machine, for a script without a first line, and for an empty file; and "no such file" for a file
//! that is there but whose interpreter is not. A look at the file's first bytes tells them apart.

use nix::errno::Errno;

use crate::error::describe;

/// The kernel's answer to execve(2) of `name`, and what the first bytes of the file say about it.
pub fn explain(name: &str, errno: Errno, head: &[u8]) -> String {
    let answer = format!("exec {name}: {}", describe(errno));
    match reason(errno, head) {
        Some(reason) => format!("{answer}: {reason}"),
        None => answer,
    }
}

fn reason(errno: Errno, head: &[u8]) -> Option<String> {
    match errno {
        Errno::ENOEXEC if head.is_empty() => Some("the file is empty, perhaps a damaged layer".to_owned()),
        Errno::ENOEXEC if head.starts_with(b"\x7fELF") => Some(match machine(head) {
            Some(theirs) if Some(theirs) != machine_here() => {
                format!("{} binary on {} host", article(name_of(theirs)), article(std::env::consts::ARCH))
            }
            _ => "the ELF file is damaged, or of another kind than a program".to_owned(),
        }),
        Errno::ENOEXEC if head.starts_with(b"#!") => Some("its first line names no interpreter".to_owned()),
        Errno::ENOEXEC if head.starts_with(b"MZ") => Some("a Windows program".to_owned()),
        Errno::ENOEXEC
            if head.iter().take(64).all(|byte| !byte.is_ascii_control() || b"\t\r\n".contains(byte)) =>
        {
            Some("a script without a first line such as #!/bin/sh".to_owned())
        }
        Errno::ENOEXEC => Some("neither a program nor a script".to_owned()),
        Errno::ENOENT => {
            let interpreter = interpreter(head)?;
            let carriage =
                if interpreter.ends_with('\r') { " (the line ends with a carriage return)" } else { "" };
            Some(format!("its interpreter {} does not exist{carriage}", interpreter.trim_end_matches('\r')))
        }
        Errno::EACCES => {
            let interpreter = interpreter(head)?;
            Some(format!(
                "its interpreter {interpreter} may not be executed, or the file system is mounted noexec"
            ))
        }
        _ => None,
    }
}

/// The interpreter of a script, or the dynamic loader of a program.
fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = String::from_utf8_lossy(line);
        return line.trim_start_matches([' ', '\t']).split([' ', '\t']).next().map(str::to_owned);
    }
    elf_interpreter(head)
}

fn number(head: &[u8], at: usize, bytes: usize) -> Option<u64> {
    let field = head.get(at..at + bytes)?;
    let big_endian = head.get(5) == Some(&2);
    let value = |byte: u64, next: &u8| byte << 8 | u64::from(*next);
    Some(if big_endian { field.iter().fold(0, value) } else { field.iter().rev().fold(0, value) })
}

/// `PT_INTERP` of elf(5), as far as it lies in `head`.
fn elf_interpreter(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let wide = head.get(4) == Some(&2);
    let (table, entry, count) = if wide {
        (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?)
    } else {
        (number(head, 28, 4)?, number(head, 42, 2)?, number(head, 44, 2)?)
    };
    for index in 0..count.min(64) {
        let at = usize::try_from(table.checked_add(index.checked_mul(entry)?)?).ok()?;
        if number(head, at, 4)? != PT_INTERP {
            continue;
        }
        let (offset, size) = if wide {
            (number(head, at + 8, 8)?, number(head, at + 32, 8)?)
        } else {
            (number(head, at + 4, 4)?, number(head, at + 16, 4)?)
        };
        let start = usize::try_from(offset).ok()?;
        let path = head.get(start..start.checked_add(usize::try_from(size).ok()?)?)?;
        return Some(String::from_utf8_lossy(path).trim_end_matches('\0').to_owned());
    }
    None
}

fn machine(head: &[u8]) -> Option<u64> {
    number(head, 18, 2)
}

/// `EM_*` of elf(5).
const MACHINES: [(u64, &str); 9] = [
    (3, "i386"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

fn machine_here() -> Option<u64> {
    MACHINES.iter().find(|(_, name)| *name == std::env::consts::ARCH).map(|(number, _)| *number)
}

fn name_of(machine: u64) -> &'static str {
    MACHINES.iter().find(|(number, _)| *number == machine).map_or("foreign", |(_, name)| name)
}

fn article(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o']) || name.starts_with("x86") || name.starts_with("s390");
    format!("{} {name}", if vowel { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_format_errors_are_told_apart() {
        let explain = |head: &[u8]| explain("/app", Errno::ENOEXEC, head);
        assert!(explain(b"").ends_with("exec format error: the file is empty, perhaps a damaged layer"));
        assert!(explain(b"echo hello\n").ends_with("a script without a first line such as #!/bin/sh"));
        assert!(explain(b"\0\x01\x02").ends_with("neither a program nor a script"));
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
        assert!(explain(&elf).contains(" binary on "), "{}", explain(&elf));
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let script = explain("/run.sh", Errno::ENOENT, b"#! /bin/nosuch -e\necho\n");
        assert_eq!(
            script,
            "exec /run.sh: no such file or directory: its interpreter /bin/nosuch does not exist"
        );
        let dos = explain("/run.sh", Errno::ENOENT, b"#!/bin/sh\r\necho\r\n");
        assert!(dos.ends_with("/bin/sh does not exist (the line ends with a carriage return)"), "{dos}");
    }

    #[test]
    fn the_loader_of_a_program_is_found() {
        let own = std::fs::read("/bin/ls").unwrap();
        let loader = interpreter(&own[..1024]).unwrap();
        assert!(std::path::Path::new(&loader).exists(), "{loader}");
        for cut in 0..1024 {
            let _ = interpreter(&own[..cut]);
        }
    }
}
