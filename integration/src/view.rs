//! What a process inside the container sees: the probe's answer.

use serde_json::Value;

/// The probe's JSON object.
#[derive(Debug, Clone)]
pub struct View(pub Value);

impl View {
    /// Parses what the probe wrote. Panics with the text when it is no JSON.
    #[track_caller]
    pub fn parse(text: &str) -> View {
        View(serde_json::from_str(text).unwrap_or_else(|e| panic!("the probe says no JSON ({e}): {text}")))
    }

    /// The value at a JSON pointer; null when there is none.
    pub fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The text at a JSON pointer. Panics when there is none.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_else(|| panic!("no text at {pointer}: {}", self.at(pointer)))
    }

    /// The topmost mount on this destination. Panics when there is none.
    #[track_caller]
    pub fn mount(&self, destination: &str) -> &Value {
        self.find_mount(destination)
            .unwrap_or_else(|| panic!("nothing is mounted on {destination}: {}", self.at("/mounts")))
    }

    /// The topmost mount on this destination.
    pub fn find_mount(&self, destination: &str) -> Option<&Value> {
        self.at("/mounts").as_array()?.iter().rfind(|m| m["dest"] == destination)
    }

    /// The options of the mount on this destination, those of its file system included.
    #[track_caller]
    pub fn options(&self, destination: &str) -> Vec<String> {
        let mount = self.mount(destination);
        let texts = |key: &str| mount[key].as_array().cloned().unwrap_or_default();
        let all = texts("options").into_iter().chain(texts("super"));
        all.map(|v| v.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The options of the mount alone, without those of its file system.
    #[track_caller]
    pub fn mount_options(&self, destination: &str) -> Vec<String> {
        let mount = self.mount(destination);
        mount["options"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned))
            .collect()
    }

    /// The answer to an attempt, such as "write:/proc/sys/kernel/hostname". Panics if it was not made.
    #[track_caller]
    pub fn attempt(&self, attempt: &str) -> &Value {
        self.0["attempts"].get(attempt).unwrap_or_else(|| panic!("the probe did not attempt {attempt}"))
    }

    /// Whether the attempt succeeded.
    #[track_caller]
    pub fn could(&self, attempt: &str) -> bool {
        self.attempt(attempt)["errno"].is_null()
    }

    /// The errno that an attempt failed with, 0 when it succeeded.
    #[track_caller]
    pub fn errno(&self, attempt: &str) -> i64 {
        self.attempt(attempt)["errno"].as_i64().unwrap_or(0)
    }

    /// A capability set ("effective", "bounding", ...) as a bit mask.
    #[track_caller]
    pub fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(self.text(&format!("/capabilities/{set}")), 16).expect("a hexadecimal mask")
    }
}
