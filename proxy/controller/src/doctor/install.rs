//! What is installed, as its own objects say it: found by the label that the chart gives everything.

use serde_json::Value;

use super::{
    api::{Api, Resource, Unread},
    report::Finding,
};
use crate::admission::Settings;

/// The label of all that the chart makes.
const PART: &str = "app.kubernetes.io/part-of=countersign";
/// The label of what a pod is for.
const COMPONENT: &str = "app.kubernetes.io/component";

const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

/// An installation.
#[derive(Debug, Default)]
pub(super) struct Installation {
    /// The namespace of gateways and controller.
    pub(super) namespace: String,
    /// The gateways' Deployment; null without one.
    pub(super) gateway: Value,
    /// The controller's Deployment; null without one.
    pub(super) controller: Value,
    /// The gateways' file; null if it cannot be read.
    pub(super) gateway_file: Value,
    /// The settings of injection; the defaults if they cannot be read.
    pub(super) settings: Settings,
}

impl Installation {
    /// The only one, or that of the namespace that is given.
    pub(super) async fn find(api: &Api, namespace: Option<&str>) -> (Self, Vec<Finding>) {
        let wide = namespace.unwrap_or_default();
        let deployments = match api.list(DEPLOYMENTS, wide, PART).await {
            Ok(deployments) => deployments,
            Err(why) => {
                let namespace = namespace.unwrap_or("countersign").to_owned();
                let installation = Self {
                    namespace,
                    ..Self::default()
                };
                let mut finding = Finding::unknown("installation", "what is installed", &why);
                if matches!(why, Unread::Forbidden(..)) && wide.is_empty() {
                    finding.remedy = format!(
                        "name the namespace of the gateways with --system-namespace, or {}",
                        finding.remedy
                    );
                }
                return (installation, vec![finding]);
            }
        };
        let mut namespaces: Vec<&str> = deployments.iter().filter_map(namespace_of).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let [found] = namespaces.as_slice() else {
            return (Self::default(), vec![not_one(&namespaces, namespace)]);
        };
        let of = |component: &str| {
            let mut all = deployments.iter();
            let found = all.find(|it| it["metadata"]["labels"][COMPONENT] == component);
            found.cloned().unwrap_or_default()
        };
        let mut installation = Self {
            namespace: (*found).to_owned(),
            gateway: of("gateway"),
            controller: of("controller"),
            ..Self::default()
        };
        let findings = installation.read_files(api).await;
        (installation, findings)
    }

    async fn read_files(&mut self, api: &Api) -> Vec<Finding> {
        let mut findings = vec![Finding::fine(
            "installation",
            format!("installed in the namespace {}", self.namespace),
        )];
        if let Some(map) = config_map(&self.gateway, "gateway") {
            match api.get(CONFIG_MAPS, &self.namespace, map).await {
                Ok(map) => {
                    let text = map.unwrap_or_default();
                    let text = text["data"]["gateway.yaml"].as_str().unwrap_or_default();
                    self.gateway_file = serde_saphyr::from_str(text).unwrap_or_default();
                }
                Err(why) => {
                    findings.push(Finding::unknown("gateway_file", "the gateways' file", &why));
                }
            }
        }
        if let Some(map) = config_map(&self.controller, "injection") {
            match api.get(CONFIG_MAPS, &self.namespace, map).await {
                Ok(map) => {
                    let text = map.unwrap_or_default();
                    let text = text["data"]["injection.yaml"].as_str();
                    match Settings::parse(text.unwrap_or_default()) {
                        Ok(settings) => self.settings = settings,
                        Err(error) => findings.push(Finding::failed(
                            "injection_settings",
                            format!("the controller cannot use its settings: {error}"),
                            "correct `injection` in the chart's values, and helm upgrade",
                        )),
                    }
                }
                Err(why) => findings.push(Finding::unknown(
                    "injection_settings",
                    "the settings of injection",
                    &why,
                )),
            }
        }
        findings
    }

    /// The service account of one of the two.
    pub(super) fn account(deployment: &Value) -> Option<&str> {
        deployment["spec"]["template"]["spec"]["serviceAccountName"].as_str()
    }
}

/// The namespace of an object.
fn namespace_of(object: &Value) -> Option<&str> {
    object["metadata"]["namespace"].as_str()
}

/// The `ConfigMap` of a Deployment's volume.
fn config_map<'d>(deployment: &'d Value, volume: &str) -> Option<&'d str> {
    let volumes = deployment["spec"]["template"]["spec"]["volumes"].as_array()?;
    let volume = volumes.iter().find(|it| it["name"] == volume)?;
    volume["configMap"]["name"].as_str()
}

fn not_one(namespaces: &[&str], wanted: Option<&str>) -> Finding {
    if namespaces.is_empty() {
        let place = wanted.map_or_else(
            || "in this cluster".to_owned(),
            |namespace| format!("in the namespace {namespace}"),
        );
        Finding::failed(
            "installation",
            format!("Countersign is not installed {place}"),
            "helm install countersign deploy/helm/countersign -n countersign --create-namespace",
        )
    } else {
        Finding::failed(
            "installation",
            format!(
                "it is installed in several namespaces: {}",
                namespaces.join(", ")
            ),
            "say which one is meant with --system-namespace",
        )
    }
}
