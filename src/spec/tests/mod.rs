//! Documents in, documents and problems out.

mod documents;
mod examples;
mod mount_rules;
mod process_rules;
mod properties;
mod resource_rules;
mod rules;
mod tolerance;

use serde_json::{Value, json};

use super::{Spec, problems};

/// A document without a fault, with every namespace that a rule may ask for.
fn valid() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": { "user": { "uid": 0, "gid": 0 }, "args": ["sh"], "cwd": "/" },
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"] }
        ],
        "linux": { "namespaces": [
            { "type": "pid" }, { "type": "network" }, { "type": "mount" }, { "type": "ipc" },
            { "type": "uts" }, { "type": "cgroup" }, { "type": "time" }
        ] }
    })
}

/// Sets the property at a JSON pointer, and makes the objects on the way; `null` removes it.
fn patch(document: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let key = key.replace("~1", "/").replace("~0", "~");
    if document.pointer(parent).is_none() {
        patch(document, parent, json!({}));
    }
    match document.pointer_mut(parent) {
        Some(Value::Object(object)) if value.is_null() => drop(object.remove(&key)),
        Some(Value::Object(object)) => drop(object.insert(key, value)),
        Some(Value::Array(array)) => array[key.parse::<usize>().expect("an index")] = value,
        _ => panic!("{parent} holds nothing"),
    }
}

/// The problems of the valid document with `changes`.
fn with(changes: &[(&str, Value)]) -> Vec<String> {
    let mut document = valid();
    for (pointer, value) in changes {
        patch(&mut document, pointer, value.clone());
    }
    found(&document)
}

/// Each row: a pointer, what is put there, the problems.
#[track_caller]
fn table(rows: &[(&str, Value, &[&str])]) {
    for (pointer, value, expected) in rows {
        assert_eq!(with(&[(pointer, value.clone())]), *expected, "{pointer} = {value}");
    }
}

fn found(document: &Value) -> Vec<String> {
    let spec = Spec::parse(document.to_string().as_bytes()).expect("the document has the right types");
    problems(&spec).iter().map(ToString::to_string).collect()
}
