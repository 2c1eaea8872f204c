//! The configuration of a container as `config.json` says it, and nothing more.
//!
//! The vocabulary is [`oci_spec::runtime`]; where that crate rejects or loses input that the
//! [runtime specification](https://github.com/opencontainers/runtime-spec/blob/main/config.md)
//! allows, the part is modelled here: enumerations stay strings until [`problems`] has seen them,
//! so that every violation can be reported at once with its JSON pointer, capabilities keep unknown
//! names (they are warned about, not refused), maps keep a stable order, and numbers keep their
//! whole range. Unknown properties are ignored, as the specification demands; `null` stands for an
//! absent property, as Go reads it; a property given twice in one object is refused, because
//! readers of JSON disagree about which of the two counts. Written documents have the shape and the
//! key order of the specification's Go types.
//!
//! This module parses and checks bytes. It never looks at the host.

mod linux;
mod process;
mod template;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use oci_spec::runtime::{
    Hook, Hooks, LinuxBlockIo, LinuxCpu, LinuxIdMapping, LinuxMemory, LinuxNetDevice, LinuxNetwork,
    LinuxRdma, LinuxTimeOffset, Mount,
};
use serde::{Deserialize, Deserializer, Serialize};

pub use linux::*;
pub use process::*;
pub use template::Template;
pub use validate::{
    MEMORY_POLICY_FLAGS, MEMORY_POLICY_MODES, Problem, RLIMITS, cpu_list, id_list, node_list, problems,
    process_problems, resources_problems, sysctl_path,
};

use crate::error::{Error, Kind, Result};

/// `config.json`: <https://github.com/opencontainers/runtime-spec/blob/main/config.md>.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// The version of the specification the document complies with, a semantic version.
    #[serde(rename = "ociVersion", deserialize_with = "nullable")]
    pub version: String,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub process: Option<Process>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub root: Option<Root>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub hooks: Option<Hooks>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub linux: Option<Linux>,
}

/// The container's root file system.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    #[serde(deserialize_with = "nullable")]
    pub path: PathBuf,
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub readonly: bool,
}

impl Spec {
    /// Parses `config.json`. A value of a wrong type is an error that names its place.
    pub fn parse(bytes: &[u8]) -> Result<Spec> {
        parse(bytes, "config.json")
    }

    /// `linux`, or its empty default where config.json has none.
    pub fn linux(&self) -> &Linux {
        static NONE: std::sync::LazyLock<Linux> = std::sync::LazyLock::new(Linux::default);
        self.linux.as_ref().unwrap_or(&NONE)
    }
}

/// The one error for all that is wrong in a document: whoever mends it sees every place at once, and
/// whoever reads only the last line of a log sees it, too.
pub fn invalid(document: &str, problems: &[Problem]) -> Error {
    let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    Error::new(Kind::InvalidSpec, format!("invalid {document}: {count}")).because(all.join("; "))
}

/// Parses a JSON document of this module's types; `what` names it in the error.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    // serde would take a list for an object's properties in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(
            Error::new(Kind::InvalidSpec, format!("cannot parse {what}")).because("it must be an object")
        );
    }
    serde_json::from_slice(bytes).map_err(|_| {
        // Only a failed parse is worth the slower parser that knows where it is.
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let failure = serde_path_to_error::deserialize::<_, T>(&mut json).err().map(|e| {
            let pointer = pointer(e.path());
            (e.into_inner(), pointer)
        });
        match failure {
            Some((cause, pointer)) if !cause.is_syntax() && !cause.is_eof() => {
                Error::new(Kind::InvalidSpec, format!("cannot parse {what}"))
                    .at_in(what, pointer)
                    .because(cause)
            }
            Some((cause, _)) => Error::new(Kind::InvalidSpec, format!("cannot parse {what}")).because(cause),
            None => Error::new(Kind::InvalidSpec, format!("cannot parse {what}: trailing data")),
        }
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => text += &format!("/{index}"),
            Segment::Map { key } => {
                text.push('/');
                text += &validate::escape(key);
            }
            Segment::Enum { variant } => text += &format!("/{variant}"),
            Segment::Unknown => {}
        }
    }
    text
}

/// Reads an object, or null as nothing. serde alone would take a list for its properties in their order.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error> {
    struct Object<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> std::result::Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> std::result::Result<Option<T>, A::Error> {
            T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Some)
        }
    }
    deserializer.deserialize_any(Object(std::marker::PhantomData))
}

/// Go's reader takes `null` for the zero value of any type.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_false(flag: &bool) -> bool {
    !flag
}
