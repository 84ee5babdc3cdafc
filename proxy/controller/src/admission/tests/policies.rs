//! The policy beside the function: what its expressions add to pods, and what they refuse. Evaluated by the `cel`
//! crate, which checks no types; a real API server does (tests/e2e/kubernetes, with `KUBEBUILDER_ASSETS`).

use std::{collections::HashMap, sync::Arc};

use cel::{
    Context, Env, Value as Cel, extensions,
    objects::{Key, Map},
    parser::PrattParser,
};
use serde_json::{Map as Object, Value, json};

use super::{Injection, NamespaceFacts, changed, injected, names, namespace, pod, settings};
use crate::admission::{policy, policy::parts_for_tests};

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Cel::Float(number.as_f64().unwrap()), Cel::Int),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(entries) => {
            // The API server has no null: what is null is not there.
            let present = entries.iter().filter(|(_, value)| !value.is_null());
            let map: HashMap<_, _> = present
                .map(|(key, value)| (Key::String(Arc::new(key.clone())), to_cel(value)))
                .collect();
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

fn to_json(value: &Cel) -> Value {
    match value {
        Cel::Bool(value) => json!(value),
        Cel::Int(number) => json!(number),
        Cel::UInt(number) => json!(number),
        Cel::String(text) => json!(**text),
        Cel::List(items) => items.iter().map(to_json).collect(),
        Cel::Map(map) => {
            let entries = map.map.iter().map(|(key, value)| match key {
                Key::String(key) => ((**key).clone(), to_json(value)),
                other => panic!("{other:?} is no key of JSON"),
            });
            Value::Object(entries.collect::<Object<_, _>>())
        }
        other => panic!("{other:?} is no JSON"),
    }
}

struct Machine(HashMap<String, Cel>, HashMap<String, Cel>, Arc<Env>);

impl Machine {
    fn new(
        pod: &Value,
        namespace: &NamespaceFacts,
        variables: Vec<(&'static str, String)>,
    ) -> Self {
        let mut env = Env::stdlib();
        env.add_extension(extensions::strings)
            .expect("they are new");
        let facts =
            json!({"metadata": {"labels": namespace.labels, "annotations": namespace.annotations}});
        let globals = [
            ("object", to_cel(pod)),
            ("namespaceObject", to_cel(&facts)),
            ("request", to_cel(&json!({"operation": "CREATE"}))),
        ];
        let globals = globals.map(|(name, value)| (name.to_owned(), value)).into();
        let mut machine = Self(globals, HashMap::new(), Arc::new(env));
        for (name, expression) in variables {
            let value = machine.value(&expression);
            machine.1.insert(name.to_owned(), value);
        }
        machine
    }

    #[track_caller]
    fn value(&self, expression: &str) -> Cel {
        let parser = PrattParser::new()
            .max_recursion_depth(200)
            .max_expression_node_count(200_000);
        let parsed = parser
            .parse(expression)
            .unwrap_or_else(|errors| panic!("{errors}: {expression}"));
        let mut context = Context::with_env(Arc::clone(&self.2));
        for (name, value) in &self.0 {
            context.add_variable_from_value(name.clone(), value.clone());
        }
        let variables = self
            .1
            .iter()
            .map(|(name, value)| (Key::String(Arc::new(name.clone())), value.clone()));
        context.add_variable_from_value(
            "variables",
            Cel::Map(Map {
                map: Arc::new(variables.collect()),
            }),
        );
        Cel::resolve(&parsed, &context).unwrap_or_else(|error| panic!("{error}: {expression}"))
    }
}

/// Applies `add` operations as RFC 6902 has them: into lists they insert.
fn apply(pod: &mut Value, patch: &Value) {
    for operation in patch.as_array().expect("it is a list") {
        let path = operation["path"].as_str().expect("it has a path");
        let (parent, key) = path.rsplit_once('/').expect("it has a parent");
        let key = key.replace("~1", "/");
        let parent = pod
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("{parent} is not there"));
        let value = operation["value"].clone();
        match parent {
            Value::Array(list) => list.insert(key.parse().expect("it is an index"), value),
            other => other[key] = value,
        }
    }
}

fn by_policy(pod: &Value, namespace: &NamespaceFacts) -> Value {
    let (variables, expression) = parts_for_tests::mutation(&settings());
    let machine = Machine::new(pod, namespace, variables);
    let mut after = pod.clone();
    apply(&mut after, &to_json(&machine.value(&expression)));
    after
}

/// The codes of what refuses a pod.
fn refused_by_policy(pod: &Value, namespace: &NamespaceFacts) -> Vec<String> {
    let (variables, validations) = parts_for_tests::validation(&settings());
    let machine = Machine::new(pod, namespace, variables);
    let failed = validations
        .iter()
        .filter(|it| machine.value(it["expression"].as_str().unwrap()) == Cel::Bool(false));
    let code = |it: &Value| {
        it["message"]
            .as_str()
            .unwrap()
            .rsplit_once(" (")
            .unwrap()
            .1
            .trim_end_matches(')')
            .to_owned()
    };
    failed.map(code).collect()
}

/// Pods of many kinds.
fn table() -> Vec<Value> {
    let own = json!([
        {"name": "HTTPS_PROXY", "value": "http://proxy.corp:8080"},
        {"name": "NO_PROXY", "value": "db.corp, localhost"},
        {"name": "no_proxy", "valueFrom": {"configMapKeyRef": {"name": "corp", "key": "noProxy"}}},
        {"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx1g"},
        {"name": "MINE", "value": "it's \\ 1"},
        {"name": "SLACK_BOT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "slack", "key": "token"}}},
    ]);
    let dummies = json!({names::DUMMY_ENV: "SLACK_BOT_TOKEN, QASE_TOKEN,slack_app_token,SLACK_USER_TOKEN,OTHER"});
    let mut several = pod();
    several["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "second", "image": "b"}));
    let mut without_init = pod();
    without_init["spec"]
        .as_object_mut()
        .unwrap()
        .remove("initContainers");
    let with_env = changed(pod(), &["spec", "containers", "0", "env"], own);
    vec![
        pod(),
        several,
        without_init,
        changed(with_env.clone(), &["metadata", "annotations"], dummies),
        with_env,
        changed(
            pod(),
            &["metadata", "annotations"],
            json!({names::MODE: "proxy"}),
        ),
        changed(pod(), &["metadata", "labels"], json!({"app": "dashboard"})),
        changed(pod(), &["spec", "terminationGracePeriodSeconds"], json!(10)),
        changed(pod(), &["spec", "terminationGracePeriodSeconds"], json!(0)),
        changed(
            pod(),
            &["spec", "resources"],
            json!({"limits": {"memory": "1Gi"}}),
        ),
        changed(
            pod(),
            &["spec", "volumes"],
            json!([{"name": "data", "emptyDir": {}}]),
        ),
        changed(
            pod(),
            &["spec", "containers", "0", "volumeMounts"],
            json!([{"name": "data", "mountPath": "/data"}]),
        ),
        changed(
            pod(),
            &["spec", "containers", "0", "securityContext"],
            json!({"runAsUser": 5}),
        ),
        changed(
            pod(),
            &["spec", "containers", "0", "securityContext"],
            json!({"capabilities": {"drop": ["all"]}}),
        ),
        changed(
            pod(),
            &["spec", "containers", "0", "securityContext"],
            json!({"capabilities": {"drop": ["SETUID"]}}),
        ),
    ]
}

fn namespaces() -> Vec<NamespaceFacts> {
    let mut annotated = namespace(&[]);
    annotated
        .annotations
        .insert(names::MODE.to_owned(), "proxy".to_owned());
    annotated
        .annotations
        .insert(names::DUMMY_ENV.to_owned(), "QASE_TOKEN".to_owned());
    vec![
        namespace(&[]),
        namespace(&[(names::POD_SECURITY, "restricted")]),
        annotated,
    ]
}

#[test]
fn the_policy_makes_of_each_pod_what_the_function_makes() {
    for namespace in namespaces() {
        for pod in table() {
            let Injection { pod: expected, .. } = injected(&pod, &namespace);
            let made = by_policy(&pod, &namespace);
            for part in [
                "/metadata",
                "/spec/initContainers",
                "/spec/containers",
                "/spec/volumes",
            ] {
                assert_eq!(
                    made.pointer(part),
                    expected.pointer(part),
                    "{part} of {pod:#}"
                );
            }
            assert_eq!(made, expected);
            assert_eq!(refused_by_policy(&made, &namespace), [""; 0]);
        }
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_policy_refuses_what_the_function_refuses() {
    let once = injected(&pod(), &namespace(&[])).pod;
    let context = |value: Value| (vec!["spec", "containers", "0", "securityContext"], value);
    let volume = |value: Value| {
        let mut volumes = once["spec"]["volumes"].as_array().unwrap().clone();
        volumes.push(value);
        (vec!["spec", "volumes"], json!(volumes))
    };
    for ((path, value), code) in [
        ((vec!["spec", "hostNetwork"], json!(true)), "host_network"),
        ((vec!["spec", "hostPID"], json!(true)), "host_pid"),
        (
            (vec!["spec", "shareProcessNamespace"], json!(true)),
            "shared_process_namespace",
        ),
        (
            (vec!["spec", "os"], json!({"name": "windows"})),
            "unsupported_os",
        ),
        (
            (vec!["spec", "securityContext"], json!({"runAsUser": 1337})),
            "relay_uid",
        ),
        (
            (vec!["spec", "securityContext"], json!({"fsGroup": 1337})),
            "relay_gid",
        ),
        (
            (
                vec!["spec", "securityContext"],
                json!({"supplementalGroups": [1, 1337]}),
            ),
            "relay_gid",
        ),
        (context(json!({"runAsUser": 1337})), "relay_uid"),
        (context(json!({"runAsGroup": 1337})), "relay_gid"),
        (context(json!({"privileged": true})), "privileged"),
        (
            context(json!({"capabilities": {"add": ["cap_net_admin"]}})),
            "capability",
        ),
        (
            volume(json!({"name": "v", "hostPath": {"path": "/var"}})),
            "host_path",
        ),
        (
            volume(json!({"name": "v", "hostPath": {"path": "/var/"}})),
            "host_path",
        ),
        (
            volume(json!({"name": "v", "hostPath": {"path": "/var//lib/kubelet"}})),
            "host_path",
        ),
        (
            volume(json!({"name": "v", "hostPath": {"path": "/var/./lib"}})),
            "host_path",
        ),
        (
            volume(json!({"name": "v", "hostPath": {"path": "/"}})),
            "host_path",
        ),
        (
            volume(
                json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"audience": "countersign", "path": "t"}}]}}),
            ),
            "token_elsewhere",
        ),
        (
            (
                vec!["spec", "containers", "0", "volumeMounts"],
                json!([{"name": "countersign-token", "mountPath": "/t"}]),
            ),
            "token_elsewhere",
        ),
        (
            (
                vec!["spec", "containers", "0", "volumeMounts"],
                json!([{"name": "v", "mountPath": "/etc/countersign/ca/x"}]),
            ),
            "reserved_path",
        ),
        (
            (
                vec!["spec", "containers", "0", "ports"],
                json!([{"containerPort": 15021}]),
            ),
            "port_taken",
        ),
        (
            (
                vec!["spec", "containers", "0", "name"],
                json!("countersign-relay"),
            ),
            "reserved_name",
        ),
        (
            (
                vec!["spec", "volumes", "0"],
                json!({"name": "countersign-token", "emptyDir": {}}),
            ),
            "reserved_name",
        ),
        (
            (vec!["spec", "initContainers"], json!([])),
            "changed_after_injection",
        ),
        (
            (
                vec!["spec", "initContainers", "1", "image"],
                json!("evil:1"),
            ),
            "changed_after_injection",
        ),
        (
            (vec!["metadata", "annotations", names::MODE], json!("steer")),
            "annotation_invalid",
        ),
        (
            (vec!["metadata", "annotations", names::KEEP_ENV], json!("A")),
            "annotation_invalid",
        ),
        (
            (
                vec!["metadata", "annotations", names::INJECT],
                json!("disabled"),
            ),
            "opt_out_not_allowed",
        ),
        (
            (
                vec!["spec", "ephemeralContainers"],
                json!([{"name": "d", "targetContainerName": "countersign-relay"}]),
            ),
            "token_elsewhere",
        ),
    ] {
        let wrong = changed(once.clone(), &path, value);
        assert_eq!(
            refused_by_policy(&wrong, &namespace(&[])),
            [code],
            "{path:?}"
        );
    }
    for near in [
        volume(json!({"name": "v", "hostPath": {"path": "/var/log"}})),
        volume(json!({"name": "v", "hostPath": {"path": "/var/lib/kubelets"}})),
        context(json!({"runAsUser": 1338, "capabilities": {"add": ["NET_BIND_SERVICE"]}})),
    ] {
        assert_eq!(
            refused_by_policy(&changed(once.clone(), &near.0, near.1), &namespace(&[])),
            [""; 0]
        );
    }
}

#[test]
fn its_conditions_pass_pods_that_are_left_alone_or_have_a_relay() {
    let [mutating, _, validating, _] = policy::objects(&settings());
    let holds = |policy: &Value, pod: &Value, namespace: &NamespaceFacts| {
        let machine = Machine::new(pod, namespace, Vec::new());
        let conditions = policy["spec"]["matchConditions"].as_array().unwrap().iter();
        conditions
            .clone()
            .all(|it| machine.value(it["expression"].as_str().unwrap()) == Cel::Bool(true))
    };
    let out = changed(
        pod(),
        &["metadata", "annotations"],
        json!({names::INJECT: "disabled"}),
    );
    let allowed = namespace(&[(names::OPT_OUT, "allowed")]);
    let once = injected(&pod(), &namespace(&[])).pod;
    for policy in [&mutating, &validating] {
        assert!(holds(policy, &pod(), &namespace(&[])));
        assert!(holds(policy, &out, &namespace(&[])));
        assert!(!holds(policy, &out, &allowed));
    }
    assert!(
        !holds(&mutating, &once, &namespace(&[])) && holds(&validating, &once, &namespace(&[]))
    );
}

#[test]
fn its_objects_are_of_types_of_kubernetes() {
    use k8s_openapi::api::admissionregistration::v1::{
        MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy,
        ValidatingAdmissionPolicyBinding,
    };
    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) {
        let typed: T = serde_json::from_value(object.clone()).expect("it can be read");
        assert_eq!(
            &serde_json::to_value(typed).expect("it can be written"),
            object
        );
    }
    let [mutating, mutates, validating, validates] = policy::objects(&settings());
    same::<MutatingAdmissionPolicy>(&mutating);
    same::<MutatingAdmissionPolicyBinding>(&mutates);
    same::<ValidatingAdmissionPolicy>(&validating);
    same::<ValidatingAdmissionPolicyBinding>(&validates);
}
