//! Where systemd will make the container's cgroup: `cgroupsPath` as `slice:prefix:name`. Pure.

use super::{Cgroup, Unit};
use crate::cgroup::Layout;
use crate::error::{Error, Kind, Result};

/// Places the cgroup. `manager` is the cgroup of the systemd that will make it: `/` for the
/// system's, for a user's something like `/user.slice/user-1000.slice/user@1000.service`.
///
/// # Errors
///
/// `InvalidSpec` at `/linux/cgroupsPath`.
pub(super) fn place(
    layout: &Layout,
    cgroups_path: Option<&str>,
    id: &str,
    user: bool,
    manager: &str,
) -> Result<Cgroup> {
    let invalid = |message: String| {
        Error::new(Kind::InvalidSpec, "cannot place the container's cgroup")
            .at("/linux/cgroupsPath")
            .because(message)
    };
    let (slice, prefix, name) = match cgroups_path.filter(|path| !path.is_empty()) {
        None => ("", "corten", id),
        Some(path) => match path.split(':').collect::<Vec<_>>()[..] {
            [slice, prefix, name] => (slice, prefix, name),
            _ => {
                return Err(invalid(format!(
                    "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
                )));
            }
        },
    };
    let slice = match slice {
        "" if user => "user.slice",
        "" => "system.slice",
        slice => slice,
    };
    let slices = expand(slice).map_err(&invalid)?;
    let unit = match prefix {
        _ if name.ends_with(".slice") => name.to_owned(),
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    // unit_name_is_valid() of systemd.
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.is_empty() || !unit.chars().all(fits) || unit.len() > 255 {
        return Err(invalid(format!("{unit:?} is no name of a systemd unit")));
    }
    let manager = manager.trim_end_matches('/');
    let path = if unit.ends_with(".slice") {
        format!("{manager}{}", expand(&unit).map_err(invalid)?)
    } else {
        format!("{manager}{slices}/{unit}")
    };
    let mut cgroup =
        Cgroup::new(layout.hierarchies.iter().map(|hierarchy| hierarchy.dir(hierarchy.visible(&path))));
    cgroup.unit = Some(Unit { name: unit, slice: slice.to_owned(), user });
    Ok(cgroup)
}

/// `a-b.slice` is below `a.slice`: its path. systemd.slice(5).
fn expand(slice: &str) -> std::result::Result<String, String> {
    let invalid = || format!("invalid slice name: {slice}");
    let name = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if name == "-" {
        return Ok(String::new());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
    if !slice.chars().all(fits) || name.split('-').any(str::is_empty) {
        return Err(invalid());
    }
    let mut path = String::new();
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    for end in ends {
        path += &format!("/{}.slice", &name[..end]);
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(
        cgroups_path: Option<&str>,
        user: bool,
        manager: &str,
    ) -> std::result::Result<(String, String), String> {
        let layout = Layout::unified("/sys/fs/cgroup", "/");
        let cgroup = place(&layout, cgroups_path, "c1", user, manager).map_err(|error| error.to_string())?;
        let unit = cgroup.unit.clone().map(|unit| unit.name).unwrap_or_default();
        Ok((cgroup.dirs()[0].full_path().display().to_string(), unit))
    }

    #[test]
    fn scopes_and_slices() {
        let user = "/user.slice/user-1000.slice/user@1000.service";
        for (path, manager, expected) in [
            (None, "/", "/sys/fs/cgroup/system.slice/corten-c1.scope"),
            (Some("system.slice:docker:abc"), "/", "/sys/fs/cgroup/system.slice/docker-abc.scope"),
            (
                Some("kubepods-burstable-pod1.slice:cri-containerd:abc"),
                "",
                "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope",
            ),
            (Some("-.slice::abc"), "/", "/sys/fs/cgroup/abc.scope"),
            (Some(":x:a-b.slice"), "/", "/sys/fs/cgroup/a.slice/a-b.slice"),
            (
                Some("user.slice:libpod:abc"),
                user,
                "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-abc.scope",
            ),
        ] {
            let (found, unit) = placed(path, manager == user, manager).expect("placed");
            assert_eq!(found, expected);
            assert!(found.ends_with(&unit));
        }
    }

    #[test]
    fn wrong_paths() {
        for path in [
            "/docker/x",
            "a:b",
            "a:b:c:d",
            "x:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a/../b.slice:b:c",
            "a.slice:b:../c",
            "a.slice:b:",
        ] {
            let error = placed(Some(path), false, "/").expect_err(path);
            assert!(error.contains("config.json#/linux/cgroupsPath"), "{error}");
        }
        let error = placed(Some("/docker/x"), false, "/").expect_err("no triple");
        assert!(error.contains("expected cgroupsPath to be of format \"slice:prefix:name\""), "{error}");
    }
}
