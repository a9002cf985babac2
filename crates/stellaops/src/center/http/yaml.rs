use std::fmt::Write as _;

use serde_json::Value;

/// Writes a JSON value as YAML in block style. Texts are quoted as JSON quotes them, which YAML 1.2 reads the same way.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(members) if !members.is_empty() => block(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => block(&mut out, value, 0),
        scalar => drop(writeln!(out, "{scalar}")),
    }
    out
}

/// Writes the lines of an object or an array that is not empty.
fn block(out: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                out.push_str(&indent);
                out.push_str(&key(name));
                out.push(':');
                below(out, member, depth + 1);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&indent);
                out.push('-');
                below(out, item, depth + 1);
            }
        }
        _ => {}
    }
}

/// Writes what follows a key or a dash.
fn below(out: &mut String, value: &Value, depth: usize) {
    let is_empty = match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if is_empty {
        out.push(' ');
        out.push_str(&value.to_string());
        out.push('\n');
    } else {
        out.push('\n');
        block(out, value, depth);
    }
}

/// Quotes a key unless it is a word that YAML cannot take for anything else.
fn key(name: &str) -> String {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic() || "/$".contains(c))
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/$_-.{}".contains(c));
    let means_else = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if is_word && !means_else.contains(&&*name.to_ascii_lowercase()) {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reader_of_yaml_reads_the_same_document() {
        let document = json!({
            "empty": {}, "none": [], "200": "a: b # c", "on": null, "yes": true, "/v1/{id}:cancel": "x",
            "list": [1, "two\nlines \"quoted\" \u{e9}", [[]], {"a": {"b": [{}]}}], "": -1.5, "$ref": "#/c",
        });
        let text = yaml(&document);
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, document, "{text}");
        for scalar in [json!("x"), json!({}), json!([])] {
            let read: Value = serde_saphyr::from_str(&yaml(&scalar)).unwrap();
            assert_eq!(read, scalar);
        }
    }
}
