//! A bundle: a directory with `config.json` and, usually, the root file system beside it.
//! <https://github.com/opencontainers/runtime-spec/blob/main/bundle.md>
//!
//! This module reads the bundle and never changes it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::spec::Spec;

/// More than any configuration needs: a device file or a mistake is refused instead of read into memory.
const SIZE_MAX: u64 = 64 << 20;

/// What was read from a bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory: absolute, without symbolic links.
    pub path: PathBuf,
    /// `config.json` byte for byte, to be kept with the container's state.
    pub config: Vec<u8>,
    pub spec: Spec,
}

impl Bundle {
    /// Reads `config.json` in the directory `dir`. Its values are not checked here.
    ///
    /// # Errors
    /// There is no such directory or file, it is not a regular file, or not a configuration.
    pub fn read(dir: &Path) -> Result<Bundle> {
        let what = || format!("cannot open bundle {}", dir.display());
        let path = dir.canonicalize().map_err(|e| Error::io(what(), "realpath", e))?;
        if !path.is_dir() {
            return Err(Error::kernel(what(), "open", nix::errno::Errno::ENOTDIR));
        }
        let config = read_config(&path.join("config.json"))?;
        let spec = Spec::parse(&config)?;
        Ok(Bundle { path, config, spec })
    }

    /// `root.path` as an absolute path. Symbolic links in it are not resolved.
    pub fn rootfs(&self) -> PathBuf {
        let rootfs = self.spec.root.as_ref().map_or(Path::new(""), |root| &root.path);
        // Components drop "." and doubled slashes; ".." must stay, a link may stand before it.
        self.path.join(rootfs).components().collect()
    }
}

fn read_config(path: &Path) -> Result<Vec<u8>> {
    let what = || format!("cannot read {}", path.display());
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(
                Error::io(what(), "open", error).because("JSON specification file config.json not found")
            );
        }
        Err(error) => return Err(Error::io(what(), "open", error)),
    };
    check(&file, path)?;
    let mut bytes = Vec::new();
    file.take(SIZE_MAX).read_to_end(&mut bytes).map_err(|e| Error::io(what(), "read", e))?;
    Ok(bytes)
}

fn check(file: &File, path: &Path) -> Result<()> {
    let what = || format!("cannot read {}", path.display());
    let metadata = file.metadata().map_err(|e| Error::io(what(), "fstat", e))?;
    let reason = if metadata.is_dir() {
        "is a directory"
    } else if !metadata.is_file() {
        "not a regular file"
    } else if metadata.len() > SIZE_MAX {
        "larger than 64 MiB"
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::InvalidSpec, what()).because(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_read_with_its_directory() {
        let dir = std::env::temp_dir().join(format!("corten-bundle-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::os::unix::fs::symlink(&dir, dir.join("sub/link")).unwrap();
        let read = |name: &str| Bundle::read(&dir.join(name)).map_err(|e| e.to_string());
        assert!(read("none").unwrap_err().ends_with("realpath: no such file or directory"));
        let error = read("sub").unwrap_err();
        assert!(
            error.contains("no such file or directory: JSON specification file config.json not found"),
            "{error}"
        );
        std::fs::create_dir(dir.join("sub/config.json")).unwrap();
        assert!(read("sub").unwrap_err().ends_with("is a directory"));
        nix::unistd::mkfifo(&dir.join("config.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(".").unwrap_err().ends_with("not a regular file"), "a FIFO must not be waited for");
        std::fs::remove_file(dir.join("config.json")).unwrap();
        std::fs::write(dir.join("config.json"), r#"{"root":{"path":"./a//b/"}}"#).unwrap();
        assert!(read("config.json").unwrap_err().ends_with("not a directory"));
        let bundle = read("sub/link").unwrap();
        assert_eq!(bundle.path, dir.canonicalize().unwrap());
        assert_eq!(bundle.rootfs(), bundle.path.join("a/b"));
        assert_eq!(bundle.config, br#"{"root":{"path":"./a//b/"}}"#);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
