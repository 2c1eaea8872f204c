//! bpf(2) for programs that decide on device accesses of a cgroup (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//! For the parent only: init never loads a program.

use super::{Result, Word, checked, six};

const PROG_LOAD: u32 = 5;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const PROG_GET_FD_BY_ID: u32 = 13;
const PROG_QUERY: u32 = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;

/// Several programs, all of which must allow, also those of sub-cgroups.
const ALLOW_MULTI: u32 = 2;
/// Linux 5.6.
const REPLACE: u32 = 4;

/// The parts of `union bpf_attr`.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: *const u64,
    license: *const u8,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Attach {
    cgroup: i32,
    program: i32,
    kind: u32,
    flags: u32,
    replaced: i32,
}

#[repr(C)]
struct Query {
    cgroup: i32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: *mut u32,
    count: u32,
    reserved: u32,
}

fn bpf<T>(command: u32, attr: *mut T) -> Result<usize> {
    call!(SYS_bpf, command, attr, size_of::<T>())
}

/// Loads a device program; an instruction is 8 bytes in the layout of `struct bpf_insn`.
pub fn load_device_program(instructions: &[u64]) -> Result<i32> {
    let mut attr = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr(),
        license: c"Apache".as_ptr().cast(),
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"corten_devices\0\0",
    };
    bpf(PROG_LOAD, &raw mut attr).map(|fd| fd as i32)
}

/// Attaches a device program to a cgroup, in the place of `replaced` or beside those that are there.
pub fn attach_device_program(cgroup: i32, program: i32, replaced: Option<i32>) -> Result<()> {
    let flags = ALLOW_MULTI | if replaced.is_some() { REPLACE } else { 0 };
    let mut attr = Attach { cgroup, program, kind: CGROUP_DEVICE, flags, replaced: replaced.unwrap_or(0) };
    bpf(PROG_ATTACH, &raw mut attr).map(drop)
}

pub fn detach_device_program(cgroup: i32, program: i32) -> Result<()> {
    let mut attr = Attach { cgroup, program, kind: CGROUP_DEVICE, flags: 0, replaced: 0 };
    bpf(PROG_DETACH, &raw mut attr).map(drop)
}

/// Fills `ids` with the device programs attached to the cgroup itself; how many there are.
/// ENOSPC if `ids` is too short.
pub fn device_programs(cgroup: i32, ids: &mut [u32]) -> Result<usize> {
    let mut attr = Query {
        cgroup,
        kind: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr(),
        count: ids.len() as u32,
        reserved: 0,
    };
    bpf(PROG_QUERY, &raw mut attr)?;
    Ok(attr.count as usize)
}

/// A descriptor of the program with `id`, close-on-exec as all of bpf(2)'s.
pub fn program_by_id(id: u32) -> Result<i32> {
    let mut attr = [id, 0, 0];
    bpf(PROG_GET_FD_BY_ID, &raw mut attr).map(|fd| fd as i32)
}
