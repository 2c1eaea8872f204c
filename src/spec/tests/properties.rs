//! What holds for any document: many are made from one by small random changes, the same ones each time.

use serde_json::{Value, json};

use super::documents::agrees;
use crate::spec::{Spec, problems};

/// Marsaglia's xorshift: a test needs the same numbers each time, not good ones.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits fit") % end
    }
}

/// The pointers of all values in the document, with its root.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(array) => {
            for (i, value) in array.iter().enumerate() {
                pointers(value, &format!("{at}/{i}"), all);
            }
        }
        _ => {}
    }
}

/// A value of the same type that is more likely wrong, or none.
fn spoiled(value: &Value, numbers: &mut Numbers) -> Value {
    let texts = ["", "/", "..", "a/b", "\0", "x\ny", "rbind", "idmap", "0-3", "SCHED_FIFO", "mount", "é"];
    let integers = [0, 1, 511, 512, 4096, 65536, i64::from(u32::MAX)];
    match value {
        _ if numbers.below(4) == 0 => Value::Null,
        Value::String(_) => json!(texts[numbers.below(texts.len())]),
        Value::Number(_) => json!(integers[numbers.below(integers.len())]),
        Value::Bool(flag) => json!(!flag),
        Value::Array(array) if !array.is_empty() => {
            let mut array = array.clone();
            let i = numbers.below(array.len());
            array.push(array[i].clone());
            Value::Array(array)
        }
        Value::Object(object) if !object.is_empty() => {
            let mut object = object.clone();
            let key = object.keys().nth(numbers.below(object.len())).cloned();
            object.remove(&key.expect("the object is not empty"));
            Value::Object(object)
        }
        other => other.clone(),
    }
}

/// Calls `check` with each of the documents.
fn each(check: impl Fn(&Value)) {
    let whole: Value = serde_json::from_str(include_str!("everything.json")).expect("it is JSON");
    let mut numbers = Numbers(0x5eed_0fc0_27e4);
    for _ in 0..600 {
        let mut document = whole.clone();
        for _ in 0..=numbers.below(4) {
            let mut all = Vec::new();
            pointers(&document, "", &mut all);
            let place = document.pointer_mut(&all[numbers.below(all.len())]).expect("it was just found");
            *place = spoiled(place, &mut numbers);
        }
        check(&document);
    }
}

#[test]
fn what_oci_spec_accepts_is_read_the_same() {
    let both = std::cell::Cell::new(0);
    each(|document| {
        if agrees("a changed document", &document.to_string()) {
            both.set(both.get() + 1);
        }
    });
    // It refuses many of them: null in a list, a number out of range.
    assert!(both.get() > 150, "{}", both.get());
}

#[test]
fn what_is_written_is_read_the_same() {
    each(|document| {
        let Ok(spec) = Spec::parse(document.to_string().as_bytes()) else { return };
        let written = serde_json::to_string(&spec).expect("it is written");
        let again = Spec::parse(written.as_bytes()).expect("it was just written");
        assert_eq!(serde_json::to_string(&again).expect("it is written"), written);
        assert_eq!(problems(&again), problems(&spec));
    });
}

#[test]
fn a_problem_is_one_line_about_a_place_in_the_document() {
    each(|document| {
        let Ok(spec) = Spec::parse(document.to_string().as_bytes()) else { return };
        for problem in problems(&spec) {
            assert!(!problem.to_string().contains(['\n', '\0']), "{problem:?}");
            // What is required and absent has its place in what is there.
            let (parent, _) = problem.pointer.rsplit_once('/').expect("it is a pointer");
            let place = document.pointer(&problem.pointer).or_else(|| document.pointer(parent));
            let defaults = ["/process/user", "/linux", "/process/rlimits/0"];
            assert!(place.is_some() || defaults.contains(&parent), "{problem}\n{document:#}");
        }
    });
}
