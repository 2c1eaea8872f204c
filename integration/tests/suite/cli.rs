//! The command line: help, version, flags in every spelling, and shapes that scripts parse.

use std::fs;

use corten_integration::{Bundle, Output, Runtime, check};
use serde_json::Value;

fn call(args: &[&str]) -> Output {
    let bundle = Bundle::new();
    corten_integration::Invocation::new(&Runtime::get().path).args(args).run(bundle.dir())
}

#[test]
fn version_is_three_lines_that_scripts_match() {
    check(|| {
        for flag in ["--version", "-v"] {
            let output = call(&[flag]).ok();
            let lines: Vec<&str> = output.stdout.lines().collect();
            let words: Vec<&str> = lines[0].split_whitespace().collect();
            assert_eq!(words[..2], [Runtime::get().name.as_str(), "version"], "{output}");
            assert!(words[2].split('.').take(2).all(|n| n.parse::<u32>().is_ok()), "{output}");
            assert!(lines[1].starts_with("commit:"), "{output}");
            assert!(lines.iter().any(|l| l.starts_with("spec: 1.")), "{output}");
        }
    });
}

#[test]
fn help_of_the_runtime_names_every_command() {
    check(|| {
        for flag in ["--help", "-h", "help"] {
            let output = call(&[flag]).ok();
            let first = output.stdout.lines().next().unwrap_or_default();
            assert!(first.starts_with("NAME:"), "{output}");
            for command in ["create", "delete", "exec", "kill", "list", "run", "spec", "start", "state"] {
                let named = output.stdout.lines().any(|l| l.trim_start().starts_with(command));
                assert!(named, "{command} is missing: {output}");
            }
        }
    });
}

#[test]
fn every_command_has_help() {
    check(|| {
        for command in ["create", "delete", "exec", "kill", "list", "run", "spec", "start", "state"] {
            for flag in ["--help", "-h"] {
                let output = call(&[command, flag]).ok();
                let lines: Vec<&str> = output.stdout.lines().collect();
                assert!(lines[0].starts_with("NAME:"), "{output}");
                let name = format!("{} {command}", Runtime::get().name);
                assert!(lines[1].trim_start().starts_with(&name), "{output}");
            }
        }
    });
}

#[test]
fn an_unknown_command_is_refused_in_known_words() {
    check(|| {
        let output = call(&["no-such-command"]).code(3);
        let text = output.stdout.clone() + &output.stderr;
        assert!(text.contains("No help topic for 'no-such-command'"), "{output}");
    });
}

#[test]
fn an_unknown_flag_is_refused() {
    check(|| {
        for args in
            [&["--no-such-flag", "list"][..], &["list", "--no-such-flag"], &["create", "--no-such-flag", "x"]]
        {
            let output = call(args);
            assert!(output.status != 0, "{output}");
        }
    });
}

#[test]
fn missing_and_surplus_ids_are_refused() {
    check(|| {
        for args in [
            &["state"][..],
            &["start"],
            &["delete"],
            &["kill"],
            &["create"],
            &["run"],
            &["exec"],
            &["state", "a", "b"],
        ] {
            let output = call(args);
            assert!(output.status != 0, "{output}");
        }
    });
}

#[test]
fn flags_are_taken_in_both_spellings_and_after_the_id() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        bundle.write();
        let root = format!("--root={}", bundle.state_root().display());
        let dir = format!("--bundle={}", bundle.dir().display());
        let runtime = || corten_integration::Invocation::new(&Runtime::get().path).arg(&root);
        runtime().args(["create", &dir, bundle.id()]).run(bundle.dir()).ok();
        runtime().args(["start", bundle.id()]).run(bundle.dir()).ok();
        runtime().args(["state", bundle.id()]).run(bundle.dir()).ok();
        runtime().args(["delete", bundle.id(), "--force"]).run(bundle.dir());
        let left = runtime().args(["delete", "-f", bundle.id()]).run(bundle.dir());
        left.ok();
        corten_integration::assert_nothing_left(&bundle);
    });
}

#[test]
fn short_flags_work() {
    check(|| {
        let bundle = Bundle::new().sleeper();
        bundle.write();
        bundle.runtime().args(["run", "-d", "-b"]).arg(bundle.dir()).arg(bundle.id()).run(bundle.dir()).ok();
        let list = bundle.runtime().args(["list", "-q"]).run(bundle.dir()).ok();
        assert_eq!(list.stdout.trim(), bundle.id());
        bundle.runtime().args(["delete", "-f", bundle.id()]).run(bundle.dir()).ok();
    });
}

#[test]
fn spec_writes_a_bundle_that_runs() {
    check(|| {
        let bundle = Bundle::new();
        let dir = bundle.dir();
        bundle.runtime().arg("spec").cwd(dir).run(dir).ok();
        let text = fs::read_to_string(dir.join("config.json")).expect("config.json");
        assert!(text.starts_with("{\n\t\"ociVersion\""), "{}", &text[..60]);
        let mut config: Value = serde_json::from_str(&text).expect("JSON");
        for set in ["bounding", "effective", "permitted"] {
            assert!(config["process"]["capabilities"][set].is_array(), "{set}");
        }
        let inheritable = &config["process"]["capabilities"]["inheritable"];
        assert!(inheritable.is_null() || inheritable.as_array().is_some_and(Vec::is_empty), "CVE-2022-29162");
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["/bin/echo", "it runs"]);
        fs::write(dir.join("config.json"), config.to_string()).expect("write");
        let output = bundle.runtime().args(["run", "--bundle"]).arg(dir).arg(bundle.id()).run(dir).ok();
        assert_eq!(output.stdout, "it runs\n");
    });
}

#[test]
fn spec_does_not_overwrite() {
    check(|| {
        let bundle = Bundle::new();
        let dir = bundle.dir();
        fs::write(dir.join("config.json"), "mine").expect("write");
        bundle.runtime().args(["spec", "--bundle"]).arg(dir).run(dir).failed();
        assert_eq!(fs::read_to_string(dir.join("config.json")).expect("read"), "mine");
    });
}

#[test]
fn spec_rootless_maps_the_caller() {
    check(|| {
        let bundle = Bundle::new();
        let dir = bundle.dir();
        bundle.runtime().args(["spec", "--rootless", "--bundle"]).arg(dir).run(dir).ok();
        let text = fs::read_to_string(dir.join("config.json")).expect("config.json");
        let config: Value = serde_json::from_str(&text).expect("JSON");
        let kinds: Vec<&str> = config["linux"]["namespaces"]
            .as_array()
            .expect("namespaces")
            .iter()
            .filter_map(|n| n["type"].as_str())
            .collect();
        assert!(kinds.contains(&"user") && !kinds.contains(&"network"), "{kinds:?}");
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], 0);
        assert!(config["linux"]["resources"].is_null());
    });
}

#[test]
fn state_is_indented_json_without_a_final_newline() {
    check(|| {
        let container = Bundle::new().sleeper().create();
        let output = container.command("state", &[]).run(container.bundle.dir()).ok();
        assert!(output.stdout.starts_with("{\n  \"ociVersion\": "), "{output}");
        assert!(output.stdout.ends_with("\n}"), "{output}");
    });
}

#[test]
fn an_error_is_a_line_in_the_log_format() {
    check(|| {
        let bundle = Bundle::new();
        let output = bundle.runtime().args(["state", "no-such-container"]).run(bundle.dir()).code(1);
        let line = output.stderr.trim_end();
        assert_eq!(line.lines().count(), 1, "{output}");
        assert!(line.starts_with("time=\"") && line.contains("level=error msg=\""), "{output}");
    });
}

#[test]
fn debug_says_more() {
    check(|| {
        let bundle = Bundle::new().args(["/bin/true"]);
        let log = bundle.dir().join("log");
        let bundle = bundle.global_flag("--debug").global_flag("--log").global_flag(log.to_string_lossy());
        bundle.call("run").run(bundle.dir()).ok();
        let text = fs::read_to_string(&log).expect("the log");
        assert!(text.contains("level=debug"), "{text}");
    });
}

#[test]
fn a_wrong_log_format_is_refused() {
    check(|| {
        let bundle = Bundle::new();
        let output = bundle.runtime().args(["--log-format", "xml", "list"]).run(bundle.dir());
        assert!(output.status != 0, "{output}");
    });
}
