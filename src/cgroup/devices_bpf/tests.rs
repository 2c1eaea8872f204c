//! The program is interpreted and compared with the definition in devices.rs.

use super::*;

/// What the kernel would answer.
fn interpret(program: &[u64], kind: Kind, major: u32, minor: u32, access: i32) -> bool {
    let device = if kind == Kind::Char { CHAR } else { 1 };
    let context = [access << 16 | device, major as i32, minor as i32];
    let mut registers = [0i64; 11];
    let mut at = 0;
    for _ in 0..program.len() {
        let [code, pair, low, high, a, b, c, d] = program[at].to_ne_bytes();
        let (target, source) = ((pair & 15) as usize, (pair >> 4) as usize);
        let offset = i16::from_ne_bytes([low, high]);
        let constant = i32::from_ne_bytes([a, b, c, d]);
        let word = |value: i64| value as u32;
        at += 1;
        let jump = match code {
            LOAD_WORD => {
                assert_eq!(source, 1);
                registers[target] = i64::from(context[offset as usize / 4] as u32);
                false
            }
            MOVE => {
                registers[target] = i64::from(word(registers[source]));
                false
            }
            MOVE_CONSTANT => {
                registers[target] = i64::from(constant);
                false
            }
            AND_CONSTANT => {
                registers[target] = i64::from(word(registers[target]) & constant as u32);
                false
            }
            OR => {
                registers[target] = i64::from(word(registers[target]) | word(registers[source]));
                false
            }
            SHIFT_LEFT => {
                registers[target] = i64::from(word(registers[target]) << constant);
                false
            }
            SHIFT_RIGHT => {
                registers[target] = i64::from(word(registers[target]) >> constant);
                false
            }
            JUMP => true,
            JUMP_IF_EQUAL => word(registers[target]) == constant as u32,
            JUMP_IF_ANY => word(registers[target]) & constant as u32 != 0,
            EXIT => return registers[0] == 1,
            other => panic!("instruction {other:#x}"),
        };
        if jump {
            at = at.strict_add_signed(isize::from(offset));
        }
    }
    panic!("the program does not end");
}

/// Every kind, every number that a rule names and one besides, every set of accesses.
fn check(rules: &[Rule]) {
    let program = compile(rules);
    let numbers = |number: fn(&Rule) -> Option<u32>, unused: u32| {
        let mut numbers: Vec<u32> = rules.iter().filter_map(number).chain([0, unused]).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let majors = numbers(|rule| rule.major, 4095);
    let minors = numbers(|rule| rule.minor, 0xf_fffe);
    for kind in [Kind::Block, Kind::Char] {
        for &major in majors.iter().filter(|&&major| major < MAJOR_LIMIT) {
            for &minor in minors.iter().filter(|&&minor| minor < MINOR_LIMIT) {
                let mask = allowed(rules, kind, Some(major), Some(minor));
                for access in 0..8 {
                    let expected = access & !kernel_bits(mask) == 0;
                    let found = program.as_ref().is_none_or(|p| interpret(p, kind, major, minor, access));
                    assert_eq!(found, expected, "{kind:?} {major}:{minor} {access:03b} by {rules:?}");
                }
            }
        }
    }
}

fn rule(allow: bool, kind: Option<Kind>, major: Option<u32>, minor: Option<u32>, access: u8) -> Rule {
    Rule { allow, kind, major, minor, access }
}

#[test]
fn letters_and_bits() {
    assert_eq!([1, 2, 4, 7].map(kernel_bits), [2, 4, 1, 7]);
}

#[test]
fn nothing_and_everything() {
    check(&[]);
    assert_eq!(compile(&[]).map(|program| program.len()), Some(18));
    assert_eq!(compile(&[rule(true, None, None, None, 7)]), None);
    check(&[rule(true, None, None, None, 7), rule(false, None, None, None, 7)]);
}

#[test]
fn order_and_wildcards() {
    use Kind::{Block, Char};
    check(&[
        rule(true, Some(Char), None, None, 4),
        rule(true, Some(Char), Some(1), Some(3), 7),
        rule(true, Some(Char), Some(136), None, 7),
        rule(true, None, None, Some(9), 1),
        rule(false, Some(Char), Some(136), Some(9), 2),
        rule(false, Some(Block), Some(4095), Some(0xf_ffff), 7),
        rule(true, Some(Block), Some(2048), Some(0), 3),
        rule(true, Some(Block), Some(5000), Some(1), 7),
        rule(true, Some(Block), Some(8), Some(1 << 20), 7),
    ]);
    check(&[
        rule(true, None, None, None, 7),
        rule(false, None, Some(8), None, 2),
        rule(true, None, Some(8), Some(1), 2),
    ]);
}

/// Small numbers, so that rules collide.
#[test]
fn any_rules() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: u64| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..3000 {
        let rules: Vec<Rule> = (0..random(9))
            .map(|_| {
                let kind = [None, Some(Kind::Block), Some(Kind::Char)][random(3) as usize];
                let mut number = || match random(5) {
                    4 => None,
                    number => Some(number as u32),
                };
                let (major, minor) = (number(), number());
                rule(random(2) == 1, kind, major, minor, 1 + random(7) as u8)
            })
            .collect();
        check(&rules);
    }
}
