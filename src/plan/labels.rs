//! AppArmor profiles and SELinux labels: written to the process's attributes, through a procfs that
//! nothing in the container can cover, and only where the kernel knows what they mean.

use corten_init::program::Op;

use super::{Builder, Origin};
use crate::error::{Kind, Result};
use crate::host::Host;
use crate::spec::{Process, Spec};

fn profile(process: &Process) -> Option<&str> {
    process.apparmor_profile.as_deref().filter(|profile| !profile.is_empty())
}

fn label(process: &Process) -> Option<&str> {
    process.selinux_label.as_deref().filter(|label| !label.is_empty())
}

/// Whether the private procfs is needed.
pub(super) fn needs_proc(process: Option<&Process>) -> bool {
    process.is_some_and(|process| profile(process).is_some() || label(process).is_some())
}

/// The label that the session keyring will have.
pub(super) fn keyring(b: &mut Builder, spec: &Spec, host: &Host) -> Result<()> {
    let Some(label) = spec.process.as_ref().and_then(label).filter(|_| host.selinux) else { return Ok(()) };
    b.from(Origin::at("/process/selinuxLabel")).step(Op::OpenProc);
    let (path, value) = (b.text("self/attr/keycreate"), b.text(label));
    b.step(Op::Attribute { path, value });
    Ok(())
}

/// What the program will be confined by once it is executed.
pub(super) fn confine(b: &mut Builder, process: &Process, host: &Host) -> Result<()> {
    if let Some(profile) = profile(process) {
        b.from(Origin::at("/process/apparmorProfile"));
        if !host.apparmor {
            return Err(b
                .refuse(Kind::Unsupported, format!("cannot apply AppArmor profile {profile:?}"))
                .because("AppArmor is not enabled in this kernel"));
        }
        // Linux before 5.8 has only the attribute that all security modules share.
        let path = b.text("self/attr/exec");
        let value = b.text(format!("exec {profile}"));
        b.step(Op::Attribute { path, value });
    }
    if let Some(label) = label(process) {
        b.from(Origin::at("/process/selinuxLabel"));
        if !host.selinux {
            return Err(b
                .refuse(Kind::Unsupported, format!("cannot apply SELinux label {label:?}"))
                .because("SELinux is not enabled in this kernel"));
        }
        let (path, value) = (b.text("self/attr/exec"), b.text(label));
        b.step(Op::Attribute { path, value });
    }
    Ok(())
}
