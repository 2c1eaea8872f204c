//! The container's terminal: a pseudoterminal of its own devpts, whose master goes to the parent.

use libc::{O_NOCTTY, O_NOFOLLOW, O_RDWR};

use crate::mounts;
use crate::paths::{self, Walk};
use crate::program::{Called, Fault, Program, Slot};
use crate::sys;

/// `TIOCGPTPEER`: opens the other side by its master and not by a name that may be swapped
/// (CVE-2025-52565). Linux 4.13.
const TIOCGPTPEER: u64 = 0x5441;
/// statfs(2) of a devpts.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Makes the pseudoterminal: (master, other side).
pub fn open(program: &Program) -> Result<(i32, i32), Fault> {
    let pts = paths::find(program.slot(Slot::ROOT), c"/dev/pts")?;
    // Only a devpts has a "ptmx" that is the kernel's own and no link that was left for us.
    let devpts = sys::statfs(pts).called("fstatfs").map(|(magic, _)| magic == DEVPTS_MAGIC);
    let master = match devpts {
        Ok(true) => sys::openat(pts, c"ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW, 0).called("open"),
        Ok(false) => Err(Fault::new("open", libc::ENODEV)),
        Err(fault) => Err(fault),
    };
    sys::close(pts);
    let master = master?;
    sys::unlock_terminal(master).called("ioctl")?;
    let flags = (O_RDWR | O_NOCTTY | libc::O_CLOEXEC) as u64;
    let other = sys::ioctl(master, TIOCGPTPEER, flags).called("ioctl")?;
    Ok((master, other))
}

/// Puts the terminal onto /dev/console.
pub fn console(program: &Program, terminal: i32, mount_api: bool) -> Result<(), Fault> {
    let how = Walk { plain: true, mode: 0o666, ..Walk::file() };
    let at = paths::resolve(program.slot(Slot::ROOT), c"/dev/console", how)?;
    let bound = mounts::bind(terminal, at, mount_api);
    sys::close(at);
    bound
}

/// Makes the terminal the controlling one of our session, and our stdio.
pub fn adopt(terminal: i32) -> Result<(), Fault> {
    sys::ioctl(terminal, libc::TIOCSCTTY as u64, 0).called("ioctl")?;
    for fd in 0..=2 {
        sys::dup3(terminal, fd).called("dup3")?;
    }
    Ok(())
}
