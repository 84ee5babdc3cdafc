use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn definition(spec: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "things.example.com" },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "kind": "Thing", "plural": "things", "singular": "thing" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": { "type": "object", "properties": { "spec": spec } },
            }}],
        },
    })
}

#[rstest]
#[case::reference(json!({"$ref": "#/a"}), "`$ref` is forbidden")]
#[case::no_type(json!({"description": "a"}), "no type")]
#[case::null(json!({"type": "null"}), "no type `null`")]
#[case::unique(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}), "`uniqueItems`")]
#[case::closed(json!({"type": "object", "additionalProperties": false}), "is a schema")]
#[case::both(
    json!({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}),
    "exclude each other"
)]
#[case::list(json!({"type": "array"}), "one schema for its items")]
#[case::within(json!({"type": "object", "oneOf": [{"type": "object"}]}), "`type` is forbidden in a junctor")]
#[case::outside(json!({"type": "object", "oneOf": [{"properties": {"a": {}}}]}), "`a` is not described")]
#[case::format(json!({"type": "integer", "format": "uint16"}), "`uint16` means nothing")]
#[case::default(json!({"type": "string", "default": "a"}), "would change")]
#[case::preserved(
    json!({"type": "string", "x-kubernetes-preserve-unknown-fields": true}),
    "only an object"
)]
#[case::constant(json!({"type": "string", "const": "a"}), "`const` is forbidden")]
#[case::unknown_field(
    json!({"type": "object", "x-kubernetes-validations": [{"rule": "has(self.a)", "message": "a"}]}),
    "no field `a`"
)]
#[case::costly(
    json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "has(self.a)", "message": "a"}]}}),
    "runs 1572864 times"
)]
fn what_the_api_server_refuses_is_found(#[case] spec: Value, #[case] expected: &str) {
    let found = problems(&definition(&spec)).join("\n");
    assert!(found.contains(expected), "{found}");
}

#[test]
fn a_structural_definition_has_no_problems() {
    let spec = json!({
        "type": "object",
        "properties": {
            "any": { "x-kubernetes-preserve-unknown-fields": true },
            "map": { "type": "object", "additionalProperties": { "type": "string" } },
            "list": { "type": "array", "maxItems": 3, "items": {
                "type": "object",
                "properties": { "a": { "type": "string" } },
                "x-kubernetes-validations": [{ "rule": "has(self.a)", "message": "a" }],
            }},
        },
        "oneOf": [{ "required": ["any"] }, { "required": ["map"] }],
    });
    assert_eq!(problems(&definition(&spec)), Vec::<String>::new());
}

#[test]
fn unknown_keys_are_removed_unless_they_are_preserved() {
    let strict = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
    let mut kept = strict.clone();
    kept["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let written = json!({ "a": "1", "b": 2 });
    let mut object = written.clone();
    assert_eq!(admit(&strict, &mut object), Ok(()));
    assert_eq!(object, json!({ "a": "1" }));
    let mut object = written.clone();
    assert_eq!(admit(&kept, &mut object), Ok(()));
    assert_eq!(object, written);
    assert!(admit(&kept, &mut json!({ "a": 1 })).is_err());
}
