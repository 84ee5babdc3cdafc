//! JSON Schema generated from the same types, for editors and for `countersign schema`.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::resource::{
    API_VERSION, AccessPolicySpec, CredentialSpec, GatewaySpec, Kind, Metadata, TargetServiceSpec,
    WorkloadSpec,
};

/// The schema of one kind (JSON Schema 2020-12).
pub fn kind(kind: Kind) -> Value {
    let mut generator = generator();
    let resource = resource(kind, &mut generator);
    document(resource, &mut generator, kind.name())
}

/// One schema for a document of any kind.
pub fn all() -> Value {
    let mut generator = generator();
    let kinds: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| Value::Object(resource(kind, &mut generator)))
        .collect();
    let mut any = Map::new();
    any.insert("oneOf".to_owned(), Value::Array(kinds));
    document(any, &mut generator, "Countersign resource")
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

fn document(body: Map<String, Value>, generator: &mut SchemaGenerator, title: &str) -> Value {
    let mut document = Map::new();
    document.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    document.insert("title".to_owned(), json!(title));
    document.extend(body);
    let definitions = generator.take_definitions(true);
    document.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(document)
}

fn resource(kind: Kind, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let spec = match kind {
        Kind::Workload => of::<WorkloadSpec>(generator),
        Kind::TargetService => of::<TargetServiceSpec>(generator),
        Kind::Credential => of::<CredentialSpec>(generator),
        Kind::AccessPolicy => of::<AccessPolicySpec>(generator),
        Kind::Gateway => of::<GatewaySpec>(generator),
    };
    let metadata = of::<Metadata>(generator);
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert(
        "properties".to_owned(),
        json!({
            "apiVersion": { "const": API_VERSION },
            "kind": { "const": kind.name() },
            "metadata": metadata,
            "spec": spec,
            // The controllers' of a cluster; not used here.
            "status": true,
        }),
    );
    schema.insert(
        "required".to_owned(),
        json!(["apiVersion", "kind", "metadata", "spec"]),
    );
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_refuses_unknown_keys_and_names_itself() {
        for each in Kind::ALL {
            let schema = kind(each);
            assert_eq!(schema["properties"]["kind"]["const"], each.name());
            assert_eq!(schema["additionalProperties"], false);
            let spec = schema["properties"]["spec"]["$ref"].as_str().unwrap();
            let spec = &schema["$defs"][spec.trim_start_matches("#/$defs/")];
            assert_eq!(spec["additionalProperties"], false, "{each}");
        }
    }

    #[test]
    fn every_reference_is_defined() {
        fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        found.push(reference);
                    }
                    members.values().for_each(|v| references(v, found));
                }
                Value::Array(items) => items.iter().for_each(|v| references(v, found)),
                _ => {}
            }
        }
        for schema in Kind::ALL.into_iter().map(kind).chain([all()]) {
            let mut found = Vec::new();
            references(&schema, &mut found);
            assert!(!found.is_empty());
            for reference in found {
                let name = reference.strip_prefix("#/$defs/").unwrap();
                assert!(schema["$defs"].get(name).is_some(), "{reference}");
            }
        }
    }
}
