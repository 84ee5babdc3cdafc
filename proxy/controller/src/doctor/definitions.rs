//! The custom resource definitions, beside those of this version.

use serde_json::Value;

use super::{
    api::{Api, Resource},
    report::Finding,
};
use crate::crd;

const DEFINITIONS: Resource =
    Resource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

const REMEDY: &str = "countersign schema --crds | kubectl apply --server-side -f -";

pub(super) async fn check(api: &Api) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fine = Vec::new();
    for ours in crd::all() {
        let name = ours["metadata"]["name"].as_str().unwrap_or_default();
        match api.get(DEFINITIONS, "", name).await {
            Ok(Some(theirs)) => match difference(&ours, &theirs) {
                None => fine.push(name.to_owned()),
                Some(finding) => findings.push(finding),
            },
            Ok(None) => findings.push(Finding::failed(
                "crd",
                format!("the cluster does not know {name}"),
                REMEDY,
            )),
            Err(why) => findings.push(Finding::unknown("crd", name, &why)),
        }
    }
    if !fine.is_empty() {
        let text = format!("defined as in this version: {}", fine.join(", "));
        findings.insert(0, Finding::fine("crd", text));
    }
    findings
}

fn difference(ours: &Value, theirs: &Value) -> Option<Finding> {
    let name = ours["metadata"]["name"].as_str().unwrap_or_default();
    let mut conditions = theirs["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    if !conditions.any(|it| it["type"] == "Established" && it["status"] == "True") {
        return Some(Finding::failed(
            "crd",
            format!("{name} is not established, so its objects cannot be created"),
            format!("kubectl describe crd {name}"),
        ));
    }
    let versions = theirs["spec"]["versions"].as_array();
    let same = versions.into_iter().flatten().any(|version| {
        version["name"] == crd::version()
            && version["served"] == true
            && within(&ours["spec"]["versions"][0]["schema"], &version["schema"])
    });
    (!same).then(|| {
        Finding::warning(
            "crd",
            format!("{name} is that of another version of Countersign"),
            REMEDY,
        )
    })
}

/// Whether all that is in one value is in another: API servers add defaults.
pub(super) fn within(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(_)) => {
            ours.iter().all(|(key, value)| within(value, &theirs[key]))
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| within(a, b))
        }
        (Value::Number(ours), Value::Number(theirs)) => ours.as_f64() == theirs.as_f64(),
        _ => ours == theirs,
    }
}
