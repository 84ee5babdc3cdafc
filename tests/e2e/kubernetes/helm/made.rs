//! What the chart has of what the program makes: the webhook's configurations, the admission policy, and the
//! metrics that rules and dashboard ask for. And what is made of the chart: the kustomization.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use countersign_controller::admission::{Settings, policy, webhooks};
use serde_json::{Value, json};

use super::{Helm, root, succeeded};

/// Settings whose values are marks, which the template replaces.
const MARKS: &str = "
gateways: [\"gateway.mark.invalid:1\"]
relayImage: relay-image.mark
redirectImage: redirect-image.mark
imagePullPolicy: Never
audience: audience.mark
ownNamespace: own-namespace.mark
clusterDomain: cluster-domain.mark
clusterRanges: [192.0.2.0/24]
# In Helm's order.
relayResources: { limits: { memory: 64Mi }, requests: { cpu: 10m, memory: 16Mi } }
redirectResources: { limits: { memory: 64Mi }, requests: { cpu: 10m, memory: 16Mi } }
";

fn rendered(helm: &Helm, set: &[&str]) -> Vec<Value> {
    let arguments: Vec<_> = set.iter().map(|it| format!("--set={it}")).collect();
    let text = succeeded(&helm.run(
        &["template", "countersign", "--namespace=egress"],
        &arguments,
    ));
    serde_saphyr::from_multiple(&text).expect("it is YAML")
}

fn settings(objects: &[Value]) -> Settings {
    let mut maps = objects.iter().filter(|it| it["kind"] == "ConfigMap");
    let text = maps.find_map(|map| map["data"]["injection.yaml"].as_str());
    Settings::parse(text.expect("the controller has settings")).expect("they can be used")
}

fn of<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let mut found = objects.iter().filter(|it| it["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("there is a {kind}"));
    assert!(found.next().is_none(), "there is one {kind}");
    first
}

fn without_labels(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("labels");
    }
    object
}

#[test]
fn the_webhook_is_called_as_the_program_says() {
    let Some(helm) = Helm::find() else { return };
    let objects = rendered(&helm, &[]);
    let settings = settings(&objects);
    for expected in webhooks::configurations(&settings, "countersign-controller", "") {
        let kind = expected["kind"].as_str().expect("a kind");
        assert_eq!(without_labels(of(&objects, kind)), expected);
    }
}

#[test]
fn the_admission_policy_is_what_the_program_makes() {
    let file = root().join("deploy/helm/countersign/files/admission-policy.json");
    let marks = Settings::parse(MARKS).expect("they can be used");
    let made = json!({"items": policy::objects(&marks)});
    let made = format!(
        "{}\n",
        serde_json::to_string_pretty(&made).expect("it is written")
    );
    if std::env::var_os("COUNTERSIGN_WRITE_DOCS").is_some() {
        fs::write(&file, &made).expect("written");
    }
    let found = fs::read_to_string(&file).expect("the file");
    assert!(found == made, "run with COUNTERSIGN_WRITE_DOCS=1");
    let Some(helm) = Helm::find() else { return };
    for set in [
        &["injection.engine=admissionPolicy"][..],
        &[
            "injection.engine=admissionPolicy",
            "injection.clusterRanges={10.96.0.0/12,10.244.0.0/16}",
            "injection.relayImage.repository=registry.example.com/relay",
            "injection.clusterDomain=example.internal",
            "gateway.cluster.audience=countersign-eu",
            "injection.imagePullPolicy=Always",
        ],
    ] {
        let objects = rendered(&helm, set);
        let kinds: BTreeSet<_> = objects
            .iter()
            .filter_map(|it| it["kind"].as_str())
            .collect();
        assert!(
            !kinds.contains("MutatingWebhookConfiguration"),
            "one engine"
        );
        for expected in policy::objects(&settings(&objects)) {
            let kind = expected["kind"].as_str().expect("a kind");
            assert!(
                without_labels(of(&objects, kind)) == expected,
                "{kind} with {set:?}"
            );
        }
    }
}

#[test]
fn the_kustomization_is_made_of_the_chart() {
    let Some(helm) = Helm::find() else { return };
    let folder = root().join("deploy/kustomize");
    let output = Command::new(folder.join("render"))
        .env("HELM", &helm.program)
        .env("HOME", helm.home.path())
        .output()
        .expect("it runs");
    let made = succeeded(&output);
    let file = folder.join("countersign.yaml");
    if std::env::var_os("COUNTERSIGN_WRITE_DOCS").is_some() {
        fs::write(&file, &made).expect("written");
    }
    let found = fs::read_to_string(&file).expect("the file");
    assert!(found == made, "run with COUNTERSIGN_WRITE_DOCS=1");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&found).expect("it is YAML");
    let kinds: BTreeSet<_> = objects
        .iter()
        .filter_map(|it| it["kind"].as_str())
        .collect();
    for kind in [
        "Namespace",
        "CustomResourceDefinition",
        "Deployment",
        "MutatingWebhookConfiguration",
    ] {
        assert!(kinds.contains(kind), "{kind} is missing");
    }
    assert!(!kinds.contains("Job"), "hooks are Helm's");
}

/// The metrics that are registered somewhere in the source, without prefix and suffix.
fn registered(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            registered(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            for part in text.split("register").skip(1) {
                let name = part.split('"').nth(1).unwrap_or_default();
                names.insert(name.to_owned());
            }
        }
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_that_there_are() {
    let mut names = BTreeSet::new();
    registered(&root().join("proxy"), &mut names);
    let pattern = regex::Regex::new("countersign_([a-z0-9_]+)").expect("a pattern");
    for file in ["rules.yaml", "dashboard.json"] {
        let text = fs::read_to_string(root().join("deploy/helm/countersign/files").join(file));
        let text = text.expect("the file");
        let mut seen = 0;
        for found in pattern.captures_iter(&text) {
            let mut name = found[1].to_owned();
            for suffix in ["_bucket", "_total", "_seconds", "_bytes"] {
                name = name.strip_suffix(suffix).unwrap_or(&name).to_owned();
            }
            assert!(
                names.contains(&name) || names.contains(&found[1]),
                "{file}: there is no countersign_{}",
                &found[1]
            );
            seen += 1;
        }
        assert!(seen > 5, "{file} asks for metrics");
    }
}
