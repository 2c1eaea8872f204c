//! Rules of this workspace that no compiler checks: who may import whom, names, sizes, unsafe code,
//! documentation, links. They stand in the documentation of `src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest file of Rust, and the longest script of hack/, in lines.
const LONGEST: usize = 600;
const LONGEST_SCRIPT: usize = 50;

/// What each room of the runtime must never import.
const FORBIDDEN_IMPORTS: &[(&str, &[&str])] = &[
    ("init/src", &["std::", "alloc::", "nix::", "serde", "crate::plan", "corten::"]),
    (
        "src/spec",
        &[
            "crate::host",
            "crate::plan",
            "crate::container",
            "crate::cgroup",
            "crate::cli",
            "std::fs",
            "std::process",
            "std::env",
        ],
    ),
    ("src/host.rs", &["crate::spec", "crate::plan", "crate::container", "crate::cli"]),
    (
        "src/seccomp",
        &[
            "crate::host",
            "crate::plan",
            "crate::container",
            "crate::cgroup",
            "crate::cli",
            "std::fs",
            "std::process",
            "std::env",
        ],
    ),
    ("src/plan", &["crate::container", "crate::cli", "std::fs", "std::env", "std::process", "std::net"]),
    ("src/cgroup", &["crate::plan", "crate::container", "crate::cli"]),
    ("src/container", &["crate::cli"]),
    ("src/cli", &["corten_init::sys", "crate::cgroup::v1", "crate::cgroup::v2"]),
    ("integration", &["use corten::", "use corten_init::", "corten::container", "corten::plan"]),
];

/// Words that say nothing, in names of files, types and functions.
const FORBIDDEN_NAMES: &[&str] =
    &["manager", "handler", "helper", "util", "utils", "common", "base", "impl", "tenant", "wrapper"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Files below the workspace with this extension, relative to it.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![top()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("read a directory").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() && name != "target" && !name.starts_with(".git") {
                open.push(entry.path());
            } else if kind.is_file() && entry.path().extension().is_some_and(|e| e == extension) {
                found.push(entry.path().strip_prefix(top()).expect("below the workspace").to_owned());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} files below {}", top().display());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Panics with every violation at once.
fn demand(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

/// The lines outside of `#[cfg(test)]` modules at the end of a file, numbered from 1.
fn product(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.lines().position(|l| l.trim() == "#[cfg(test)]").unwrap_or(usize::MAX);
    text.lines().enumerate().take(end).map(|(n, l)| (n + 1, l))
}

fn code(line: &str) -> &str {
    let line = line.trim_start();
    if line.starts_with("//") { "" } else { line.split(" // ").next().unwrap_or(line) }
}

#[test]
fn files_are_short() {
    let mut long = Vec::new();
    for path in files("rs") {
        let lines = read(&path).lines().count();
        if lines > LONGEST {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    demand(long);
}

#[test]
fn scripts_are_short() {
    let mut long = Vec::new();
    for entry in fs::read_dir(top().join("hack")).expect("hack/").flatten() {
        let lines = fs::read_to_string(entry.path()).unwrap_or_default().lines().count();
        if entry.file_type().is_ok_and(|t| t.is_file()) && lines > LONGEST_SCRIPT {
            long.push(format!("{}: {lines} lines", entry.path().display()));
        }
    }
    demand(long);
}

#[test]
fn unsafe_code_is_in_one_file_and_explained() {
    let mut found = Vec::new();
    for path in files("rs") {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let words = code(line);
            let is_unsafe =
                ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|w| words.contains(w));
            if !is_unsafe || words.contains('"') {
                continue;
            }
            if path != Path::new("init/src/sys.rs") {
                found.push(format!("{}:{}: unsafe code", path.display(), number + 1));
            } else if words.contains("unsafe {") {
                // The comment stands in the lines right above.
                let above = lines[number.saturating_sub(6)..=number].join("\n");
                if !above.contains("SAFETY") {
                    found.push(format!("{}:{}: no SAFETY line", path.display(), number + 1));
                }
            }
        }
    }
    demand(found);
}

#[test]
fn rooms_import_what_they_may() {
    let mut found = Vec::new();
    for path in files("rs") {
        // The rules are spelt out here.
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        let text = read(&path);
        for (room, forbidden) in FORBIDDEN_IMPORTS.iter().filter(|(room, _)| path.starts_with(room)) {
            if path.components().any(|c| c.as_os_str() == "tests") || path.ends_with("tests.rs") {
                continue;
            }
            for (number, line) in product(&text) {
                for import in forbidden.iter().filter(|import| code(line).contains(**import)) {
                    found.push(format!("{}:{number}: {room} must not use {import}", path.display()));
                }
            }
        }
    }
    demand(found);
}

#[test]
fn names_say_something() {
    let mut found = Vec::new();
    for path in files("rs") {
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let mut check = |place: String, name: &str| {
            for word in FORBIDDEN_NAMES {
                let words = split(name);
                if words.iter().any(|w| w == word) {
                    found.push(format!("{place}: {name} has \"{word}\" in its name"));
                }
            }
        };
        check(path.display().to_string(), &stem);
        for (number, line) in read(&path).lines().enumerate() {
            let words = code(line);
            for keyword in ["fn ", "struct ", "enum ", "trait ", "mod ", "type "] {
                let declared =
                    words.strip_prefix("pub ").or_else(|| words.strip_prefix("pub(crate) ")).unwrap_or(words);
                if let Some(rest) = declared.strip_prefix(keyword) {
                    let name: String =
                        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    check(format!("{}:{}", path.display(), number + 1), &name);
                }
            }
        }
    }
    demand(found);
}

/// "FileHandler" and "file_handler" are "file", "handler".
fn split(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c == '-' || c.is_uppercase() {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("a word").extend(c.to_lowercase());
        }
    }
    words
}

#[test]
fn public_items_and_modules_are_documented() {
    let mut found = Vec::new();
    for path in files("rs")
        .into_iter()
        .filter(|p| p.starts_with("src") || p.starts_with("init") || p.starts_with("integration/src"))
    {
        let text = read(&path);
        // A module of unit tests in a file of its own is described by what it tests.
        let tests = path.ends_with("tests.rs") || path.components().any(|c| c.as_os_str() == "tests");
        if !text.starts_with("//!") && !text.starts_with("#![") && !tests {
            found.push(format!("{}: no //! that says what it is responsible for", path.display()));
        }
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in product(&text) {
            let words = line.trim_start();
            let public = [
                "pub fn ",
                "pub struct ",
                "pub enum ",
                "pub trait ",
                "pub const ",
                "pub static ",
                "pub type ",
            ];
            // The man page of the same name describes each system call.
            let exempt = tests || path.starts_with("init/src/sys") || path == Path::new("init/src/sys.rs");
            if exempt || !public.iter().any(|p| words.starts_with(p)) {
                continue;
            }
            let above = lines[..number - 1].iter().rev().find(|l| !attribute(l));
            if !above.is_some_and(|l| l.trim_start().starts_with("///")) {
                found.push(format!("{}:{number}: not documented: {words}", path.display()));
            }
        }
    }
    demand(found);
}

/// Whether a line belongs to an attribute, of one line or the end of a longer one.
fn attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[") || line == ")]"
}

#[test]
fn no_unfinished_work() {
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX", "TODO", "#[ignore"];
    let mut found = Vec::new();
    for path in files("rs").into_iter().filter(|p| !p.ends_with("tests/tidy.rs")) {
        for (number, line) in read(&path).lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                found.push(format!("{}:{}: {mark}", path.display(), number + 1));
            }
        }
    }
    demand(found);
}

#[test]
fn links_of_documents_resolve() {
    let mut found = Vec::new();
    for path in files("md") {
        let text = read(&path);
        let dir = top().join(path.parent().expect("a directory"));
        for (number, line) in text.lines().enumerate() {
            for part in line.split("](").skip(1) {
                let target = part.split([')', '#', ' ']).next().unwrap_or_default();
                let elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
                if !elsewhere && !dir.join(target).exists() {
                    found.push(format!("{}:{}: no {target}", path.display(), number + 1));
                }
            }
        }
    }
    demand(found);
}

#[test]
fn the_document_of_deviations_tells_every_one() {
    let table: toml::Value = toml::from_str(&read(Path::new("integration/deviations.toml"))).expect("TOML");
    let mut rows = String::from("| test | runtime | why it fails there |\n|---|---|---|\n");
    for entry in table["deviation"].as_array().expect("entries") {
        let text = |key: &str| entry[key].as_str().expect("text").to_owned();
        let sometimes = if entry.get("race").is_some() { ", sometimes" } else { "" };
        rows.push_str(&format!(
            "| `{}` | {}{sometimes} | {} |\n",
            text("test"),
            text("runtime"),
            text("reason")
        ));
    }
    let path = Path::new("docs/deviations.md");
    let document = read(path);
    let (before, rest) = document.split_once("<!-- table -->\n").expect("the table's beginning");
    let (_, after) = rest.split_once("<!-- end -->").expect("the table's end");
    let wanted = format!("{before}<!-- table -->\n{rows}<!-- end -->{after}");
    if std::env::var_os("BLESS").is_some() {
        fs::write(top().join(path), &wanted).expect("write");
    }
    assert!(read(path) == wanted, "docs/deviations.md is not up to date; BLESS=1 writes its table");
}
