//! The custom resource definitions: that a real API server takes them, that they are those in `deploy/crds`, and
//! that they accept what the reader accepts.

use std::{collections::BTreeMap, fs, process::Command};

use countersign_config::resource::Kind;
use countersign_controller::crd;
use countersign_tests::{process, structural};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::tests_directory;

fn schema(kind: Kind) -> Value {
    let definition = crd::definition(kind).expect("a definition");
    structural::schema(&definition).clone()
}

#[test]
fn a_real_api_server_would_take_every_definition() {
    for definition in crd::all() {
        let name = definition["metadata"]["name"].clone();
        assert_eq!(
            structural::problems(&definition),
            Vec::<String>::new(),
            "{name}"
        );
        // The types of the API have a place for all of it.
        let typed: CustomResourceDefinition =
            serde_json::from_value(definition.clone()).expect("it is a definition");
        let mut written = serde_json::to_value(&typed).expect("it is written");
        let mut definition = definition;
        floats(&mut written);
        floats(&mut definition);
        assert!(written == definition, "{name} loses something");
    }
}

/// Bounds are floats in the API's types.
fn floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Array(items) => items.iter_mut().for_each(floats),
        Value::Object(members) => members.values_mut().for_each(floats),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn deploy_holds_what_schema_prints() {
    let directory = tests_directory().join("../deploy/crds");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&directory).expect("deploy/crds") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name").to_owned();
        files.insert(
            name.into_string().expect("a plain name"),
            fs::read_to_string(path).expect("text"),
        );
    }
    for kind in crd::KINDS {
        let plural = crd::names(kind).expect("names").plural;
        let file = files.remove(&format!("{plural}.yaml"));
        let printed = schema_command(&[kind.name(), "--crds"]);
        assert!(
            file.as_deref() == Some(&*printed),
            "write `countersign schema {kind} --crds` to deploy/crds/{plural}.yaml"
        );
    }
    assert!(files.is_empty(), "{files:?}");
    let all = schema_command(&["--crds"]);
    assert_eq!(all.matches("kind: CustomResourceDefinition").count(), 4);
}

fn schema_command(arguments: &[&str]) -> String {
    let output = Command::new(process::binary().expect("it is built"))
        .arg("schema")
        .args(arguments)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Every document of ours is taken as it is written.
#[rstest]
#[case::dashboard("examples/nightly-dashboard/policy")]
#[case::catalog("config/src/catalog")]
fn what_the_reader_accepts_the_api_server_accepts(#[case] directory: &str) {
    let directory = tests_directory().join("..").join(directory);
    let mut documents = 0;
    for entry in fs::read_dir(directory).expect("a directory") {
        let text = fs::read_to_string(entry.expect("a file").path()).expect("text");
        let read: Vec<Value> = serde_saphyr::from_multiple(&text).expect("it is YAML");
        for document in read.into_iter().filter(Value::is_object) {
            let kind = document["kind"].as_str().and_then(Kind::parse);
            let mut admitted = document.clone();
            assert_eq!(
                structural::admit(&schema(kind.expect("a kind")), &mut admitted),
                Ok(())
            );
            assert_eq!(admitted, document, "nothing is removed");
            documents += 1;
        }
    }
    assert!(documents > 0);
}

#[test]
fn a_misspelt_key_is_kept_for_the_reader() {
    let mut policy = json!({
        "spec": {
            "owner": "a", "workloads": ["a"], "target": "slack",
            "allow": [{ "method": ["GET"] }],
            "conditions": { "notAftre": "2027-06-30T00:00:00Z" },
        },
        "staus": {},
    });
    let written = policy.clone();
    assert_eq!(
        structural::admit(&schema(Kind::AccessPolicy), &mut policy),
        Ok(())
    );
    assert_eq!(policy, written);
}

#[rstest]
#[case::no_owner(Kind::Workload, json!({"match": [{}]}), ".spec.owner: Required")]
#[case::empty_owner(Kind::Workload, json!({"owner": "", "match": [{}]}), ".spec.owner: it has 0")]
#[case::no_match(Kind::Workload, json!({"owner": "a", "match": []}), "0 Items")]
#[case::type_of_list(Kind::Workload, json!({"owner": "a", "match": {}}), "must be of type array")]
#[case::mode(
    Kind::AccessPolicy,
    json!({"owner": "a", "workloads": ["a"], "target": "a", "allow": [{}], "mode": "audit"}),
    "supported values"
)]
#[case::port(Kind::TargetService, json!({"ports": [70000]}), "out of range")]
#[case::status(Kind::TargetService, json!({"refusal": {"status": "200", "body": {}}}), "type integer")]
fn the_api_server_refuses_what_has_the_wrong_form(
    #[case] kind: Kind,
    #[case] spec: Value,
    #[case] expected: &str,
) {
    let found = structural::admit(&schema(kind), &mut json!({ "spec": spec })).unwrap_err();
    assert!(found.join("\n").contains(expected), "{found:?}");
}

/// Each rule in CEL, by a value at which it is false, and one at which it is true.
#[rstest]
#[case(Kind::Workload, &["match", "[]"], json!({"cronJob": "a"}), json!({"serviceAccount": "a"}))]
#[case(Kind::AccessPolicy, &[], json!({"credential": "a", "credentials": {}}), json!({"credential": "a"}))]
#[case(Kind::Credential, &[], json!({"static": {}, "basic": {}}), json!({"jwt": {}}))]
#[case(Kind::Credential, &[], json!({}), json!({"static": {}}))]
#[case(Kind::Credential, &["static", "token"], json!({"file": "a", "vault": {}}), json!({"file": "a"}))]
#[case(Kind::Credential, &["slackRotation"], json!({}), json!({"refreshToken": {}}))]
#[case(Kind::Credential, &["jwt"], json!({"grant": {}, "installation": {}}), json!({"grant": {}}))]
#[case(
    Kind::Credential,
    &["oauth2ClientCredentials", "client"],
    json!({"secret": {}, "key": {}}),
    json!({"secret": {}})
)]
#[case(Kind::TargetService, &[], json!({"hosts": []}), json!({"hosts": ["a"]}))]
#[case(Kind::TargetService, &[], json!({"hosts": ["a"], "domains": {}}), json!({"extends": "a", "domains": {}}))]
#[case(Kind::TargetService, &["routes", "[]"], json!({"deny": "a", "attach": {}}), json!({"deny": "a"}))]
#[case(Kind::TargetService, &["routes", "[]", "attach"], json!({"path": "a", "value": "b"}), json!({"path": "a"}))]
#[case(Kind::TargetService, &["probe"], json!({"url": "a", "path": "b"}), json!({"path": "b"}))]
fn rules_are_false_for_what_the_reader_refuses(
    #[case] kind: Kind,
    #[case] path: &[&str],
    #[case] wrong: Value,
    #[case] right: Value,
) {
    let whole = schema(kind);
    let spec = &whole["properties"]["spec"];
    let at = path.iter().fold(spec, |schema, step| match *step {
        "[]" => &schema["items"],
        key => &schema["properties"][key],
    });
    let rules = at["x-kubernetes-validations"].as_array().expect("rules");
    let all_hold = |value: &Value| {
        rules.iter().all(|rule| {
            let rule = rule["rule"].as_str().expect("a text");
            let rule = cel::parser::PrattParser::new()
                .parse(rule)
                .expect("it is CEL");
            let mut context = cel::Context::default();
            context.add_variable("self", value).expect("a value");
            let held = cel::Value::resolve(&rule, &context).expect("it runs");
            held == cel::Value::Bool(true)
        })
    };
    assert!(!all_hold(&wrong), "{wrong}");
    assert!(all_hold(&right), "{right}");
}
