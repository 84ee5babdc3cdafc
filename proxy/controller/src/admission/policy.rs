//! The other engine: a `MutatingAdmissionPolicy` (Kubernetes 1.36) with its binding, by which the API server injects
//! by itself, and a `ValidatingAdmissionPolicy` for what must not run. All are made from the settings and the parts
//! that `inject` uses, and tests evaluate them beside it.
//!
//! It knows less than the webhook: docs/injection.md has the list. What it does not know is refused.

mod merging;
mod validations;

use serde_json::{Value, json};

use super::{
    cel::{literal, quoted},
    names::{
        CA_VOLUME, CLIENT, DISABLED, ENABLED, INJECT, INJECTED, INJECTED_BECAUSE, MIRROR, MODE,
        OPT_OUT, POD_SECURITY, RELAY,
    },
    parts,
    settings::{Mode, Settings},
    variables::Variables,
};

/// The name of all objects.
pub const POLICY: &str = "countersign-injection";

/// The most containers, and the most init containers, of a pod.
const MOST_CONTAINERS: usize = 32;

/// Stands for the relay's `--drain` among its arguments.
const DRAIN: &str = "--drain=DRAIN";

/// The policies and their bindings.
pub fn objects(settings: &Settings) -> [Value; 4] {
    let mutating = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": constraints(settings, &[("pods", &["CREATE"])]),
            "matchConditions": conditions(),
            "variables": named(&variables(settings)),
            "mutations": [{
                "patchType": "JSONPatch",
                "jsonPatch": {"expression": patch(&|path, value| {
                    format!("JSONPatch{{op: 'add', path: {path}, value: {value}}}")
                })},
            }],
        },
    });
    let validating = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": constraints(settings, &[
                ("pods", &["CREATE"]),
                ("pods/ephemeralcontainers", &["UPDATE"]),
            ]),
            "matchConditions": [mirror(), left_alone()],
            "variables": named(&validations::variables()),
            "validations": validations::all(settings),
        },
    });
    let binding = |kind: &str, more: Value| {
        let mut binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": POLICY}, "spec": {"policyName": POLICY},
        });
        if !more.is_null() {
            binding["spec"]["validationActions"] = more;
        }
        binding
    };
    [
        mutating,
        binding("MutatingAdmissionPolicyBinding", Value::Null),
        validating,
        binding("ValidatingAdmissionPolicyBinding", json!(["Deny"])),
    ]
}

fn constraints(settings: &Settings, rules: &[(&str, &[&str])]) -> Value {
    let rules: Vec<_> = rules
        .iter()
        .map(|(resource, operations)| {
            json!({
                "apiGroups": [""], "apiVersions": ["v1"], "resources": [resource], "operations": operations,
            })
        })
        .collect();
    json!({
        "matchPolicy": "Equivalent",
        "namespaceSelector": {"matchExpressions": [
            {"key": INJECT, "operator": "In", "values": [ENABLED]},
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn",
                "values": ["kube-system", settings.own_namespace]},
        ]},
        "resourceRules": rules,
    })
}

fn mirror() -> Value {
    let annotations = "has(object.metadata.annotations)";
    json!({
        "name": "not-of-a-node",
        "expression": format!("!({annotations} && {} in object.metadata.annotations)", quoted(MIRROR)),
    })
}

/// A pod that asks to be left alone, where that is allowed.
fn left_alone() -> Value {
    let asks = format!(
        "has(object.metadata.annotations) && {0} in object.metadata.annotations && \
         object.metadata.annotations[{0}] == {1}",
        quoted(INJECT),
        quoted(DISABLED)
    );
    let allowed = format!(
        "has(namespaceObject.metadata.labels) && {0} in namespaceObject.metadata.labels && \
         namespaceObject.metadata.labels[{0}] == 'allowed'",
        quoted(OPT_OUT)
    );
    json!({"name": "not-left-alone", "expression": format!("!({asks} && {allowed})")})
}

fn conditions() -> Vec<Value> {
    let present = format!(
        "!(has(object.spec.initContainers) && object.spec.initContainers.exists(c, c.name == {}))",
        quoted(RELAY)
    );
    let relay = json!({"name": "without-relay", "expression": present});
    vec![mirror(), left_alone(), relay]
}

fn named(variables: &[(&str, String)]) -> Value {
    let variables = variables.iter();
    variables
        .map(|(name, expression)| json!({"name": name, "expression": expression}))
        .collect()
}

/// The variables of the mutation, each of which may refer to those before it.
fn variables(settings: &Settings) -> Vec<(&'static str, String)> {
    let all = Variables::of(settings);
    let map = |pairs: &[(String, String)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)));
        literal(&Value::Object(pairs.collect()), &[])
    };
    let defaults = all.defaults();
    let order: Vec<_> = defaults.iter().map(|(name, _)| name.clone()).collect();
    let indices: Vec<_> = (0..MOST_CONTAINERS).collect();
    let container = |with| parts::relay(settings, "DRAIN", with);
    let drain = format!("'--drain=' + string({}) + 's'", "variables.drain");
    let instead = [(DRAIN, drain.as_str())];
    let either = |with: &Value, without: &Value| {
        let (with, without) = (literal(with, &instead), literal(without, &instead));
        format!("has(object.spec.resources) ? {without} : {with}")
    };
    let relay = either(&container(true), &container(false));
    let redirect = either(
        &parts::redirect(settings, true),
        &parts::redirect(settings, false),
    );
    vec![
        ("annotations", or_empty("object.metadata.annotations", "{}")),
        ("labelsOfNamespace", or_empty("namespaceObject.metadata.labels", "{}")),
        ("annotationsOfNamespace", or_empty("namespaceObject.metadata.annotations", "{}")),
        ("level", format!("{0} in variables.labelsOfNamespace ? variables.labelsOfNamespace[{0}] : ''", quoted(POD_SECURITY))),
        ("strict", "variables.level in ['restricted', 'baseline']".to_owned()),
        ("own", format!("{0} in variables.annotations ? variables.annotations[{0}] : ''", quoted(MODE))),
        ("inherited", format!("{0} in variables.annotationsOfNamespace ? variables.annotationsOfNamespace[{0}] : ''", quoted(MODE))),
        ("mode", mode(settings)),
        ("because", because(settings)),
        ("fixed", map(&all.fixed)),
        ("defaults", map(&defaults)),
        ("order", literal(&json!(order), &[])),
        ("noProxy", literal(&json!(all.no_proxy), &[])),
        ("java", quoted(&all.java)),
        ("dummies", merging::dummies()),
        ("indices", literal(&json!(indices), &[]).replace("dyn(", "").replace(')', "")),
        ("init", or_empty("object.spec.initContainers", "[]")),
        ("drain", "has(object.spec.terminationGracePeriodSeconds) ? (object.spec.terminationGracePeriodSeconds > 30 ? 25 : (object.spec.terminationGracePeriodSeconds < 6 ? 1 : object.spec.terminationGracePeriodSeconds - 5)) : 25".to_owned()),
        ("relay", relay),
        ("redirect", redirect),
        ("volumes", literal(&json!(parts::volumes(settings)), &[])),
    ]
}

fn or_empty(path: &str, empty: &str) -> String {
    format!("has({path}) ? {path} : {empty}")
}

fn mode(settings: &Settings) -> String {
    let default = settings.default_mode.unwrap_or(Mode::Redirect).as_str();
    format!(
        "variables.own != '' ? variables.own : (variables.inherited != '' ? variables.inherited : \
         (variables.strict ? 'proxy' : {}))",
        quoted(default)
    )
}

fn because(settings: &Settings) -> String {
    let default = match settings.default_mode {
        Some(_) => "it is the installation's default",
        None => "the namespace enforces neither Pod Security restricted nor baseline",
    };
    format!(
        "variables.own != '' ? {} : (variables.inherited != '' ? {} : (variables.strict ? \
         'the namespace enforces Pod Security ' + variables.level + ', which forbids the init container that redirects' : {}))",
        quoted(&format!("the pod's annotation {MODE} says so")),
        quoted(&format!("the namespace's annotation {MODE} says so")),
        quoted(default)
    )
}

/// The patch: a list of operations, each of which `operation` writes from the expressions of its path and value.
fn patch(operation: &dyn Fn(&str, &str) -> String) -> String {
    let mut terms = of_containers(operation);
    terms.extend(of_the_pod(operation));
    terms.join(" + ")
}

/// What is added to each container and init container.
fn of_containers(operation: &dyn Fn(&str, &str) -> String) -> Vec<String> {
    let mut terms = Vec::new();
    for (list, size) in [
        ("containers", "size(object.spec.containers)"),
        ("initContainers", "size(variables.init)"),
    ] {
        let c = match list {
            "containers" => "object.spec.containers[i]",
            _ => "variables.init[i]",
        };
        let each = format!("variables.indices.filter(i, i < {size})");
        let at = |field: &str| format!("'/spec/{list}/' + string(i) + '/{field}'");
        let mut add = |filter: &str, path: &str, value: &str| {
            let filter = if filter.is_empty() {
                String::new()
            } else {
                format!(".filter(i, {filter})")
            };
            terms.push(format!("{each}{filter}.map(i, {})", operation(path, value)));
        };
        add("", &at("env"), &merging::env(c));
        let mounts = or_empty(&format!("{c}.volumeMounts"), "[]");
        let has_mount = format!(
            "!(has({c}.volumeMounts) && {c}.volumeMounts.exists(m, m.name == {}))",
            quoted(CA_VOLUME)
        );
        add(
            &has_mount,
            &at("volumeMounts"),
            &format!("({mounts}) + [{}]", literal(&parts::ca_mount(), &[])),
        );
        let context = format!("{c}.securityContext");
        let capabilities = format!("{context}.capabilities");
        let no_capabilities = format!("(!has({context}) || !has({capabilities}))");
        let no_drop = format!("({no_capabilities} || !has({capabilities}.drop))");
        let redirected = "variables.mode == 'redirect'";
        let raw = format!(
            "{redirected} && ({no_drop} || !{capabilities}.drop.exists(d, d.upperAscii() in ['ALL', 'NET_RAW', 'CAP_NET_RAW']))"
        );
        add(
            &format!("{redirected} && !has({context})"),
            &at("securityContext"),
            "{}",
        );
        add(
            &format!("{redirected} && {no_capabilities}"),
            &at("securityContext/capabilities"),
            "{}",
        );
        add(
            &raw,
            &at("securityContext/capabilities/drop"),
            &format!("({no_drop} ? [] : {capabilities}.drop) + ['NET_RAW']"),
        );
    }
    terms
}

/// What is added to the pod once.
fn of_the_pod(operation: &dyn Fn(&str, &str) -> String) -> Vec<String> {
    let mut terms = Vec::new();
    let mut once = |condition: &str, path: &str, value: &str| {
        let operation = operation(&quoted(path), value);
        terms.push(if condition.is_empty() {
            format!("[{operation}]")
        } else {
            format!("({condition} ? [{operation}] : [])")
        });
    };
    once(
        "!has(object.spec.initContainers)",
        "/spec/initContainers",
        "[]",
    );
    once("", "/spec/initContainers/0", "variables.relay");
    once(
        "variables.mode == 'redirect'",
        "/spec/initContainers/0",
        "variables.redirect",
    );
    once(
        "",
        "/spec/volumes",
        &format!(
            "({}) + variables.volumes.filter(v, !(has(object.spec.volumes) && object.spec.volumes.exists(o, o.name == v.name)))",
            or_empty("object.spec.volumes", "[]")
        ),
    );
    once("!has(object.metadata.labels)", "/metadata/labels", "{}");
    once("", &pointer("labels", CLIENT), "'true'");
    once(
        "!has(object.metadata.annotations)",
        "/metadata/annotations",
        "{}",
    );
    once("", &pointer("annotations", INJECTED), "variables.mode");
    once(
        "",
        &pointer("annotations", INJECTED_BECAUSE),
        "variables.because",
    );
    terms
}

fn pointer(map: &str, key: &str) -> String {
    format!(
        "/metadata/{map}/{}",
        key.replace('~', "~0").replace('/', "~1")
    )
}

#[cfg(test)]
pub(super) mod parts_for_tests {
    //! The same expressions, whose operations are maps: no library knows the API server's own type.
    use super::{Settings, patch, validations, variables};

    pub(crate) fn mutation(settings: &Settings) -> (Vec<(&'static str, String)>, String) {
        let operation =
            |path: &str, value: &str| format!("{{'path': {path}, 'value': dyn({value})}}");
        (variables(settings), patch(&operation))
    }

    pub(crate) fn validation(
        settings: &Settings,
    ) -> (Vec<(&'static str, String)>, Vec<serde_json::Value>) {
        (validations::variables(), validations::all(settings))
    }
}
