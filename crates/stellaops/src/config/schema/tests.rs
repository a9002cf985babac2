use std::collections::BTreeMap;

use serde::Deserialize as _;

use super::*;
use crate::config::Config;
use crate::config::trace::{Step, Traced, trace};

/// Returns the keys of the table with how they are written, by path: `*` is a name, `[]` an item.
fn documented() -> BTreeMap<Vec<Step>, Form> {
    fn of_form(at: Vec<Step>, form: &Form, found: &mut BTreeMap<Vec<Step>, Form>) {
        found.insert(at.clone(), *form);
        let below = |step: Step| at.iter().cloned().chain([step]).collect::<Vec<_>>();
        match form {
            Form::Section(section) => {
                for key in section.keys {
                    of_form(below(Step::Key(key.name)), &key.form, found);
                }
            }
            Form::Named(_, section) => of_form(below(Step::Name), &Form::Section(section), found),
            Form::List(_, item) => of_form(below(Step::Item), item, found),
            _ => {}
        }
    }
    let mut found = BTreeMap::new();
    of_form(Vec::new(), &Form::Section(&CONFIG), &mut found);
    found
}

#[test]
fn every_key_of_the_parser_is_in_the_schema_and_the_other_way_round() {
    let documented = documented();
    let accepted = trace(|deserializer| Config::deserialize(deserializer).map(drop));
    let shown = |path: &[Step]| {
        let steps: Vec<_> = path.iter().map(ToString::to_string).collect();
        steps.join(".")
    };
    for (path, traced) in &accepted {
        let path_shown = shown(path);
        let form = documented
            .get(path)
            .unwrap_or_else(|| panic!("{path_shown} is accepted and not in the schema"));
        let fits = match (traced, form) {
            (Traced::Section, Form::Section(_))
            | (Traced::Named, Form::Named(..))
            | (Traced::List, Form::List(..))
            | (Traced::Boolean, Form::Boolean)
            | (Traced::Integer, Form::Integer(..)) => true,
            (Traced::Word(accepted), Form::Word(words)) => accepted == words,
            (Traced::Text, form) => !matches!(
                form,
                Form::Section(_)
                    | Form::Named(..)
                    | Form::List(..)
                    | Form::Boolean
                    | Form::Integer(..)
            ),
            _ => false,
        };
        assert!(fits, "{path_shown} is {traced:?} and described as {form:?}");
    }
    for path in documented.keys() {
        let path_shown = shown(path);
        assert!(
            accepted.contains_key(path),
            "{path_shown} is in the schema and not accepted"
        );
    }
    assert!(accepted.len() > 70, "{}", accepted.len());
}

/// A section with the keys that are required, and one more with those that it goes with.
fn example(section: &Section, more: Option<(&Key, Value)>) -> Value {
    let mut members = Map::new();
    let with = more.as_ref().map_or([].as_slice(), |(key, _)| key.with);
    let own = more.as_ref().map(|(key, _)| key.name);
    let chosen = section.one_of.iter().find(|name| with.contains(name));
    let chosen = match own {
        Some(own) if section.one_of.contains(&own) => None,
        _ => chosen.or(section.one_of.first()),
    };
    for key in section.keys {
        let needed = key.presence == Presence::Required
            || chosen == Some(&key.name)
            || (section.one_of.is_empty() && with.contains(&key.name));
        if needed && own != Some(key.name) {
            members.insert(key.name.into(), example_of(&key.form, key.example));
        }
    }
    if let Some((key, value)) = more {
        members.insert(key.name.into(), value);
    }
    members.into()
}

fn example_of(form: &Form, yaml: &str) -> Value {
    match form {
        _ if !yaml.is_empty() => value(yaml),
        Form::Section(section) => example(section, None),
        Form::Named(_, section) => json!({ "localhost": example(section, None) }),
        Form::List(_, item) => json!([example_of(item, "")]),
        _ => panic!("{form:?} has no example"),
    }
}

/// Parses the configuration around a key with a value for it, or without the key.
type Parsed<'a> = dyn Fn(Option<Value>) -> Config + 'a;

/// Calls for each key with its value at its place in the whole configuration, so that everything that is required is there.
fn with_each(mut each: impl FnMut(&Key, &Parsed<'_>)) {
    fn of_section(
        section: &'static Section,
        around: &dyn Fn(Value) -> Value,
        each: &mut dyn FnMut(&Key, &Parsed<'_>),
    ) {
        for key in section.keys {
            let parsed = |value: Option<Value>| {
                let own = value.map(|value| (key, value));
                let document = around(example(section, own)).to_string();
                Config::parse(&document, "c.yaml")
                    .unwrap_or_else(|error| panic!("{}: {error}\n{document}", key.name))
            };
            each(key, &parsed);
            let inside = |value| around(example(section, Some((key, value))));
            match key.form {
                Form::Section(below) => of_section(below, &inside, each),
                Form::Named(_, below) => {
                    of_section(below, &|value| inside(json!({ "localhost": value })), each);
                }
                Form::List(_, Form::Section(below)) => {
                    of_section(below, &|value| inside(json!([value])), each);
                }
                _ => {}
            }
        }
    }
    of_section(&CONFIG, &|value| value, &mut each);
}

#[test]
fn every_example_is_accepted_and_every_default_is_what_holds_without_the_key() {
    let mut keys = 0;
    with_each(|key, parsed| {
        keys += 1;
        let example = parsed(Some(example_of(&key.form, key.example)));
        let without = || format!("{:?}", parsed(None));
        match key.presence {
            Presence::Default(yaml) => {
                let given = format!("{:?}", parsed(Some(value(yaml))));
                assert_eq!(given, without(), "{}", key.name);
            }
            Presence::Required => {}
            // A Boolean that is absent may be known as absent.
            Presence::Otherwise(_) => drop(example),
        }
    });
    assert!(keys > 60, "{keys}");
}

#[test]
fn the_schema_is_closed_and_says_what_goes_together() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    let job = &schema["properties"]["jobs"]["additionalProperties"];
    assert_eq!(job["required"], json!(["images", "to"]));
    let to = &job["properties"]["to"];
    assert_eq!(
        to["oneOf"],
        json!([{"required": ["registry"]}, {"required": ["oci"]}, {"required": ["bundle"]}])
    );
    assert_eq!(
        to["dependentSchemas"]["keep"],
        json!({"anyOf": [{"required": ["bundle"]}]})
    );
    let seconds = &schema["properties"]["export"]["properties"]["referrer_discovery"]["properties"]
        ["timeout_seconds"];
    assert_eq!(seconds["default"], 120);
    assert!(
        seconds["description"]
            .as_str()
            .unwrap()
            .contains("Unit: seconds")
    );
}
