//! Root file systems out of Debian's busybox-static and the probe, and the directories tests work in.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// A word that no other test of this machine uses: "PREFIX-PID-NUMBER", of one length, so that no word is
/// the beginning of another.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}-{}-{:06}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory of one test below /var/tmp, removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

/// How many scratch directories there are: the last one removes what they share.
static LIVE: Mutex<usize> = Mutex::new(0);

impl Scratch {
    /// Makes it.
    pub fn new() -> Scratch {
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        *live += 1;
        let path = run_dir().join(unique("t"));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let keep = std::thread::panicking() && std::env::var_os("KEEP").is_some();
        if keep {
            eprintln!("kept for reading: {}", self.path.display());
            return;
        }
        // A mount left below would make us delete what is mounted there; the test that left it has failed.
        for point in crate::host::mounts_below(&self.path).iter().rev() {
            let _ = rustix::mount::unmount(point.as_str(), rustix::mount::UnmountFlags::DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.path);
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        *live -= 1;
        if *live == 0 {
            let _ = std::fs::remove_dir_all(run_dir());
        }
    }
}

/// The directory of this run of the suite.
fn run_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| PathBuf::from(format!("/var/tmp/corten-it-{}", std::process::id())))
}

/// The probe: `$PROBE`, or beside the directory of this test binary.
pub fn probe_path() -> PathBuf {
    if let Some(path) = std::env::var_os("PROBE") {
        return PathBuf::from(path);
    }
    let probe = beside_the_suite("corten-probe");
    let bytes = std::fs::read(&probe).unwrap_or_else(|e| panic!("{}: {e}", probe.display()));
    let dynamic = bytes.windows(20).any(|w| w == b"/lib64/ld-linux-x86-");
    assert!(!dynamic, "the probe must be static: build the suite with --target x86_64-unknown-linux-musl");
    probe
}

/// Another binary of this package.
pub(crate) fn beside_the_suite(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("the path of the test binary");
    exe.ancestors().nth(2).expect("a test binary lies in target/PROFILE/deps").join(name)
}

/// Fills a directory with a root file system: /bin of busybox, /probe, and the usual directories.
pub fn fill_rootfs(root: &Path) {
    static BUSYBOX: OnceLock<PathBuf> = OnceLock::new();
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    let busybox = BUSYBOX.get_or_init(|| {
        let found = ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|p| p.exists());
        found.expect("install busybox-static")
    });
    for dir in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var", "usr"] {
        std::fs::create_dir_all(root.join(dir)).expect("a directory of the rootfs");
    }
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777)).expect("chmod");
    link_or_copy(busybox, &root.join("bin/busybox"));
    link_or_copy(PROBE.get_or_init(probe_path), &root.join("probe"));
    static APPLETS: OnceLock<String> = OnceLock::new();
    let applets = APPLETS.get_or_init(|| {
        let output = Command::new(busybox).arg("--list").output().expect("busybox --list");
        String::from_utf8(output.stdout).expect("names of applets")
    });
    for applet in applets.lines().filter(|a| *a != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("an applet");
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
    )
    .expect("passwd");
    std::fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\naudio:x:29:user\n").expect("group");
}

/// Hard links of one copy, for the containers of this run; a copy elsewhere. The original may lie on
/// another file system.
fn link_or_copy(from: &Path, to: &Path) {
    static COPY: Mutex<()> = Mutex::new(());
    let _one_at_a_time = COPY.lock().unwrap_or_else(PoisonError::into_inner);
    if !to.starts_with(run_dir()) {
        std::fs::copy(from, to).unwrap_or_else(|e| panic!("copy to {}: {e}", to.display()));
        return;
    }
    let shared = run_dir().join(from.file_name().expect("a file has a name"));
    if !shared.exists() {
        std::fs::copy(from, &shared).expect("copy into the run's directory");
    }
    std::fs::hard_link(&shared, to).unwrap_or_else(|e| panic!("link {}: {e}", to.display()));
}
