//! The mount options of config.json: which are flags of the mount, which of the file system, which
//! are the runtime's own, and which are data for the file system.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config.md#linux-mount-options>

use libc::{
    MOUNT_ATTR__ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
};

/// What an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Sets and clears attributes of the mount (mount_setattr(2)).
    Mount {
        set: u64,
        clear: u64,
    },
    /// The same for the whole tree.
    Tree {
        set: u64,
        clear: u64,
    },
    /// `MS_SHARED` and its like, perhaps with `MS_REC`.
    Propagation(u64),
    /// A flag of the file system that fsconfig(2) knows by this name; with the `MS_*` of mount(2).
    FileSystem {
        name: &'static str,
        flag: u64,
    },
    /// A flag of the file system that only mount(2) knows.
    Legacy(u64),
    /// What is the case anyway.
    Default,
    Bind {
        recursive: bool,
    },
    Remount,
    IdMap {
        recursive: bool,
    },
    TmpCopyUp,
}

const fn on(set: u64) -> Meaning {
    Meaning::Mount { set, clear: 0 }
}
const fn off(clear: u64) -> Meaning {
    Meaning::Mount { set: 0, clear }
}
const fn atime(set: u64) -> Meaning {
    Meaning::Mount { set, clear: MOUNT_ATTR__ATIME }
}
const fn all_on(set: u64) -> Meaning {
    Meaning::Tree { set, clear: 0 }
}
const fn all_off(clear: u64) -> Meaning {
    Meaning::Tree { set: 0, clear }
}
const fn all_atime(set: u64) -> Meaning {
    Meaning::Tree { set, clear: MOUNT_ATTR__ATIME }
}
const fn file_system(name: &'static str, flag: u64) -> Meaning {
    Meaning::FileSystem { name, flag }
}

/// Every option that is not data.
pub const OPTIONS: &[(&str, Meaning)] = &[
    ("async", Meaning::Default),
    ("atime", off(MOUNT_ATTR_NOATIME)),
    ("bind", Meaning::Bind { recursive: false }),
    ("defaults", Meaning::Default),
    ("dev", off(MOUNT_ATTR_NODEV)),
    ("diratime", off(MOUNT_ATTR_NODIRATIME)),
    ("dirsync", file_system("dirsync", libc::MS_DIRSYNC)),
    ("exec", off(MOUNT_ATTR_NOEXEC)),
    ("idmap", Meaning::IdMap { recursive: false }),
    ("iversion", Meaning::Legacy(libc::MS_I_VERSION)),
    ("lazytime", file_system("lazytime", libc::MS_LAZYTIME)),
    ("loud", Meaning::Default),
    ("mand", file_system("mand", libc::MS_MANDLOCK)),
    ("noatime", atime(MOUNT_ATTR_NOATIME)),
    ("nodev", on(MOUNT_ATTR_NODEV)),
    ("nodiratime", on(MOUNT_ATTR_NODIRATIME)),
    ("noexec", on(MOUNT_ATTR_NOEXEC)),
    ("noiversion", Meaning::Default),
    ("nolazytime", Meaning::Default),
    ("nomand", Meaning::Default),
    ("norelatime", atime(MOUNT_ATTR_STRICTATIME)),
    ("nostrictatime", atime(MOUNT_ATTR_RELATIME)),
    ("nosuid", on(MOUNT_ATTR_NOSUID)),
    ("nosymfollow", on(MOUNT_ATTR_NOSYMFOLLOW)),
    ("private", Meaning::Propagation(libc::MS_PRIVATE)),
    ("ratime", all_off(MOUNT_ATTR_NOATIME)),
    ("rbind", Meaning::Bind { recursive: true }),
    ("rdev", all_off(MOUNT_ATTR_NODEV)),
    ("rdiratime", all_off(MOUNT_ATTR_NODIRATIME)),
    ("relatime", atime(MOUNT_ATTR_RELATIME)),
    ("remount", Meaning::Remount),
    ("rexec", all_off(MOUNT_ATTR_NOEXEC)),
    ("ridmap", Meaning::IdMap { recursive: true }),
    ("rnoatime", all_atime(MOUNT_ATTR_NOATIME)),
    ("rnodev", all_on(MOUNT_ATTR_NODEV)),
    ("rnodiratime", all_on(MOUNT_ATTR_NODIRATIME)),
    ("rnoexec", all_on(MOUNT_ATTR_NOEXEC)),
    ("rnorelatime", all_atime(MOUNT_ATTR_STRICTATIME)),
    ("rnostrictatime", all_atime(MOUNT_ATTR_RELATIME)),
    ("rnosuid", all_on(MOUNT_ATTR_NOSUID)),
    ("rnosymfollow", all_on(MOUNT_ATTR_NOSYMFOLLOW)),
    ("ro", on(MOUNT_ATTR_RDONLY)),
    ("rprivate", Meaning::Propagation(libc::MS_PRIVATE | libc::MS_REC)),
    ("rrelatime", all_atime(MOUNT_ATTR_RELATIME)),
    ("rro", all_on(MOUNT_ATTR_RDONLY)),
    ("rrw", all_off(MOUNT_ATTR_RDONLY)),
    ("rshared", Meaning::Propagation(libc::MS_SHARED | libc::MS_REC)),
    ("rslave", Meaning::Propagation(libc::MS_SLAVE | libc::MS_REC)),
    ("rstrictatime", all_atime(MOUNT_ATTR_STRICTATIME)),
    ("rsuid", all_off(MOUNT_ATTR_NOSUID)),
    ("rsymfollow", all_off(MOUNT_ATTR_NOSYMFOLLOW)),
    ("runbindable", Meaning::Propagation(libc::MS_UNBINDABLE | libc::MS_REC)),
    ("rw", off(MOUNT_ATTR_RDONLY)),
    ("shared", Meaning::Propagation(libc::MS_SHARED)),
    ("silent", Meaning::Legacy(libc::MS_SILENT)),
    ("slave", Meaning::Propagation(libc::MS_SLAVE)),
    ("strictatime", atime(MOUNT_ATTR_STRICTATIME)),
    ("suid", off(MOUNT_ATTR_NOSUID)),
    ("symfollow", off(MOUNT_ATTR_NOSYMFOLLOW)),
    ("sync", file_system("sync", libc::MS_SYNCHRONOUS)),
    ("tmpcopyup", Meaning::TmpCopyUp),
    ("unbindable", Meaning::Propagation(libc::MS_UNBINDABLE)),
];

/// The names of all options that are not data.
pub fn mount_options() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// What `option` means; `None`: it is data for the file system.
pub fn meaning(option: &str) -> Option<Meaning> {
    OPTIONS.binary_search_by(|(name, _)| name.cmp(&option)).ok().map(|index| OPTIONS[index].1)
}

/// The options of one mount, sorted by what they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    pub set: u64,
    pub clear: u64,
    pub tree_set: u64,
    pub tree_clear: u64,
    pub propagation: Vec<u64>,
    /// Names for fsconfig(2), and the same as flags of mount(2).
    pub file_system: Vec<&'static str>,
    pub file_system_flags: u64,
    /// Flags that only mount(2) knows.
    pub legacy: u64,
    /// A bind mount; whether of the whole tree.
    pub bind: Option<bool>,
    pub remount: bool,
    pub id_map: Option<bool>,
    pub copy_up: bool,
    pub data: Vec<(String, String)>,
}

impl Options {
    /// Sorts the options; of contradicting ones the last counts.
    pub fn parse(options: &[String]) -> Options {
        let mut all = Options::default();
        for option in options {
            match meaning(option) {
                // The last word counts: "noexec,exec" is "exec".
                Some(Meaning::Mount { set, clear }) => {
                    all.set = all.set & !clear | set;
                    all.clear = all.clear & !set | clear;
                }
                Some(Meaning::Tree { set, clear }) => {
                    all.tree_set = all.tree_set & !clear | set;
                    all.tree_clear = all.tree_clear & !set | clear;
                }
                Some(Meaning::Propagation(flags)) => all.propagation.push(flags),
                Some(Meaning::FileSystem { name, flag }) => {
                    all.file_system.push(name);
                    all.file_system_flags |= flag;
                }
                Some(Meaning::Legacy(flag)) => all.legacy |= flag,
                Some(Meaning::Default) => {}
                Some(Meaning::Bind { recursive }) => all.bind = Some(recursive || all.bind == Some(true)),
                Some(Meaning::Remount) => all.remount = true,
                Some(Meaning::IdMap { recursive }) => {
                    all.id_map = Some(recursive || all.id_map == Some(true))
                }
                Some(Meaning::TmpCopyUp) => all.copy_up = true,
                None => all.data.extend(data(option)),
            }
        }
        all
    }

    /// The options as the flags of mount(2).
    pub fn flags(&self) -> u64 {
        let mut flags = self.file_system_flags | self.legacy;
        for (attribute, flag) in FLAGS {
            if self.set & attribute != 0 {
                flags |= flag;
            }
        }
        flags
            | match self.set & MOUNT_ATTR__ATIME {
                MOUNT_ATTR_NOATIME => libc::MS_NOATIME,
                MOUNT_ATTR_STRICTATIME => libc::MS_STRICTATIME,
                _ if self.clear & MOUNT_ATTR__ATIME == MOUNT_ATTR__ATIME => libc::MS_RELATIME,
                _ => 0,
            }
    }

    /// The `MS_*` flags that must not stay set.
    pub fn cleared_flags(&self) -> u64 {
        let simple = FLAGS.iter().filter(|(attribute, _)| self.clear & attribute != 0);
        let access_times = match self.clear & MOUNT_ATTR__ATIME {
            MOUNT_ATTR__ATIME => libc::MS_NOATIME | libc::MS_RELATIME,
            MOUNT_ATTR_NOATIME => libc::MS_NOATIME,
            _ => 0,
        };
        simple.fold(access_times, |all, (_, flag)| all | flag)
    }

    /// The data as one string for mount(2).
    pub fn joined(&self) -> String {
        let one = |(key, value): &(String, String)| match value.as_str() {
            "" => key.clone(),
            // A comma would end the option.
            value if value.contains(',') => format!("{key}=\"{value}\""),
            value => format!("{key}={value}"),
        };
        self.data.iter().map(one).collect::<Vec<_>>().join(",")
    }
}

/// Linux 5.10; libc has no name for it.
const MS_NOSYMFOLLOW: u64 = 256;

/// Attributes of mount_setattr(2) and the flags of mount(2) that are the same; access times are apart.
const FLAGS: [(u64, u64); 6] = [
    (MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
    (MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
    (MOUNT_ATTR_NODEV, libc::MS_NODEV),
    (MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
    (MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME),
    (MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW),
];

/// Splits an option that is data, which may hold several with commas between them, into keys and values.
/// Commas inside double quotes belong to the value, as in `context="system_u:object_r:s0:c1,c2"`.
fn data(option: &str) -> Vec<(String, String)> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut characters = option.chars();
    while let Some(character) = characters.next() {
        let Some(part) = parts.last_mut() else { break };
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => parts.push(String::new()),
            '\\' => {
                // overlayfs reads escapes itself, except that of the comma, which was mount(2)'s.
                match characters.next() {
                    Some(',') => part.push(','),
                    Some(other) => part.extend(['\\', other]),
                    None => part.push('\\'),
                }
            }
            _ => part.push(character),
        }
    }
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| match part.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (part, String::new()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(OPTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn the_last_word_counts() {
        let options = parse(&["noexec", "exec", "ro"]);
        assert_eq!((options.set, options.clear), (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOEXEC));
        let options = parse(&["noatime", "strictatime"]);
        assert_eq!(options.set, MOUNT_ATTR_STRICTATIME);
    }

    #[test]
    fn data_is_split_at_commas_outside_quotes() {
        let options = parse(&["size=64k,mode=755", "context=\"a:s0:c1,c2\"", "newinstance"]);
        let pairs: Vec<_> = options.data.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("size", "64k"), ("mode", "755"), ("context", "a:s0:c1,c2"), ("newinstance", "")]);
        assert_eq!(options.joined(), "size=64k,mode=755,context=\"a:s0:c1,c2\",newinstance");
    }

    #[test]
    fn flags_of_both_calls_agree() {
        let options =
            parse(&["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow", "sync"]);
        let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_NOATIME;
        assert_eq!(options.flags(), flags | libc::MS_NODIRATIME | MS_NOSYMFOLLOW | libc::MS_SYNCHRONOUS);
        assert_eq!(parse(&["relatime"]).flags(), libc::MS_RELATIME);
    }
}
