//! What is read as Go reads it.

use serde_json::{Value, json};

use super::{found, patch, valid};
use crate::spec::{Process, Spec, parse};

fn read(document: &Value) -> Spec {
    Spec::parse(document.to_string().as_bytes()).expect("it is read")
}

#[test]
fn null_is_absent() {
    let document = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": null, "consoleSize": null, "user": { "uid": null, "gid": null, "umask": null },
            "args": ["sh"], "env": null, "cwd": "/", "capabilities": null, "rlimits": null,
            "noNewPrivileges": null, "oomScoreAdj": null
        },
        "root": { "path": "rootfs", "readonly": null },
        "hostname": null,
        "mounts": null,
        "hooks": null,
        "annotations": null,
        "linux": {
            "namespaces": [{ "type": "mount", "path": null }],
            "resources": {
                "devices": [{ "allow": null, "type": null, "major": null, "access": null }],
                "memory": null, "pids": { "limit": null }, "unified": null
            },
            "seccomp": null
        }
    });
    assert_eq!(found(&document), Vec::<String>::new());
    let spec = read(&document);
    assert_eq!(spec.process.expect("it is there").user.uid, 0);
    assert_eq!(spec.linux.unwrap().resources.unwrap().pids.unwrap().limit, None);
}

#[test]
fn every_property_may_be_absent() {
    let spec = read(&json!({ "process": {}, "root": {}, "linux": {} }));
    assert_eq!(spec.process.expect("it is there").cwd, "");
    let empty = read(&json!({}));
    assert!(empty.linux().namespaces.is_none());
}

#[test]
fn unknown_properties_are_ignored() {
    let mut document = valid();
    for pointer in ["/newer", "/process/newer", "/root/newer", "/linux/newer", "/linux/namespaces/0/newer"] {
        patch(&mut document, pointer, json!({ "any": ["thing"] }));
    }
    assert_eq!(found(&document), Vec::<String>::new());
}

#[test]
fn a_property_given_twice_is_refused() {
    let error = Spec::parse(br#"{"process": {"cwd": "/", "cwd": "/etc"}}"#).unwrap_err().to_string();
    assert!(error.starts_with("cannot parse config.json"), "{error}");
    assert!(error.contains("duplicate field `cwd`"), "{error}");
}

#[test]
fn a_wrong_type_says_where() {
    let cases: [(&[u8], &str); 4] = [
        (br#"{"process": {"args": ["sh", 1]}}"#, "config.json#/process/args/1"),
        (br#"{"process": {"user": {"uid": -1}}}"#, "config.json#/process/user/uid"),
        (br#"{"process": {"user": {"uid": 4294967296}}}"#, "config.json#/process/user/uid"),
        (br#"{"linux": {"sysctl": {"a/b~": 1}}}"#, "config.json#/linux/sysctl/a~1b~0"),
    ];
    for (document, place) in cases {
        let error = Spec::parse(document).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn what_is_no_document_is_refused() {
    for bytes in [&b""[..], b"{", b"[]", b"{} {}", b"{\"ociVersion\": \"\xff\"}", b"nonsense"] {
        let error = Spec::parse(bytes).unwrap_err().to_string();
        assert!(error.starts_with("cannot parse config.json"), "{error}");
    }
}

#[test]
fn an_exec_document_names_itself_in_the_error() {
    let error = parse::<Process>(br#"{"args": "sh"}"#, "process.json").unwrap_err().to_string();
    assert!(error.contains("process.json#/args"), "{error}");
}

#[test]
fn numbers_keep_their_range_and_names_their_order() {
    let spec = read(&json!({
        "process": {
            "rlimits": [{ "type": "RLIMIT_AS", "hard": u64::MAX, "soft": u64::MAX }],
            "capabilities": { "bounding": ["CAP_Z", "CAP_A", "CAP_FUTURE"] }
        },
        "linux": { "resources": {
            "hugepageLimits": [{ "pageSize": "2MB", "limit": u64::MAX }],
            "pids": { "limit": 0 }, "memory": { "limit": -1, "swappiness": u64::MAX }
        } }
    }));
    let process = spec.process.expect("it is there");
    assert_eq!(process.rlimits.unwrap()[0].hard, u64::MAX);
    assert_eq!(process.capabilities.unwrap().bounding.unwrap(), ["CAP_Z", "CAP_A", "CAP_FUTURE"]);
    let resources = spec.linux.unwrap().resources.unwrap();
    assert_eq!(resources.hugepage_limits.unwrap()[0].limit, u64::MAX);
    assert_eq!(resources.pids.unwrap().limit, Some(0));
}
