//! Which runtime is under test.
//!
//! Finds the binary and asks it for its name and version; never assumes anything else about it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Where it is.
    pub path: PathBuf,
    /// Its first word of `--version`: "corten", "runc", "crun".
    pub name: String,
    /// Name and version in one, "runc 1.1.5+ds1": what `deviations.toml` is matched against.
    pub version: String,
}

impl Runtime {
    /// The runtime that `$RUNTIME` names, else the release build of this workspace.
    pub fn get() -> &'static Runtime {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        RUNTIME.get_or_init(|| {
            let path = match std::env::var_os("RUNTIME") {
                Some(path) => PathBuf::from(path),
                None => default_path(),
            };
            describe(&path)
        })
    }

    /// Whether it is our own.
    pub fn is_corten(&self) -> bool {
        self.name == "corten"
    }
}

/// `target/[TRIPLE/]release/corten`, seen from `target/[TRIPLE/]PROFILE/deps/suite-HASH`.
fn default_path() -> PathBuf {
    let exe = std::env::current_exe().expect("the path of the test binary");
    let target = exe.ancestors().nth(3).expect("a test binary lies in target/PROFILE/deps");
    target.join("release/corten")
}

fn describe(path: &Path) -> Runtime {
    let output = Command::new(path).arg("--version").output();
    let output =
        output.unwrap_or_else(|e| panic!("cannot run {} --version: {e}; set RUNTIME", path.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    let words: Vec<&str> = text.lines().next().unwrap_or_default().split_whitespace().collect();
    let name = words.first().copied().unwrap_or("unknown");
    let version = format!("{name} {}", words.last().copied().unwrap_or_default());
    Runtime { path: path.to_owned(), name: name.to_owned(), version }
}
