//! The state directory: `<root>/<id>/` for each container, and nothing else below the state root.
//!
//! No other module writes there. mkdir(2) of the directory is what makes an id taken; flock(2) on the
//! directory keeps two processes from changing one container at once; files appear complete, by
//! rename(2), or not at all. Everything is reached through the directory's descriptor, so neither a
//! long `--root` nor a replaced directory matters.
//!
//! ```text
//! <root>            0700, sticky below $XDG_RUNTIME_DIR
//!   <id>/           0711
//!     state.json    0600  what State holds
//!     config.json   0600  as it was at create: later edits of the bundle have no effect
//!     start         0600  the init listens here until start
//!     notify/       0755  the container's /run/notify, if somebody wants to be notified
//!       notify.sock 0777  where its program says that it is ready
//! ```

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, open as open_file, openat, renameat};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, mkdirat, umask};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::container::state::State;
use crate::error::{Error, Kind, Result};
use crate::plan::NOTIFY_SOCKET;

/// How long a command waits for another one that works on the same container.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const START: &str = "start";
/// The directory of [`Entry::make_notify`].
pub const NOTIFY: &str = "notify";

/// The longest file name, and so the longest id: NAME_MAX of limits.h.
const ID_MAX: usize = 255;

/// Where state is kept unless `--root` says otherwise: `/run/corten`, or `$XDG_RUNTIME_DIR/corten` for
/// a user without privileges. The latter gets the sticky bit when it is made, which the XDG base
/// directory specification asks for lest a cleaner removes it.
pub fn default_root() -> PathBuf {
    match xdg_runtime_dir() {
        Some(dir) => dir.join("corten"),
        None => PathBuf::from("/run/corten"),
    }
}

fn xdg_runtime_dir() -> Option<PathBuf> {
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty())?;
    // Root in a user namespace is most likely a plain user outside; USER=root tells a real root
    // whose engine runs in a user namespace (runc's rule).
    let privileged = nix::unistd::geteuid().is_root()
        && (!in_user_namespace() || std::env::var_os("USER").is_some_and(|user| user == "root"));
    (!privileged).then(|| dir.into())
}

fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.is_empty() && !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether `id` may name a container: letters, digits and `_+-.`, not starting with a dot.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_id(id: &str) -> Result<()> {
    let reason = if id.is_empty() {
        "it is empty"
    } else if id.len() > ID_MAX {
        "it is longer than 255 bytes"
    } else if id.starts_with('.') {
        "it starts with a dot"
    } else if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte)) {
        "only letters, digits, '_', '+', '-' and '.' are allowed"
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::InvalidArgument, format!("cannot use {id:?} as a container id"))
        .because(format!("invalid container ID format: {reason}")))
}

/// The state directory of one container.
#[derive(Debug)]
pub struct Entry {
    id: String,
    path: PathBuf,
    root: OwnedFd,
    dir: OwnedFd,
}

/// The exclusive right to change one container. It ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Lock {
    // The lock belongs to the open file description, which a forked child may share: dropping
    // unlocks explicitly instead of by closing.
    _flock: Flock<OwnedFd>,
}

/// Takes `id`: makes its directory, and the root if need be. The entry comes locked.
///
/// # Errors
/// `AlreadyExists` if the id is taken.
pub fn create(root: &Path, id: &str) -> Result<(Entry, Lock)> {
    check_id(id)?;
    let what = || format!("cannot create container {id}");
    make_root(root)?;
    let root_fd = open_directory(root).map_err(|e| Error::kernel(what(), "open", e))?;
    match mkdirat(&root_fd, id, Mode::from_bits_truncate(0o711)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            return Err(
                Error::new(Kind::AlreadyExists, what()).because("container with given ID already exists")
            );
        }
        Err(errno) => return Err(Error::kernel(what(), "mkdir", errno)),
    }
    let entry = enter(root, root_fd, id)?;
    // The umask may have taken bits away.
    fchmod(&entry.dir, Mode::from_bits_truncate(0o711)).map_err(|e| Error::kernel(what(), "fchmod", e))?;
    let lock = entry.lock(LOCK_PATIENCE)?;
    Ok((entry, lock))
}

/// The entry of an existing container, whatever its condition.
///
/// # Errors
/// `NotFound` if there is none.
pub fn open(root: &Path, id: &str) -> Result<Entry> {
    check_id(id)?;
    match open_directory(root) {
        Ok(root_fd) => enter(root, root_fd, id),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Err(not_found(id)),
        Err(errno) => Err(Error::kernel(format!("cannot open state root {}", root.display()), "open", errno)),
    }
}

/// The ids of all containers, sorted. A root that does not exist has none.
pub fn ids(root: &Path) -> Result<Vec<String>> {
    let what = || format!("cannot list state root {}", root.display());
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(what(), "open", error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::io(what(), "getdents64", e))?;
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Ok(id) = entry.file_name().into_string()
            && is_dir
            && check_id(&id).is_ok()
        {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}

fn not_found(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("cannot find container {id}")).because("container does not exist")
}

fn make_root(root: &Path) -> Result<()> {
    let what = || format!("cannot create state root {}", root.display());
    if root.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|e| Error::io(what(), "mkdir", e))?;
    if xdg_runtime_dir().is_some_and(|dir| root.starts_with(dir)) {
        std::fs::set_permissions(root, Permissions::from_mode(0o1700))
            .map_err(|e| Error::io(what(), "chmod", e))?;
    }
    Ok(())
}

fn open_directory(path: &Path) -> nix::Result<OwnedFd> {
    open_file(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn enter(root: &Path, root_fd: OwnedFd, id: &str) -> Result<Entry> {
    match openat(&root_fd, id, DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(Entry { id: id.to_owned(), path: root.join(id), root: root_fd, dir }),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Err(not_found(id)),
        Err(errno) => Err(Error::kernel(format!("cannot open container {id}"), "openat", errno)),
    }
}

impl Entry {
    /// The id of the container.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// For messages; files in it are opened through [`Entry::dir`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state directory, opened when the entry was.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Waits until no other process changes this container, at most for `patience`.
    ///
    /// # Errors
    /// `WrongStatus` if it takes longer, with who holds the lock; `NotFound` if the container was
    /// deleted meanwhile.
    pub fn lock(&self, patience: Duration) -> Result<Lock> {
        let what = || format!("cannot lock container {}", self.id);
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        let mut fd = self.dir.try_clone().map_err(|e| Error::io(what(), "fcntl", e))?;
        let flock = loop {
            match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
                Ok(flock) => break flock,
                Err((same, Errno::EAGAIN | Errno::EINTR)) if Instant::now() < deadline => fd = same,
                Err((_, Errno::EAGAIN)) => {
                    let holder = self.holder().unwrap_or_else(|| "another process".to_owned());
                    return Err(Error::new(Kind::WrongStatus, what())
                        .because(format!("{holder} has held it for {} s", patience.as_secs())));
                }
                Err((_, errno)) => return Err(Error::kernel(what(), "flock", errno)),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        };
        if self.is_linked() { Ok(Lock { _flock: flock }) } else { Err(not_found(&self.id)) }
    }

    /// Whether the directory still has its name: the one that held the lock may have deleted it.
    fn is_linked(&self) -> bool {
        let same = |a: FileStat, b: FileStat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        match (fstat(&self.dir), fstatat(&self.root, self.id.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)) {
            (Ok(open), Ok(named)) => same(open, named),
            _ => false,
        }
    }

    /// Who holds the lock: "process 7 (corten delete a)", after proc_locks(5).
    fn holder(&self) -> Option<String> {
        let inode = format!(":{}", fstat(&self.dir).ok()?.st_ino);
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let line = locks.lines().find(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next() == Some("FLOCK") && fields.nth(3).is_some_and(|file| file.ends_with(&inode))
        })?;
        let pid = line.split_whitespace().nth(4)?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command: String =
            String::from_utf8_lossy(&command).replace('\0', " ").chars().take(200).collect();
        Some(format!("process {pid} ({})", command.trim_end()))
    }

    /// What was last written by [`Entry::write_state`].
    ///
    /// # Errors
    /// `NotFound` if nothing was; `Internal` if the file is damaged.
    pub fn state(&self) -> Result<State> {
        let bytes = self.read(STATE)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(Kind::Internal, format!("cannot read state of container {}", self.id))
                .because(format!("{STATE} is damaged: {e}"))
        })
    }

    /// Replaces the state. The caller holds the lock.
    pub fn write_state(&self, state: &State) -> Result<()> {
        let bytes = serde_json::to_vec(state).map_err(|e| {
            Error::new(Kind::Internal, format!("cannot write state of container {}", self.id)).because(e)
        })?;
        self.write(STATE, &bytes)
    }

    /// config.json as it was when the container was created.
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG)
    }

    /// Keeps a copy of config.json. The caller holds the lock.
    pub fn write_config(&self, bytes: &[u8]) -> Result<()> {
        self.write(CONFIG, bytes)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let what = || format!("cannot read {name} of container {}", self.id);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Err(not_found(&self.id)),
            Err(errno) => return Err(Error::kernel(what(), "openat", errno)),
        };
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes).map_err(|e| Error::io(what(), "read", e))?;
        Ok(bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let what = || format!("cannot write {name} of container {}", self.id);
        // Only the holder of the lock writes, so one name suffices, and what a crash left is reused.
        let draft = format!(".{name}");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.dir, draft.as_str(), flags, Mode::from_bits_truncate(0o600))
            .map_err(|e| Error::kernel(what(), "openat", e))?;
        let written =
            File::from(file).write_all(bytes).map_err(|e| Error::io(what(), "write", e)).and_then(|()| {
                renameat(&self.dir, draft.as_str(), &self.dir, name)
                    .map_err(|e| Error::kernel(what(), "renameat", e))
            });
        if written.is_err() {
            unlinkat(&self.dir, draft.as_str(), UnlinkatFlags::NoRemoveDir).ok();
        }
        written
    }

    /// Makes the start socket (SOCK_SEQPACKET) and listens on it. The init keeps the descriptor until
    /// it executes the container's program, so it is gone exactly when the container runs.
    pub fn listen_start(&self) -> Result<OwnedFd> {
        let what = || format!("cannot create start socket of container {}", self.id);
        let socket = start_socket(SockFlag::empty()).map_err(|e| Error::kernel(what(), "socket", e))?;
        // bind(2) takes the new file's mode from the socket: nobody else may connect, ever.
        fchmod(&socket, Mode::from_bits_truncate(0o600)).map_err(|e| Error::kernel(what(), "fchmod", e))?;
        let address = self.start_address().map_err(|e| Error::kernel(what(), "bind", e))?;
        socket::bind(socket.as_raw_fd(), &address).map_err(|e| Error::kernel(what(), "bind", e))?;
        socket::listen(&socket, Backlog::MAXCONN).map_err(|e| Error::kernel(what(), "listen", e))?;
        Ok(socket)
    }

    /// Connects to the init that waits for `start`; `None` if none waits. Never blocks; the socket is
    /// O_NONBLOCK, the caller waits for the answer with poll(2).
    pub fn connect_start(&self) -> Result<Option<OwnedFd>> {
        let what = || format!("cannot connect to start socket of container {}", self.id);
        let socket = start_socket(SockFlag::SOCK_NONBLOCK).map_err(|e| Error::kernel(what(), "socket", e))?;
        let address = self.start_address().map_err(|e| Error::kernel(what(), "connect", e))?;
        match socket::connect(socket.as_raw_fd(), &address) {
            Ok(()) => Ok(Some(socket)),
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Error::kernel(what(), "connect", errno)),
        }
    }

    /// Whether an init waits for `start`. It sees a connection that ends without a message.
    pub fn awaits_start(&self) -> bool {
        match self.connect_start() {
            Ok(connected) => connected.is_some(),
            // A full queue of connections is a socket that somebody listens on.
            Err(error) => error.errno() == Some(Errno::EAGAIN),
        }
    }

    /// The socket's address below `/proc/self/fd`: sun_path holds 108 bytes, the root's path may not fit.
    fn start_address(&self) -> nix::Result<UnixAddr> {
        UnixAddr::new(format!("/proc/self/fd/{}/{START}", self.dir.as_raw_fd()).as_str())
    }

    /// Makes the directory that the container sees as [`NOTIFY_DIRECTORY`](crate::plan::NOTIFY_DIRECTORY). The caller holds the lock.
    pub fn make_notify(&self) -> Result<()> {
        let what = || format!("cannot create notification directory of container {}", self.id);
        mkdirat(&self.dir, NOTIFY, Mode::from_bits_truncate(0o755))
            .map_err(|e| Error::kernel(what(), "mkdir", e))?;
        let made = openat(&self.dir, NOTIFY, DIRECTORY, Mode::empty());
        // The umask may have taken bits away.
        made.and_then(|dir| fchmod(dir, Mode::from_bits_truncate(0o755)))
            .map_err(|e| Error::kernel(what(), "fchmod", e))
    }

    /// Makes the socket there and takes what is sent to it, without blocking; `None`: the container was
    /// made without the directory. The caller holds the lock.
    pub fn listen_notify(&self) -> Result<Option<OwnedFd>> {
        let what = || format!("cannot create notification socket of container {}", self.id);
        let dir = match openat(&self.dir, NOTIFY, DIRECTORY, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            answer => answer.map_err(|e| Error::kernel(what(), "open", e))?,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None)
            .map_err(|e| Error::kernel(what(), "socket", e))?;
        // What a start that failed has left.
        ignore_missing(unlinkat(&dir, NOTIFY_SOCKET, UnlinkatFlags::NoRemoveDir))
            .map_err(|e| Error::kernel(what(), "unlinkat", e))?;
        // Whoever the container's program is may write to it.
        let before = umask(Mode::empty());
        let bound = UnixAddr::new(format!("/proc/self/fd/{}/{NOTIFY_SOCKET}", dir.as_raw_fd()).as_str())
            .and_then(|address| socket::bind(socket.as_raw_fd(), &address));
        umask(before);
        bound.map_err(|e| Error::kernel(what(), "bind", e))?;
        Ok(Some(socket))
    }

    /// Deletes the directory and all in it; the id is free again. The caller holds the lock.
    /// What was already deleted is no error.
    pub fn remove(&self) -> Result<()> {
        let what = || format!("cannot delete state directory {}", self.path.display());
        // The state goes last: whatever interrupts this, a second delete finds the container.
        empty(self.dir(), Some(STATE)).map_err(|e| Error::io(what(), "unlinkat", e))?;
        ignore_missing(unlinkat(&self.dir, STATE, UnlinkatFlags::NoRemoveDir))
            .map_err(|e| Error::kernel(what(), "unlinkat", e))?;
        if !self.is_linked() {
            return Ok(());
        }
        ignore_missing(unlinkat(&self.root, self.id.as_str(), UnlinkatFlags::RemoveDir))
            .map_err(|e| Error::kernel(what(), "unlinkat", e))
    }
}

fn ignore_missing(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn start_socket(flags: SockFlag) -> nix::Result<OwnedFd> {
    socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags | SockFlag::SOCK_CLOEXEC, None)
}

/// Deletes everything in the directory, without following links, except the entry named `keep`.
fn empty(dir: BorrowedFd, keep: Option<&str>) -> io::Result<()> {
    for entry in std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()))? {
        let name = entry?.file_name();
        if keep.is_some_and(|keep| name == keep) {
            continue;
        }
        match unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => {
                let child = openat(dir, name.as_os_str(), DIRECTORY, Mode::empty())?;
                empty(child.as_fd(), None)?;
                unlinkat(dir, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
            }
            other => ignore_missing(other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Root {
            Root(std::env::temp_dir().join(format!("corten-store-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn ids_have_no_way_out_of_the_root() {
        for id in ["a", "A-b_c+d.e", "9", &"x".repeat(255)] {
            check_id(id).unwrap();
        }
        for id in ["", ".", "..", ".a", "a/b", "/a", "a b", "a\n", "é", "a\0", &"x".repeat(256)] {
            let error = check_id(id).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert!(error.to_string().contains("invalid container ID format"), "{error}");
        }
    }

    #[test]
    fn an_id_is_taken_once() {
        let root = Root::new("once");
        assert_eq!(ids(&root.0).unwrap(), [""; 0]);
        assert!(!root.0.exists(), "reading makes nothing");
        assert_eq!(open(&root.0, "a").unwrap_err().kind(), Kind::NotFound);
        let (entry, lock) = create(&root.0, "a").unwrap();
        assert_eq!((mode(&root.0), mode(entry.path())), (0o700, 0o711));
        let error = create(&root.0, "a").unwrap_err();
        assert_eq!(error.kind(), Kind::AlreadyExists);
        assert!(error.to_string().ends_with("container with given ID already exists"), "{error}");
        create(&root.0, "b").unwrap();
        assert_eq!(ids(&root.0).unwrap(), ["a", "b"]);
        entry.remove().unwrap();
        entry.remove().unwrap();
        drop(lock);
        assert_eq!(ids(&root.0).unwrap(), ["b"]);
        let error = open(&root.0, "a").unwrap_err();
        assert!(error.to_string().ends_with("container does not exist"), "{error}");
        create(&root.0, "a").unwrap();
        let error = entry.lock(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound, "a deleted container's entry is not the new one");
        entry.remove().unwrap();
        assert_eq!(ids(&root.0).unwrap(), ["a", "b"]);
    }

    #[test]
    fn of_many_creators_one_wins() {
        let root = Root::new("race");
        let path = &root.0;
        let winners = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(move || create(path, "a").is_ok())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(winners, 1);
    }

    #[test]
    fn a_locked_container_says_who_locked_it() {
        let root = Root::new("lock");
        let (entry, lock) = create(&root.0, "a").unwrap();
        let error = open(&root.0, "a").unwrap().lock(Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), Kind::WrongStatus);
        assert!(error.to_string().contains(&format!("process {} (", std::process::id())), "{error}");
        let copy = entry.dir().try_clone_to_owned().unwrap();
        drop(lock);
        open(&root.0, "a").unwrap().lock(Duration::ZERO).unwrap();
        drop(copy);
    }

    #[test]
    fn state_is_read_as_written() {
        let root = Root::new("state");
        let (entry, _lock) = create(&root.0, "a").unwrap();
        assert_eq!(entry.state().unwrap_err().kind(), Kind::NotFound);
        let state = State { id: "a".into(), owner: 7, ..State::default() };
        entry.write_state(&state).unwrap();
        entry.write_config(b"{}").unwrap();
        assert_eq!(entry.state().unwrap().owner, 7);
        assert_eq!(entry.config().unwrap(), b"{}");
        assert_eq!(mode(&entry.path().join(STATE)), 0o600);
        for damaged in ["", "{", "[]"] {
            std::fs::write(entry.path().join(STATE), damaged).unwrap();
            assert_eq!(entry.state().unwrap_err().kind(), Kind::Internal);
        }
        std::fs::create_dir_all(entry.path().join("notify/deep")).unwrap();
        std::os::unix::fs::symlink("/", entry.path().join("link")).unwrap();
        entry.remove().unwrap();
        assert!(!entry.path().exists());
    }

    #[test]
    fn the_start_socket_tells_whether_somebody_listens() {
        let root = Root::new(&"long".repeat(40));
        let (entry, _lock) = create(&root.0, "a").unwrap();
        assert!(entry.path().as_os_str().len() > 108);
        assert!(!entry.awaits_start(), "there is no socket");
        let socket = entry.listen_start().unwrap();
        assert_eq!(mode(&entry.path().join(START)), 0o600);
        assert!(entry.awaits_start());
        let client = entry.connect_start().unwrap().unwrap();
        drop(socket);
        assert!(!entry.awaits_start(), "nobody listens");
        drop(client);
        entry.remove().unwrap();
    }
}
