//! Network devices.
use crate::error::{Error, Kind, Result};
use std::os::fd::BorrowedFd;
/// Moves a device into a network namespace.
pub fn move_device(name: &str, _: &str, _: BorrowedFd) -> Result<()> {
    Err(Error::new(Kind::Unsupported, format!("cannot move {name}")).because("not supported yet"))
}
