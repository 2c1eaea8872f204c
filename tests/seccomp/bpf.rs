//! A classic BPF machine as seccomp runs it, written from Documentation/networking/filter.rst and the
//! kernel's `seccomp_check_filter`; it shares nothing with the compiler.

use seccompiler::sock_filter;

/// `struct seccomp_data`, without the instruction pointer, which no filter of ours reads.
#[derive(Debug, Clone, Copy)]
pub struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 => (self.args[(offset as usize - 16) / 8] >> (offset % 8 * 8)) as u32,
            _ => panic!("load at {offset}"),
        }
    }
}

/// What the filter returns, and after how many instructions.
pub fn run(program: &[sock_filter], data: &Data) -> (u32, usize) {
    let (mut accumulator, mut at) = (0u32, 0);
    for executed in 1.. {
        let sock_filter { code, jt, jf, k } = program[at].clone();
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x45 => at += branch(accumulator & k != 0),
            0x06 => return (k, executed),
            _ => panic!("opcode {code:#x}"),
        }
    }
    unreachable!()
}

/// The kernel's rules: known opcodes, forward jumps inside the program, aligned loads, a return at the end.
pub fn check(program: &[sock_filter]) -> Result<(), String> {
    if program.is_empty() || program.len() > 4096 {
        return Err(format!("{} instructions", program.len()));
    }
    for (at, sock_filter { code, jt, jf, k }) in program.iter().enumerate() {
        let after = program.len() - at - 1;
        let fits = match code {
            0x20 => k % 4 == 0 && *k < 64,
            0x54 | 0x06 => true,
            0x05 => (*k as usize) < after,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(*jt.max(jf)) < after,
            _ => false,
        };
        if !fits {
            return Err(format!("instruction {at}: {code:#x} {jt} {jf} {k:#x}"));
        }
    }
    match program.last().map(|last| last.code) {
        Some(0x06) => Ok(()),
        _ => Err("the last instruction is not a return".to_owned()),
    }
}
