//! seccomp(2).

use core::ptr::null;

use super::{Errno, Result, Word, checked, six};

/// Loads a filter; an instruction is 8 bytes in the layout of `struct sock_filter`. Gives the listener's
/// descriptor with `SECCOMP_FILTER_FLAG_NEW_LISTENER`, else 0.
pub fn load(flags: u32, program: &[u64]) -> Result<i32> {
    #[repr(C)]
    struct Program(u16, *const u64);
    let length = u16::try_from(program.len()).map_err(|_| Errno(libc::E2BIG))?;
    let program = Program(length, program.as_ptr());
    call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program).map(|fd| fd as i32)
}

/// Whether the kernel knows all of `flags` (`SECCOMP_FILTER_FLAG_*`) together. Loads nothing.
pub fn knows_flags(flags: u32) -> bool {
    // It looks at the flags first, and fails to read a program from a null pointer only then.
    call!(SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, null::<u64>()) == Err(Errno(libc::EFAULT))
}
