//! Where the container's cgroup is: `linux.cgroupsPath` and the machine's layout give one path in
//! each hierarchy. Pure.
//!
//! <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#cgroups-path>. Engines
//! read cgroups directly, so the places are those of runc: an absolute path is below the mount
//! point of each hierarchy; a relative one is below the runtime's own cgroup on v1 and beside it on
//! v2 (a cgroup that has processes, such as a login scope, cannot have children with controllers);
//! an absent one is the container's id as a relative path.

use super::layout::{Layout, Version};
use super::{Cgroup, Dir};
use crate::error::{Error, Kind, Result};

/// Places the container's cgroup. Nothing is created.
///
/// # Errors
///
/// `InvalidSpec` at `/linux/cgroupsPath` for a path with `..`, a NUL or newline, or one that names
/// the root cgroup itself.
pub fn place(layout: &Layout, cgroups_path: Option<&str>, id: &str) -> Result<Cgroup> {
    let wanted = cgroups_path.filter(|path| !path.is_empty());
    let path = wanted.unwrap_or(id);
    let inner = clean(path).map_err(|message| {
        Error::new(Kind::InvalidSpec, format!("cannot use cgroup path {path:?}"))
            .at("/linux/cgroupsPath")
            .because(message)
    })?;
    let absolute = path.starts_with('/');
    Ok(Cgroup::new(layout.hierarchies.iter().map(|hierarchy| {
        let own = hierarchy.visible(&hierarchy.own);
        let base = match layout.version {
            _ if absolute => "",
            Version::V1 => own,
            Version::V2 => own.rsplit_once('/').map_or("", |(parent, _)| parent),
        };
        hierarchy.dir(format!("{}/{inner}", base.trim_end_matches('/')))
    })))
}

/// The sub-cgroups that `exec --cgroup [CONTROLLER[,CONTROLLER]:]PATH` names, below `cgroup`.
///
/// # Errors
///
/// `InvalidArgument` for a path that leaves the container's cgroup ("bad sub cgroup path") and for
/// a controller that is not mounted ("unknown controller").
pub fn sub(cgroup: &Cgroup, arguments: &[impl AsRef<str>]) -> Result<Cgroup> {
    let invalid = |message: String| Error::new(Kind::InvalidArgument, message);
    let mut dirs: Vec<Dir> = cgroup.dirs().to_vec();
    let mut named: Vec<String> = Vec::new();
    for argument in arguments {
        let argument = argument.as_ref();
        let Some((controllers, path)) = argument.split_once(':') else {
            if arguments.len() != 1 {
                return Err(invalid(format!(
                    "invalid --cgroup argument: {argument} (missing <controller>: prefix)"
                )));
            }
            for dir in &mut dirs {
                dir.path = below(&dir.path, argument)?;
            }
            continue;
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return Err(invalid(format!(
                    "invalid --cgroup argument: {argument} (empty <controller> prefix)"
                )));
            }
            if named.iter().any(|seen| seen == controller) {
                return Err(invalid(format!(
                    "invalid --cgroup argument(s): multiple paths for same controller: {controller}"
                )));
            }
            named.push(controller.to_owned());
            let has = |dir: &&mut Dir| {
                dir.version == Version::V1 && dir.controllers.iter().any(|name| name == controller)
            };
            let dir = dirs.iter_mut().find(has).ok_or_else(|| {
                invalid(format!("invalid --cgroup argument: {argument}: unknown controller {controller}"))
            })?;
            dir.path = below(&dir.path, path)?;
        }
    }
    Ok(Cgroup::new(dirs.into_iter()))
}

fn below(parent: &str, path: &str) -> Result<String> {
    if path.split('/').all(|component| component.is_empty() || component == ".") {
        return Ok(parent.to_owned());
    }
    let inner = clean(path).map_err(|message| {
        Error::new(Kind::InvalidArgument, format!("bad sub cgroup path {path:?}")).because(message)
    })?;
    Ok(format!("{}/{inner}", parent.trim_end_matches('/')))
}

/// The components of `path` joined again, without a leading slash.
fn clean(path: &str) -> std::result::Result<String, &'static str> {
    if path.contains(['\0', '\n']) {
        return Err("it contains a NUL or a newline");
    }
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if components.contains(&"..") {
        return Err("\"..\" is not allowed");
    }
    if components.is_empty() {
        return Err("it names the root cgroup");
    }
    Ok(components.join("/"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::cgroup::layout::Hierarchy;

    fn hybrid() -> Layout {
        let hierarchy = |version, controllers: &[&str], place: &str, own: &str| Hierarchy {
            version,
            controllers: controllers.iter().map(|&c| c.to_owned()).collect(),
            mountpoint: PathBuf::from("/sys/fs/cgroup").join(place),
            root: "/".to_owned(),
            own: own.to_owned(),
        };
        Layout {
            version: Version::V1,
            hierarchies: vec![
                hierarchy(Version::V1, &["memory"], "memory", "/api/x"),
                hierarchy(Version::V1, &["cpu", "cpuacct"], "cpu,cpuacct", "/"),
                hierarchy(Version::V1, &["name=systemd"], "systemd", "/user.slice"),
                hierarchy(Version::V2, &["hugetlb"], "unified", "/user.slice"),
            ],
        }
    }

    fn paths(layout: &Layout, cgroups_path: Option<&str>) -> Vec<String> {
        let cgroup = place(layout, cgroups_path, "c1").expect("placed");
        cgroup.dirs().iter().map(|dir| dir.full_path().display().to_string()).collect()
    }

    #[test]
    fn v1_and_hybrid() {
        assert_eq!(
            paths(&hybrid(), Some("//pod/./c1/")),
            [
                "/sys/fs/cgroup/memory/pod/c1",
                "/sys/fs/cgroup/cpu,cpuacct/pod/c1",
                "/sys/fs/cgroup/systemd/pod/c1",
                "/sys/fs/cgroup/unified/pod/c1"
            ]
        );
        let own = [
            "/sys/fs/cgroup/memory/api/x/c1",
            "/sys/fs/cgroup/cpu,cpuacct/c1",
            "/sys/fs/cgroup/systemd/user.slice/c1",
            "/sys/fs/cgroup/unified/user.slice/c1",
        ];
        assert_eq!(paths(&hybrid(), None), own);
        assert_eq!(paths(&hybrid(), Some("")), own);
        assert_eq!(paths(&hybrid(), Some("c1")), own);
    }

    #[test]
    fn v2() {
        let layout = Layout::unified("/sys/fs/cgroup", "/user.slice/session-1.scope");
        assert_eq!(paths(&layout, Some("/pod/c1")), ["/sys/fs/cgroup/pod/c1"]);
        assert_eq!(paths(&layout, Some("pod/c1")), ["/sys/fs/cgroup/user.slice/pod/c1"]);
        assert_eq!(paths(&layout, None), ["/sys/fs/cgroup/user.slice/c1"]);
        assert_eq!(paths(&Layout::unified("/sys/fs/cgroup", "/"), None), ["/sys/fs/cgroup/c1"]);
        assert_eq!(paths(&Layout::unified("/sys/fs/cgroup", "/init"), None), ["/sys/fs/cgroup/c1"]);
    }

    #[test]
    fn paths_that_escape_are_refused() {
        for path in ["../x", "/a/../../x", "/", "//.", "a\nb"] {
            let error = place(&hybrid(), Some(path), "c1").expect_err(path);
            assert_eq!(error.kind(), Kind::InvalidSpec);
            assert!(error.to_string().contains("(config.json#/linux/cgroupsPath)"), "{error}");
        }
    }

    #[test]
    fn sub_cgroups() {
        let cgroup = place(&hybrid(), Some("/c1"), "c1").expect("placed");
        let names = |arguments: &[&str]| -> Vec<String> {
            sub(&cgroup, arguments).expect("sub").dirs().iter().map(|dir| dir.path.clone()).collect()
        };
        assert_eq!(names(&["x/y"]), ["/c1/x/y"; 4]);
        assert_eq!(names(&["/"]), ["/c1"; 4]);
        assert_eq!(names(&["memory:x", "cpu,name=systemd:/y"]), ["/c1/x", "/c1/y", "/c1/y", "/c1"]);
        let fails = |arguments: &[&str]| sub(&cgroup, arguments).expect_err("refused").to_string();
        assert!(fails(&["memory:../x"]).contains("bad sub cgroup path"));
        assert!(fails(&["../../x"]).contains("bad sub cgroup path"));
        assert!(fails(&["memry:x"]).contains("unknown controller memry"));
        assert!(fails(&["x", "memory:y"]).contains("missing <controller>: prefix"));
        assert!(fails(&["memory:x", "memory:y"]).contains("multiple paths"));
        assert!(fails(&[":x"]).contains("empty <controller> prefix"));
    }
}
