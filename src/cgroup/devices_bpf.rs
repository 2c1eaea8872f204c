//! Device rules as an eBPF program: an assembler for the few instructions that takes. Pure.
//!
//! The kernel runs the program (`BPF_PROG_TYPE_CGROUP_DEVICE`) with a `struct bpf_cgroup_dev_ctx`
//! at each open and mknod; 1 allows, 0 forbids. A chain of rules would cost the verifier a path for
//! each combination; here every device that is an exception is one comparison that jumps to a
//! verdict shared by all with the same accesses, and the general case falls through.

use super::devices::{Kind, Rule, allowed};

/// Accesses of devices.rs are in the order of the letters, the kernel's (linux/bpf.h,
/// `BPF_DEVCG_ACC_*`) are mknod 1, read 2, write 4.
fn kernel_bits(access: u8) -> i32 {
    i32::from((access >> 2) & 1 | (access & 1) << 1 | (access & 2) << 1)
}
const ALL_BITS: i32 = 7;
/// `BPF_DEVCG_DEV_CHAR`.
const CHAR: i32 = 2;

// Registers: r1 is the context, r0 the answer.
const ACCESS: u8 = 2;
const TYPE: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const KEY: u8 = 6;

// Operation codes: linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbc;
const MOVE_CONSTANT: u8 = 0xb7;
const AND_CONSTANT: u8 = 0x54;
const OR: u8 = 0x4c;
const SHIFT_LEFT: u8 = 0x64;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
/// 32 bits wide (Linux 5.1): the constant of a 64-bit comparison would be sign-extended.
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_IF_ANY: u8 = 0x46;
const EXIT: u8 = 0x95;

/// `dev_t` has 12 bits for the major and 20 for the minor number (linux/kdev_t.h): both are one key.
const MINOR_BITS: u32 = 20;
const MAJOR_LIMIT: u32 = 1 << 12;
const MINOR_LIMIT: u32 = 1 << MINOR_BITS;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    CharSection,
    /// Allows exactly these accesses (the kernel's bits).
    Verdict(i32),
    Allow,
    Deny,
}

#[derive(Clone, Copy)]
enum Instruction {
    Plain { code: u8, target: u8, source: u8, offset: i16, constant: i32 },
    Jump { code: u8, register: u8, constant: i32, to: Label },
    Place(Label),
}

/// The program, or None if it would allow everything.
pub(super) fn compile(rules: &[Rule]) -> Option<Vec<u64>> {
    let mut code = Vec::new();
    let plain = |code, target, source, offset, constant| Instruction::Plain {
        code,
        target,
        source,
        offset,
        constant,
    };
    code.extend([
        plain(LOAD_WORD, TYPE, 1, 0, 0),
        plain(LOAD_WORD, MAJOR, 1, 4, 0),
        plain(LOAD_WORD, MINOR, 1, 8, 0),
        plain(MOVE, ACCESS, TYPE, 0, 0),
        plain(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        plain(AND_CONSTANT, TYPE, 0, 0, 0xffff),
        plain(MOVE, KEY, MAJOR, 0, 0),
        plain(SHIFT_LEFT, KEY, 0, 0, MINOR_BITS as i32),
        plain(OR, KEY, MINOR, 0, 0),
        Instruction::Jump { code: JUMP_IF_EQUAL, register: TYPE, constant: CHAR, to: Label::CharSection },
    ]);
    section(rules, Kind::Block, &mut code);
    code.push(Instruction::Place(Label::CharSection));
    section(rules, Kind::Char, &mut code);

    let mut verdicts: Vec<i32> = Vec::new();
    for instruction in &code {
        if let Instruction::Jump { to: Label::Verdict(bits), .. } = instruction
            && !verdicts.contains(bits)
        {
            verdicts.push(*bits);
        }
    }
    if verdicts == [ALL_BITS] {
        return None;
    }
    for bits in verdicts {
        code.extend([
            Instruction::Place(Label::Verdict(bits)),
            Instruction::Jump {
                code: JUMP_IF_ANY,
                register: ACCESS,
                constant: !bits & ALL_BITS,
                to: Label::Deny,
            },
            Instruction::Jump { code: JUMP, register: 0, constant: 0, to: Label::Allow },
        ]);
    }
    code.extend([
        Instruction::Place(Label::Allow),
        plain(MOVE_CONSTANT, 0, 0, 0, 1),
        plain(EXIT, 0, 0, 0, 0),
        Instruction::Place(Label::Deny),
        plain(MOVE_CONSTANT, 0, 0, 0, 0),
        plain(EXIT, 0, 0, 0, 0),
    ]);
    Some(assemble(&code))
}

/// One kind of device: the most special comparisons first.
fn section(rules: &[Rule], kind: Kind, code: &mut Vec<Instruction>) {
    let relevant: Vec<Rule> = rules
        .iter()
        .filter(|rule| rule.kinds().any(|own| own == kind))
        // A number that no device can have matches nothing.
        .filter(|rule| rule.major.is_none_or(|major| major < MAJOR_LIMIT))
        .filter(|rule| rule.minor.is_none_or(|minor| minor < MINOR_LIMIT))
        .copied()
        .collect();
    let mask = |major, minor| allowed(&relevant, kind, major, minor);
    let unique = |numbers: &mut dyn Iterator<Item = u32>| {
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let majors =
        unique(&mut relevant.iter().filter(|rule| rule.minor.is_none()).filter_map(|rule| rule.major));
    let minors =
        unique(&mut relevant.iter().filter(|rule| rule.major.is_none()).filter_map(|rule| rule.minor));

    // A pair is special if a rule names it, or if one names the major and another the minor number.
    let named = relevant.iter().filter_map(|rule| Some((rule.major?, rule.minor?)));
    let crossed = majors.iter().flat_map(|&major| minors.iter().map(move |&minor| (major, minor)));
    let mut pairs: Vec<(u32, u32)> = named.chain(crossed).collect();
    pairs.sort_unstable();
    pairs.dedup();

    let general = mask(None, None);
    let mut compare = |register, constant: u32, mask| {
        code.push(Instruction::Jump {
            code: JUMP_IF_EQUAL,
            register,
            constant: constant as i32,
            to: Label::Verdict(kernel_bits(mask)),
        });
    };
    for (major, minor) in pairs {
        // What the comparisons below would say of it.
        let otherwise = if majors.contains(&major) && mask(Some(major), None) != general {
            mask(Some(major), None)
        } else if minors.contains(&minor) {
            mask(None, Some(minor))
        } else {
            general
        };
        let own = mask(Some(major), Some(minor));
        if own != otherwise {
            compare(KEY, major << MINOR_BITS | minor, own);
        }
    }
    for major in majors {
        let own = mask(Some(major), None);
        if own != general {
            compare(MAJOR, major, own);
        }
    }
    for minor in minors {
        let own = mask(None, Some(minor));
        if own != general {
            compare(MINOR, minor, own);
        }
    }
    let to = Label::Verdict(kernel_bits(general));
    code.push(Instruction::Jump { code: JUMP, register: 0, constant: 0, to });
}

/// Resolves the labels. All jumps are forward.
fn assemble(code: &[Instruction]) -> Vec<u64> {
    let mut position = 0i16;
    let mut places: Vec<(Label, i16)> = Vec::new();
    for instruction in code {
        match instruction {
            Instruction::Place(label) => places.push((*label, position)),
            _ => position = position.saturating_add(1),
        }
    }
    let mut program = Vec::with_capacity(code.len());
    for instruction in code {
        program.push(match *instruction {
            Instruction::Place(_) => continue,
            Instruction::Plain { code, target, source, offset, constant } => {
                encode(code, target, source, offset, constant)
            }
            Instruction::Jump { code, register, constant, to } => {
                let place =
                    places.iter().find(|(label, _)| *label == to).map_or(i16::MAX, |(_, place)| *place);
                // Too far for 16 bits (thousands of rules): the verifier refuses to leave the program.
                let next = i16::try_from(program.len() + 1).unwrap_or(i16::MAX);
                encode(code, register, 0, place.saturating_sub(next), constant)
            }
        });
    }
    program
}

/// `struct bpf_insn`.
fn encode(code: u8, target: u8, source: u8, offset: i16, constant: i32) -> u64 {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = constant.to_ne_bytes();
    let registers = if cfg!(target_endian = "little") { target | source << 4 } else { target << 4 | source };
    u64::from_ne_bytes([code, registers, low, high, a, b, c, d])
}

#[cfg(test)]
mod tests;
