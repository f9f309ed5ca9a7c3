//! Checks a value against a JSON schema. It knows the parts of that language that `schema.json`
//! uses, and panics at anything else.

use serde_json::Value;

pub(crate) const TEXT: &str = include_str!("../schema.json");

/// What is wrong with `value`, each as `where: which keyword`.
pub(crate) fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(schema, value, "", &mut faults);
    faults
}

fn check(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let known = schema["properties"].as_object();
    let keywords = schema.as_object().expect("a schema is an object");
    if let Some(types) = keywords.get("type") {
        let types = types.as_array().map_or(std::slice::from_ref(types), Vec::as_slice);
        if !types.iter().any(|name| has_type(value, name)) {
            // What the schema says about a value of its type no longer matters.
            return faults.push(format!("{at}: type"));
        }
    }
    let mut fault = |at: String, keyword: &str| faults.push(format!("{at}: {keyword}"));
    for (keyword, says) in keywords {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "type" | "properties" | "items" => {}
            "enum" => {
                if !says.as_array().expect("a list").contains(value) {
                    fault(at.to_owned(), keyword);
                }
            }
            "minimum" => {
                if value.as_f64() < says.as_f64() {
                    fault(at.to_owned(), keyword);
                }
            }
            "required" => {
                for name in says.as_array().expect("a list").iter().filter_map(Value::as_str) {
                    if value.get(name).is_none() {
                        fault(format!("{at}/{name}"), keyword);
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(says, false, "nothing else is used");
                for name in value.as_object().into_iter().flatten().map(|(name, _)| name) {
                    if known.is_none_or(|known| !known.contains_key(name)) {
                        fault(format!("{at}/{name}"), keyword);
                    }
                }
            }
            unknown => panic!("the keyword {unknown} is not known here"),
        }
    }
    for (name, schema) in known.into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(schema, value, &format!("{at}/{name}"), faults);
        }
    }
    if let (Some(schema), Some(items)) = (schema.get("items"), value.as_array()) {
        for (index, value) in items.iter().enumerate() {
            check(schema, value, &format!("{at}/{index}"), faults);
        }
    }
}

fn has_type(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        unknown => panic!("the type {unknown} is not known here"),
    }
}
