//! What the methods take, from `schema.toml`: the only place where it is written. The reference for people is made of it, and a target tells it.

use std::fmt::Write;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// All methods.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Raised when what was there takes another meaning, or goes.
    pub version: u32,
    /// By name.
    #[serde(rename(deserialize = "method", serialize = "methods"))]
    pub methods: Vec<MethodSchema>,
}

/// One method.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MethodSchema {
    /// Its name.
    pub name: String,
    /// SPDK has none of this name.
    #[serde(default)]
    pub ours: bool,
    /// What it does: Markdown.
    pub about: String,
    /// What it takes.
    #[serde(default)]
    pub parameters: Vec<ParameterSchema>,
}

/// One parameter.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterSchema {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// It has to be there.
    #[serde(default)]
    pub required: bool,
    /// SPDK's method has none of this name.
    #[serde(default)]
    pub ours: bool,
    /// What it is: Markdown.
    pub about: String,
}

/// JSON's types.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A text.
    String,
    /// Whole, unless something else is said.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// Names and values.
    Object,
}

/// The schema. That it can be read is tested.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    toml::from_str(include_str!("schema.toml")).unwrap_or_else(|error| unreachable!("schema.toml: {error}"))
});

impl Schema {
    /// The names of a method's parameters.
    #[must_use]
    pub fn parameters(&self, method: &str) -> Vec<&str> {
        let method = self.methods.iter().find(|known| known.name == method);
        method.into_iter().flat_map(|method| &method.parameters).map(|parameter| parameter.name.as_str()).collect()
    }

    /// The reference, for people.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "# Methods of JSON-RPC\n\n\
             Made of `tools/src/rpc/schema.toml` (version {}), which a target tells as `rpc_get_schema`. How to ask, and what changes mean for hosts: [CONFIGURATION](CONFIGURATION.md#rpc).\n\n\
             Names, parameters and results are SPDK's where it has the method; *ours* is what it has not. A parameter in **bold** has to be given. Numbers are whole unless something else is said.\n",
            self.version
        );
        let mut group = "";
        for method in &self.methods {
            let own = method.name.split('_').next().unwrap_or_default();
            if own != group {
                group = own;
                // A text takes all that is written to it.
                let _ = write!(text, "\n## `{group}_…`\n");
            }
            method.write_markdown(&mut text);
        }
        text
    }
}

impl MethodSchema {
    fn write_markdown(&self, text: &mut String) {
        let ours = if self.ours { " *(ours)*" } else { "" };
        let _ = write!(text, "\n### `{}`{ours}\n\n{}\n", self.name, self.about);
        if self.parameters.is_empty() {
            return;
        }
        let _ = write!(text, "\n| parameter | type | what it is |\n|---|---|---|\n");
        for parameter in &self.parameters {
            let name =
                if parameter.required { format!("**`{}`**", parameter.name) } else { format!("`{}`", parameter.name) };
            let ours = if parameter.ours { " *(ours)*" } else { "" };
            let kind = format!("{:?}", parameter.kind).to_lowercase();
            let _ = writeln!(text, "| {name}{ours} | {kind} | {} |", parameter.about);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::rpc::methods::tests::{ask, names};

    #[test]
    fn every_method_is_there_and_no_other() {
        let described: Vec<&str> = SCHEMA.methods.iter().map(|method| method.name.as_str()).collect();
        assert_eq!(described, names());
    }

    /// Asked for nothing, and then for what was said to be missing: what is missing is what the schema says has to be given.
    #[test]
    fn what_has_to_be_given_is_what_is_missed() {
        for method in &SCHEMA.methods {
            let mut parameters = Map::new();
            let mut missed = Vec::new();
            for _ in 0..=method.parameters.len() {
                let Err(error) = ask(&method.name, Value::Object(parameters.clone())) else { break };
                let Some((before, _)) = error.message.split_once(" is missing, and should be ") else { break };
                let name = before.rsplit(' ').next().unwrap().to_owned();
                // One in an object that was given empty.
                let Some(parameter) = method.parameters.iter().find(|known| known.name == name) else { break };
                let value = match parameter.kind {
                    Kind::String => json!("x"),
                    Kind::Number => json!(1),
                    Kind::Boolean => json!(true),
                    Kind::Array => json!([]),
                    Kind::Object => json!({}),
                };
                parameters.insert(name.clone(), value);
                missed.push(name);
            }
            let is_required =
                |name: &String| method.parameters.iter().any(|known| known.required && known.name == *name);
            // One of a number that may be left out each.
            let excused = ["bdev_set_qos_limit"].contains(&method.name.as_str());
            assert!(excused || missed.iter().all(is_required), "{}: {missed:?} are missed", method.name);
            let any = method.parameters.iter().any(|known| known.required);
            assert_eq!(!missed.is_empty(), any || excused, "{}: {missed:?}", method.name);
        }
    }

    /// The reference in the repository is what is made of the schema.
    #[test]
    fn the_reference_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/RPC.md");
        let made = SCHEMA.to_markdown();
        if std::env::var_os("QUIESCE_UPDATE_DOCS").is_some() {
            fs::write(&path, &made).unwrap();
        }
        let is_same = fs::read_to_string(&path).is_ok_and(|written| written == made);
        assert!(is_same, "docs/RPC.md is not what schema.toml makes: QUIESCE_UPDATE_DOCS=1 cargo test -p tools schema");
    }
}
