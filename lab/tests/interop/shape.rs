//! Whether a JSON answer has the shape that scripts parse: the same keys with values of the same types.

use serde_json::Value;

/// What is missing or of another type in `actual`; more keys than wanted are no harm.
pub fn differences(wanted: &Value, actual: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", wanted, actual, &mut found);
    found
}

fn compare(place: &str, wanted: &Value, actual: &Value, found: &mut Vec<String>) {
    match (wanted, actual) {
        (Value::Object(wanted), Value::Object(actual)) => {
            for (key, value) in wanted {
                match actual.get(key) {
                    Some(other) => compare(&format!("{place}.{key}"), value, other, found),
                    None => found.push(format!("{place}.{key} is missing")),
                }
            }
        }
        // The elements of a list are alike; one of each tells.
        (Value::Array(wanted), Value::Array(actual)) => {
            if let (Some(wanted), Some(actual)) = (wanted.first(), actual.first()) {
                compare(&format!("{place}[0]"), wanted, actual, found);
            }
        }
        // An empty list is written as null by some.
        (Value::Null, Value::Array(_)) | (Value::Array(_), Value::Null) => {}
        _ if kind(wanted) == kind(actual) => {}
        _ => found.push(format!("{place} is {} instead of {}", kind(actual), kind(wanted))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[test]
fn what_scripts_would_miss_is_found() {
    let wanted = serde_json::json!({ "a": 1, "b": [{ "c": "x" }], "d": null });
    let good = serde_json::json!({ "a": 2.5, "b": [], "d": null, "more": true });
    assert_eq!(differences(&wanted, &good), Vec::<String>::new());
    let bad = serde_json::json!({ "a": "1", "b": [{}] });
    assert_eq!(differences(&wanted, &bad), [".a is a text instead of a number", ".b[0].c is missing", ".d is missing"]);
}
