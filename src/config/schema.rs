//! The keys for machines and for people: a JSON schema, and tables for the documentation.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::keys::{ADDRESS, FILE, Key, Kind, Need, ROUTER, TABLES, Table};

/// The JSON schema (draft 7) of the file, for editors.
pub fn schema() -> String {
    let mut root = table(&FILE);
    if let Value::Object(map) = &mut root {
        map.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        map.insert("title".to_owned(), json!("vipd.toml"));
    }
    format!("{root:#}\n")
}

fn table(table: &Table) -> Value {
    let required: Vec<_> =
        table.keys.iter().filter(|k| matches!(k.need, Need::Required)).map(|k| k.name).collect();
    let properties: Map<_, _> =
        table.keys.iter().map(|k| (k.name.to_owned(), property(k))).collect();
    json!({
        "type": "object",
        "description": table.doc,
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn property(key: &Key) -> Value {
    let mut value = kind(&key.kind);
    if let Value::Object(map) = &mut value {
        let doc = match key.need {
            Need::Required => format!("{} Required.", key.doc),
            Need::Optional(without) => format!("{} Default: {without}.", key.doc),
            Need::Default(default) => {
                if let Some(default) = as_json(default) {
                    map.insert("default".to_owned(), default);
                }
                key.doc.to_owned()
            }
        };
        map.insert("description".to_owned(), json!(doc));
    }
    value
}

fn as_json(default: &str) -> Option<Value> {
    let table: toml::Table = toml::from_str(&format!("v = {default}")).ok()?;
    serde_json::to_value(table.get("v")?).ok()
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text(form) => match form.pattern {
            Some(pattern) => json!({ "type": "string", "pattern": pattern }),
            None => json!({ "type": "string" }),
        },
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Int { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Time { never, .. } => {
            let pattern = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$";
            let pattern = if *never { format!("{pattern}|^never$") } else { pattern.to_owned() };
            json!({ "type": "string", "pattern": pattern })
        }
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::List { of, min, max } => {
            json!({ "type": "array", "items": self::kind(of), "minItems": min, "maxItems": max })
        }
        Kind::Either(form, t) => {
            json!({ "anyOf": [self::kind(&Kind::Text(form)), table(t)] })
        }
        Kind::Map { of, .. } => {
            json!({ "type": "object", "additionalProperties": self::kind(of) })
        }
        Kind::Table(t) => table(t),
        Kind::Devices { of, max } => {
            let mut one = table(of);
            if let Value::Object(map) = &mut one {
                let value = json!({ "type": ["string", "integer", "boolean"] });
                map.insert("additionalProperties".to_owned(), value);
            }
            json!({ "anyOf": [one.clone(), { "type": "array", "items": one, "maxItems": max }] })
        }
        Kind::Tables { of, max } => {
            json!({ "type": "array", "items": table(of), "maxItems": max })
        }
    }
}

/// Every key with its default and meaning, as Markdown tables.
pub fn reference() -> String {
    let mut out = String::new();
    for t in TABLES {
        let title = if std::ptr::eq(t, &raw const ADDRESS) || std::ptr::eq(t, &raw const ROUTER) {
            t.header.to_owned()
        } else {
            format!("`{}`", t.header)
        };
        let _ =
            write!(out, "### {title}\n\n{}\n\n| key | default | meaning |\n|---|---|---|\n", t.doc);
        for key in t.keys {
            let default = match key.need {
                Need::Required => "required".to_owned(),
                Need::Optional(without) => without.to_owned(),
                Need::Default(default) => format!("`{default}`"),
            };
            let _ = writeln!(out, "| `{}` | {default} | {} |", key.name, key.doc);
        }
        out.push('\n');
    }
    out
}
