//! Whole documents: what is read is written again, and oci-spec reads the same.

use serde::Serialize;
use serde_json::Value;

use crate::spec::{Spec, Template, problems};

/// Debian's runc 1.1.5 wrote these two, as root.
const RUNC: [&str; 2] = [include_str!("runc-spec.json"), include_str!("runc-spec-rootless.json")];

fn tabs(spec: &Spec) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    spec.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        .expect("it is written");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

pub(super) fn lines(spec: &Spec) -> String {
    problems(spec).iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn runcs_documents_are_written_as_they_were_read() {
    for text in RUNC {
        let spec = Spec::parse(text.as_bytes()).expect("it is read");
        assert_eq!(lines(&spec), "");
        assert_eq!(tabs(&spec), text);
    }
}

/// Between Debian's runc and today's lie a version, the ambient capabilities and a masked path.
fn as_today(document: &str) -> String {
    let ambient = ",\n\t\t\t\"ambient\": [\n\t\t\t\t\"CAP_AUDIT_WRITE\",\n\t\t\t\t\"CAP_KILL\",\n\t\t\t\t\"CAP_NET_BIND_SERVICE\"\n\t\t\t]";
    assert!(document.contains(ambient));
    document
        .replace("1.0.2-dev", "1.3.0")
        .replace(ambient, "")
        .replace("\"/proc/scsi\"\n", "\"/proc/scsi\",\n\t\t\t\"/sys/devices/virtual/tpm\"\n")
}

#[test]
fn the_template_is_runcs() {
    assert_eq!(tabs(&Template::default().document()), as_today(RUNC[0]));
    let rootless = Template { rootless: Some((0, 0)), cgroup_namespace: false };
    assert_eq!(tabs(&rootless.document()), as_today(RUNC[1]));
}

#[test]
fn the_template_is_valid_everywhere() {
    for rootless in [None, Some((1000, 1001))] {
        for cgroup_namespace in [false, true] {
            let spec = Template { rootless, cgroup_namespace }.document();
            assert_eq!(lines(&spec), "");
            assert_eq!(spec.linux().namespace("cgroup").is_some(), cgroup_namespace);
            assert_eq!(spec.linux().namespace("user").is_some(), rootless.is_some());
            assert_eq!(spec.linux().namespace("network").is_some(), rootless.is_none());
        }
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(array) => array.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// What both leave out or write differs only where a value is the zero of its type.
fn without_zeros(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| {
                let value = if key == "capabilities" { sorted(value) } else { without_zeros(value) };
                (key, value)
            })
            .filter(|(_, value)| {
                !(value.is_null()
                    || *value == Value::Bool(false)
                    || value == 0
                    || value == ""
                    || is_empty(value))
            })
            .collect(),
        Value::Array(array) => array.into_iter().map(without_zeros).collect(),
        other => other,
    }
}

/// oci-spec keeps capabilities in a set.
fn sorted(mut capabilities: Value) -> Value {
    for list in capabilities.as_object_mut().into_iter().flatten().filter_map(|(_, list)| list.as_array_mut())
    {
        list.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        list.dedup();
    }
    without_nulls(capabilities)
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// The pointer of the first place where two documents differ.
fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one.keys().chain(other.keys());
            keys.filter(|key| one.get(*key) != other.get(*key))
                .map(|key| {
                    let (one, other) =
                        (one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null));
                    format!("/{key}{}", difference(one, other).unwrap_or_default())
                })
                .next()
        }
        (one, other) => (one != other).then(String::new),
    }
}

/// Reads `text` with oci-spec; if that accepts it, both must have read the same.
pub(super) fn agrees(name: &str, text: &str) -> bool {
    let Ok(theirs) = serde_json::from_str::<oci_spec::runtime::Spec>(text) else { return false };
    let ours = Spec::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let theirs = without_zeros(serde_json::to_value(theirs).expect("it is written"));
    // Some names that we refuse for being absent have a default there.
    let refused: Vec<String> = problems(&ours).into_iter().map(|problem| problem.pointer).collect();
    let ours = without_zeros(serde_json::to_value(ours).expect("it is written"));
    if let Some(place) = difference(&ours, &theirs).filter(|place| !refused.contains(place)) {
        panic!("{name}: {place}: {:?} and {:?}\n{text}", ours.pointer(&place), theirs.pointer(&place));
    }
    true
}

#[test]
fn oci_spec_reads_the_same() {
    for text in RUNC {
        assert!(agrees("runc", text));
    }
    assert!(agrees("everything", include_str!("everything.json")));
}

#[test]
fn every_property_is_read_and_written() {
    let text = include_str!("everything.json");
    let spec = Spec::parse(text.as_bytes()).expect("it is read");
    assert_eq!(lines(&spec), "");
    let document: Value = serde_json::from_str(text).expect("it is JSON");
    assert_eq!(serde_json::to_value(&spec).expect("it is written"), without_nulls(document));
    assert!(!serde_json::to_string(&spec).expect("it is written").contains("null"));
}
