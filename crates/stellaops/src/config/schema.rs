//! The JSON Schema of the configuration.

use serde_json::{Map, Value, json};

use super::key::{Form, Key, Presence, Section};
use super::keys::CONFIG;

/// Returns the JSON Schema of the whole configuration.
pub(crate) fn schema() -> Value {
    let mut schema = section(&CONFIG);
    if let Some(members) = schema.as_object_mut() {
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        members.insert("$schema".into(), dialect.into());
        members.insert("title".into(), "Configuration of stellaops".into());
    }
    schema
}

fn section(section: &Section) -> Value {
    let mut properties = Map::new();
    let mut dependent = Map::new();
    let mut required = Vec::new();
    for key in section.keys {
        properties.insert(key.name.into(), property(key));
        if key.presence == Presence::Required {
            required.push(key.name);
        }
        if !key.with.is_empty() {
            dependent.insert(key.name.into(), json!({ "anyOf": each(key.with) }));
        }
    }
    let mut schema = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !dependent.is_empty() {
        schema["dependentSchemas"] = dependent.into();
    }
    if !section.one_of.is_empty() {
        schema["oneOf"] = each(section.one_of);
    }
    schema
}

/// Returns a schema for each key that demands it.
fn each(keys: &[&str]) -> Value {
    keys.iter()
        .map(|key| json!({ "required": [key] }))
        .collect()
}

fn property(key: &Key) -> Value {
    let mut schema = form(&key.form);
    let mut about = key.about.to_owned();
    if !key.unit.is_empty() {
        about.push_str(&format!(" Unit: {}.", key.unit));
    }
    match key.presence {
        Presence::Required => {}
        Presence::Default(yaml) => schema["default"] = value(yaml),
        Presence::Otherwise(words) => about.push_str(&format!(" Without it: {words}.")),
    }
    schema["description"] = about.into();
    if !key.example.is_empty() {
        schema["examples"] = json!([value(key.example)]);
    }
    schema
}

fn form(form: &Form) -> Value {
    match form {
        Form::Section(keys) => section(keys),
        Form::Named(name, keys) => json!({
            "type": "object",
            "propertyNames": { "description": name },
            "additionalProperties": section(keys),
        }),
        Form::List(least, item) => {
            json!({ "type": "array", "minItems": least, "items": self::form(item) })
        }
        Form::Boolean => json!({ "type": "boolean" }),
        Form::Integer(least, most) => {
            let mut schema = json!({ "type": "integer", "minimum": least });
            if let Some(most) = most {
                schema["maximum"] = json!(most);
            }
            schema
        }
        Form::Number => json!({ "type": "number", "exclusiveMinimum": 0 }),
        Form::Bytes => json!({
            "type": ["integer", "string"],
            "minimum": 1000,
            "pattern": "^[0-9]+ *([kKmMgG]?[bB]|[kKmMgG][iI][bB])?$",
        }),
        Form::Word(words) => json!({ "type": "string", "enum": words }),
        Form::Text(_, None) | Form::Path => json!({ "type": "string", "minLength": 1 }),
        Form::Text(_, Some(pattern)) => json!({ "type": "string", "pattern": pattern }),
        Form::Secret => json!({ "type": "string", "pattern": "^(env|file):." }),
        Form::SecretKey => {
            json!({ "type": "string", "minLength": 1, "pattern": "^(?!(env|file):$)" })
        }
    }
}

/// Returns a value of the table, which is YAML.
fn value(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|_| yaml.into())
}

#[cfg(test)]
mod tests;
