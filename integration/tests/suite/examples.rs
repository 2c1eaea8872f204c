//! Every example of `spec-examples` runs and ends well; every invalid one is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use corten_integration::{
    Bundle, Cgroups, Invocation, Output, Runtime, Terminal, assert_nothing_left, cgroups, check, read, skip,
};
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("spec-examples")
}

/// A bundle with this example's files.
fn example(name: &str) -> Bundle {
    let mut bundle = Bundle::new();
    let from = corpus().join(name);
    copy(&from, bundle.dir());
    let text = fs::read_to_string(from.join("config.json")).unwrap_or_else(|e| panic!("{name}: {e}"));
    bundle.config = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    if !Runtime::get().is_corten() {
        // Of interest is whether the others run what stands in it, not which number they know.
        bundle.config["ociVersion"] = "1.0.2".into();
        bundle.write();
    }
    bundle
}

/// Copies what is in a directory, one level of directories included.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())).flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            fs::create_dir_all(&target).expect("mkdir");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("copy");
        }
    }
}

/// Runs it as README.md says, on a terminal if it wants one.
fn run(bundle: &Bundle) -> Output {
    let call: Invocation = bundle.runtime().args(["run", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
    if bundle.config["process"]["terminal"] != true {
        return call.run(bundle.dir());
    }
    let (mut terminal, slave) = Terminal::open();
    let running = call.terminal(slave).spawn(bundle.dir());
    let text = terminal.read_to_end();
    let output = running.wait();
    assert!(output.status == 0, "{text}");
    output
}

fn runs(name: &str) {
    let bundle = example(name);
    run(&bundle).ok();
    assert_nothing_left(&bundle);
}

macro_rules! examples {
    ($($test:ident: $name:literal;)*) => {
        $(
            #[test]
            fn $test() {
                check(|| runs($name));
            }
        )*

        /// What the tests above and below cover.
        const COVERED: &[&str] = &[$($name),*];
    };
}

examples! {
    buildah: "buildah";
    cgroup: "cgroup";
    containerd: "containerd";
    cri_o: "cri-o";
    devices: "devices";
    docker: "docker";
    hello: "hello";
    hooks: "hooks";
    idmap: "idmap";
    joined: "joined";
    kubernetes_container: "kubernetes-container";
    kubernetes_sandbox: "kubernetes-sandbox";
    mount_options: "mount-options";
    mounts: "mounts";
    personality: "personality";
    podman: "podman";
    podman_rootless: "podman-rootless";
    process: "process";
    readonly: "readonly";
    rootless: "rootless";
    seccomp: "seccomp";
    sysctl: "sysctl";
    terminal: "terminal";
    timens: "timens";
    tmpcopyup: "tmpcopyup";
    userns: "userns";
    uts: "uts";
}

#[test]
fn every_example_is_run_here() {
    check(|| {
        let special = ["exec", "intel-rdt", "invalid", "memory-policy", "netdevices", "unified"];
        let mut names: Vec<String> = fs::read_dir(corpus())
            .expect("the corpus")
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|n| !special.contains(&n.as_str()) && !COVERED.contains(&n.as_str()));
        assert!(names.is_empty(), "examples without a test: {names:?}");
    });
}

#[test]
fn memory_policy() {
    check(|| {
        if read("/proc/self/numa_maps").is_empty() {
            skip("this kernel has no NUMA");
        }
        runs("memory-policy");
    });
}

#[test]
fn intel_rdt() {
    check(|| {
        if !Path::new("/sys/fs/resctrl/schemata").exists() {
            skip("no /sys/fs/resctrl");
        }
        runs("intel-rdt");
    });
}

#[test]
fn unified() {
    check(|| {
        if cgroups() == Cgroups::V1 {
            skip("needs cgroup v2");
        }
        runs("unified");
    });
}

#[test]
fn netdevices() {
    check(|| {
        // The example's dummy device, or whatever of that name can be made here.
        let made = ["dummy", "veth"].iter().any(|kind| {
            let command = Command::new("ip").args(["link", "add", "corten0", "type", kind]).output();
            command.is_ok_and(|o| o.status.success())
        });
        if !made {
            skip("no network device can be made");
        }
        let bundle = example("netdevices");
        let output = run(&bundle);
        let _ = Command::new("ip").args(["link", "delete", "corten0"]).output();
        output.ok();
        assert_nothing_left(&bundle);
    });
}

#[test]
fn exec() {
    check(|| {
        let bundle = example("exec");
        let call = bundle.runtime().args(["run", "--detach", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
        call.run(bundle.dir()).ok();
        let process = bundle.dir().join("process.json");
        let call = bundle.runtime().args(["exec", "--process"]).arg(process).arg(bundle.id());
        let output = call.run(bundle.dir());
        bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
        output.ok();
    });
}

#[test]
fn invalid_examples_are_refused() {
    check(|| {
        let invalid = corpus().join("invalid");
        let mut count = 0;
        for entry in fs::read_dir(&invalid).expect("invalid examples").flatten() {
            let bundle = Bundle::new();
            copy(&entry.path(), bundle.dir());
            let call = bundle.runtime().args(["create", "--bundle"]).arg(bundle.dir()).arg(bundle.id());
            let output = call.run(bundle.dir());
            bundle.runtime().args(["delete", "--force", bundle.id()]).run(bundle.dir()).ok();
            assert!(output.status != 0, "{}: {output}", entry.path().display());
            assert_nothing_left(&bundle);
            count += 1;
        }
        assert!(count > 10, "{count} invalid examples");
    });
}
