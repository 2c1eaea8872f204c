//! A process that does nothing, so that something is not empty.

use crate::sys;

/// How long it waits for its end, should the parent have died before it could ask for that.
const MILLISECONDS: i32 = 60_000;

/// Lives until the parent kills it or dies. Holds none of the parent's descriptors.
pub fn hold() -> ! {
    // Whatever of this fails, the time limit holds.
    let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
    let _ = sys::close_range(0, u32::MAX, 0);
    let _ = sys::poll(&mut [], MILLISECONDS);
    sys::exit(0)
}
