//! A policy as a classic BPF program: a dispatch over architectures, and for each of them a balanced tree
//! over syscall numbers whose leaves are returns, or argument tests.
//!
//! Before the argument tests there are only loads of `nr` and `arch`, jumps and returns: what the kernel
//! can evaluate when it loads the filter, to allow syscalls without running it (since Linux 5.11).
//!
//! The program is emitted backwards, so that every jump knows its target.

use seccompiler::{BpfProgram, sock_filter};

use super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::args::{body, ret};
use super::policy::{Action, Call, Policy, Table};

/// The most instructions the kernel takes: `BPF_MAXINSNS` of linux/bpf_common.h.
pub const MAX_LEN: usize = 4096;

/// Opcodes of linux/filter.h: BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JA, BPF_JMP | BPF_JEQ | BPF_K,
/// BPF_JMP | BPF_JGE | BPF_K.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;

/// Offsets into `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;

/// The program for `policy`. It may be longer than [`MAX_LEN`].
pub fn compile(policy: &Policy) -> BpfProgram {
    let mut emitter = Emitter { policy, code: Vec::with_capacity(512), returns: Vec::new() };
    let mut audits: Vec<u32> = policy.tables.iter().map(|table| table.abi.audit()).collect();
    audits.sort_unstable();
    audits.dedup();

    let mut sections = Vec::with_capacity(audits.len());
    // In ascending order, so that the 64-bit architecture comes first in the program and in its dispatch.
    for audit in audits {
        let (segments, bodies) = segments(policy, audit);
        let mut bodies = bodies.into_iter().map(|call| Body { call, at: None }).collect::<Vec<_>>();
        let tree = emitter.tree(&segments, &mut bodies);
        emitter.jump_to(tree);
        emitter.push(sock_filter { code: LOAD, jt: 0, jf: 0, k: NR });
        sections.push((audit, emitter.here()));
    }
    emitter.push(ret(Action::UNKNOWN_ABI.value()));
    for (audit, section) in sections {
        let distance = emitter.distance(section);
        match u8::try_from(distance) {
            Ok(jt) => emitter.push(sock_filter { code: JUMP_EQUAL, jt, jf: 0, k: audit }),
            Err(_) => {
                emitter.push(sock_filter { code: JUMP, jt: 0, jf: 0, k: distance });
                emitter.push(sock_filter { code: JUMP_EQUAL, jt: 0, jf: 1, k: audit });
            }
        }
    }
    emitter.push(sock_filter { code: LOAD, jt: 0, jf: 0, k: ARCH });
    emitter.code.reverse();
    emitter.code
}

/// What happens to the syscalls from `start` to the next segment's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    start: u32,
    leaf: Leaf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf {
    Return(u32),
    /// Index of a body.
    Test(usize),
}

/// An argument test: which, and where it stands once it is emitted.
struct Body<'a> {
    call: (Call<'a>, bool),
    at: Option<usize>,
}

/// The whole range of numbers of one architecture, and the distinct argument tests in it (with their width).
fn segments(policy: &Policy, audit: u32) -> (Vec<Segment>, Vec<(Call<'_>, bool)>) {
    let mut line = Line { segments: Vec::with_capacity(256), bodies: Vec::new() };
    let find = |abi: Abi| policy.tables.iter().find(|table| table.abi == abi);
    if audit != Abi::X86_64.audit() {
        let table = policy.tables.iter().find(|table| table.abi.audit() == audit);
        line.table(policy, table, 0);
        return (line.segments, line.bodies);
    }
    line.table(policy, find(Abi::X86_64), 0);
    line.table(policy, find(Abi::X32), X32_BIT);
    if find(Abi::X32).is_none() {
        // What a tracer that cancels a syscall leaves in its place; not an x32 syscall.
        line.push(u32::MAX, Leaf::Return(policy.default.value()));
    }
    (line.segments, line.bodies)
}

struct Line<'a> {
    segments: Vec<Segment>,
    bodies: Vec<(Call<'a>, bool)>,
}

impl<'a> Line<'a> {
    /// From `start` on, which no earlier segment passes, `leaf` happens.
    fn push(&mut self, start: u32, leaf: Leaf) {
        self.segments.pop_if(|last| last.start == start);
        if self.segments.last().is_none_or(|last| last.leaf != leaf) {
            self.segments.push(Segment { start, leaf });
        }
    }

    /// The numbers of `table`, which begin with `start`.
    fn table(&mut self, policy: &'a Policy, table: Option<&'a Table>, start: u32) {
        let Some(table) = table else {
            return self.push(start, Leaf::Return(Action::UNKNOWN_ABI.value()));
        };
        let default = Leaf::Return(policy.default.value());
        let unknown = Leaf::Return(Action::UNKNOWN_SYSCALL.value());
        self.push(start, default);
        let (mut calls, mut private) = (table.calls(policy).peekable(), Vec::new());
        while let Some(call) = calls.next_if(|call| table.abi != Abi::Arm || call.nr < ARM_PRIVATE) {
            self.call(policy, call, table.abi, default);
        }
        private.extend(calls);
        if let Some(newest) = table.newest {
            self.push(newest + 1, unknown);
        }
        if table.abi == Abi::Arm {
            self.push(ARM_PRIVATE, default);
        }
        for call in private {
            self.call(policy, call, table.abi, default);
        }
    }

    fn call(&mut self, policy: &Policy, call: Call<'a>, abi: Abi, default: Leaf) {
        let leaf = self.leaf(policy, call, abi.is_wide());
        self.push(call.nr, leaf);
        self.push(call.nr + 1, default);
    }

    fn leaf(&mut self, policy: &Policy, call: Call<'a>, wide: bool) -> Leaf {
        let mut clauses = call.clauses();
        if clauses.len() == 1 {
            let only = &policy.clauses[clauses.next().unwrap_or_default()];
            if only.conditions.is_empty() {
                return Leaf::Return(only.action.value());
            }
        }
        let same = |(other, of): &(Call<'a>, bool)| *of == wide && other.clauses().eq(call.clauses());
        let at = self.bodies.iter().position(same).unwrap_or_else(|| {
            self.bodies.push((call, wide));
            self.bodies.len() - 1
        });
        Leaf::Test(at)
    }
}

/// Writes a program from its last instruction to its first.
struct Emitter<'a> {
    policy: &'a Policy,
    code: Vec<sock_filter>,
    /// Where each return value was emitted last.
    returns: Vec<(u32, usize)>,
}

impl Emitter<'_> {
    fn push(&mut self, instruction: sock_filter) {
        self.code.push(instruction);
    }

    /// The place of the instruction emitted last.
    fn here(&self) -> usize {
        self.code.len() - 1
    }

    /// The jump offset from the next instruction emitted to `target`.
    fn distance(&self, target: usize) -> u32 {
        (self.here() - target) as u32
    }

    fn is_near(&self, target: usize) -> bool {
        self.distance(target) <= u32::from(u8::MAX)
    }

    /// Makes the next instruction emitted continue at `target`.
    fn jump_to(&mut self, target: usize) {
        let distance = self.distance(target);
        if distance > 0 {
            self.push(sock_filter { code: JUMP, jt: 0, jf: 0, k: distance });
        }
    }

    /// Emits the tree over `segments`, which is not empty; gives the place where it begins.
    fn tree(&mut self, segments: &[Segment], bodies: &mut [Body]) -> usize {
        let (left, right) = segments.split_at(segments.len() / 2);
        if left.is_empty() {
            return self.leaf(right[0].leaf, bodies);
        }
        // A leaf is emitted as late as possible: nearest to its jump.
        let inner = |part: &[Segment]| part.len() > 1;
        let high = inner(right).then(|| self.tree(right, bodies));
        let low = inner(left).then(|| self.tree(left, bodies));
        let mut high = high.unwrap_or_else(|| self.leaf(right[0].leaf, bodies));
        let mut low = low.unwrap_or_else(|| self.leaf(left[0].leaf, bodies));
        while !(self.is_near(high) && self.is_near(low)) {
            let far = if self.is_near(high) { &mut low } else { &mut high };
            *far = self.relay(*far);
        }
        let (jt, jf) = (self.distance(high) as u8, self.distance(low) as u8);
        self.push(sock_filter { code: JUMP_AT_LEAST, jt, jf, k: right[0].start });
        self.here()
    }

    fn leaf(&mut self, leaf: Leaf, bodies: &mut [Body]) -> usize {
        match leaf {
            Leaf::Return(value) => self.ret(value),
            Leaf::Test(index) => {
                let body_of = &mut bodies[index];
                *body_of.at.get_or_insert_with(|| {
                    let (call, wide) = body_of.call;
                    self.code.extend(body(self.policy, call.clauses(), wide).into_iter().rev());
                    self.code.len() - 1
                })
            }
        }
    }

    /// A place near enough for a jump where `value` is returned.
    fn ret(&mut self, value: u32) -> usize {
        let known = self.returns.iter().position(|(of, _)| *of == value);
        match known {
            Some(known) if self.is_near(self.returns[known].1) => self.returns[known].1,
            _ => {
                self.push(ret(value));
                let at = self.here();
                match known {
                    Some(known) => self.returns[known].1 = at,
                    None => self.returns.push((value, at)),
                }
                at
            }
        }
    }

    /// A near place that continues at `target`.
    fn relay(&mut self, target: usize) -> usize {
        if self.code[target].code == ret(0).code {
            let value = self.code[target].k;
            return self.ret(value);
        }
        self.jump_to(target);
        self.here()
    }
}
