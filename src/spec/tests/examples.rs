//! The corpus in spec-examples: each example is valid and complete, each invalid document has
//! exactly the problems that stand beside it. `BLESS=1 cargo test` writes those anew.

use std::fs;
use std::path::{Path, PathBuf};

use super::documents::{agrees, lines};
use crate::spec::{Process, Spec, parse, process_problems};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec-examples")
}

/// The directories below `directory` that hold a config.json, in order.
fn documents(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    found.sort();
    assert!(found.len() > 10, "{} holds {}", directory.display(), found.len());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn spec(directory: &Path) -> Spec {
    Spec::parse(read(&directory.join("config.json")).as_bytes())
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
}

#[test]
fn every_example_is_valid() {
    for example in documents(&corpus()) {
        assert_eq!(lines(&spec(&example)), "", "{}", example.display());
        let process = example.join("process.json");
        if process.exists() {
            let process: Process = parse(read(&process).as_bytes(), "process.json").expect("it is read");
            assert_eq!(process_problems(&process), [], "{}", example.display());
        }
    }
}

#[test]
fn every_example_is_complete() {
    let index = read(&corpus().join("README.md"));
    for example in documents(&corpus()) {
        let name = example.file_name().expect("it has a name").to_string_lossy().into_owned();
        assert!(read(&example.join("README.md")).starts_with(&format!("# {name}\n\n")), "{name}");
        assert!(index.contains(&format!("[{name}]({name}/README.md)")), "{name} is not in README.md");
        let spec = spec(&example);
        assert_eq!(spec.root.as_ref().expect("it is valid").path, Path::new("rootfs"), "{name}");
        for source in spec.mounts.iter().flatten().filter_map(|mount| {
            let options = mount.options().as_deref().unwrap_or_default();
            let bind = options.iter().any(|option| option == "bind" || option == "rbind");
            mount.source().as_ref().filter(|source| bind && source.is_relative())
        }) {
            assert!(example.join(source).exists(), "{name} has no {}", source.display());
        }
    }
}

#[test]
fn oci_spec_reads_the_examples_alike() {
    let examples = documents(&corpus());
    let read_by_both = examples
        .iter()
        .filter(|example| agrees(&example.to_string_lossy(), &read(&example.join("config.json"))))
        .count();
    // It refuses the scheduler flag of one example.
    assert_eq!(read_by_both, examples.len() - 1);
}

#[test]
fn every_invalid_document_has_the_problems_beside_it() {
    for document in documents(&corpus().join("invalid")) {
        let found = lines(&spec(&document));
        let expected = document.join("problems.txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected, &found).expect("it can be written");
        }
        assert!(!found.is_empty(), "{} is valid", document.display());
        assert_eq!(found, read(&expected), "{}", document.display());
    }
}
