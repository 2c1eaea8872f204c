//! Work in a container's namespaces.
use crate::error::{Error, Kind, Result};
use std::os::fd::BorrowedFd;
/// Runs `work` in the namespaces of `kinds` of a process.
pub fn inside(_: BorrowedFd, _: u64, _work: impl FnOnce() -> Result<()>) -> Result<()> {
    Err(Error::new(Kind::Unsupported, "cannot work inside the container").because("not supported yet"))
}
