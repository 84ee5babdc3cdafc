//! The resources that the server has: a table of the built-in ones, and those of
//! `CustomResourceDefinitions`.

use serde_json::{Value, json};

use super::request::Target;

/// One resource of the server.
#[expect(
    clippy::struct_field_names,
    reason = "`kind` is the word for it in Kubernetes"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) kind: String,
    pub(super) namespaced: bool,
    /// Subresources that are written and read as the object itself.
    pub(super) subresources: Vec<String>,
    pub(super) short_names: Vec<String>,
    pub(super) categories: Vec<String>,
    /// The schema and the rest of the version in a definition; null for built-in kinds.
    pub(super) custom: Value,
}

type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    bool,
    &'static [&'static str],
    &'static [&'static str],
);

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

#[rustfmt::skip]
const BUILT_IN: &[Row] = &[
    ("", "v1", "namespaces", "Namespace", false, &["status", "finalize"], &["ns"]),
    ("", "v1", "nodes", "Node", false, &["status"], &["no"]),
    ("", "v1", "pods", "Pod", true, &["status", "ephemeralcontainers"], &["po"]),
    ("", "v1", "secrets", "Secret", true, &[], &[]),
    ("", "v1", "configmaps", "ConfigMap", true, &[], &["cm"]),
    ("", "v1", "serviceaccounts", "ServiceAccount", true, &[], &["sa"]),
    ("", "v1", "services", "Service", true, &["status"], &["svc"]),
    ("", "v1", "events", "Event", true, &[], &["ev"]),
    ("apps", "v1", "deployments", "Deployment", true, &["status"], &["deploy"]),
    ("apps", "v1", "replicasets", "ReplicaSet", true, &["status"], &["rs"]),
    ("apps", "v1", "statefulsets", "StatefulSet", true, &["status"], &["sts"]),
    ("apps", "v1", "daemonsets", "DaemonSet", true, &["status"], &["ds"]),
    ("batch", "v1", "jobs", "Job", true, &["status"], &[]),
    ("batch", "v1", "cronjobs", "CronJob", true, &["status"], &["cj"]),
    ("coordination.k8s.io", "v1", "leases", "Lease", true, &[], &[]),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", true, &[], &[]),
    ("events.k8s.io", "v1", "events", "Event", true, &[], &["ev"]),
    ("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", false,
        &["status", "approval"], &["csr"]),
    ("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", true, &[], &["netpol"]),
    ("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", false, &["status"], &[]),
    ("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, &["status"], &["pdb"]),
    ("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", true, &["status"],
        &["hpa"]),
    (ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false, &[], &[]),
    (ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false, &[],
        &[]),
    (ADMISSION, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", false, &[], &[]),
    (ADMISSION, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", false, &[],
        &[]),
    (RBAC, "v1", "roles", "Role", true, &[], &[]),
    (RBAC, "v1", "rolebindings", "RoleBinding", true, &[], &[]),
    (RBAC, "v1", "clusterroles", "ClusterRole", false, &[], &[]),
    (RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", false, &[], &[]),
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false,
        &["status"], &["crd", "crds"]),
];

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

pub(super) fn built_in() -> Vec<Kind> {
    let kind = |&(group, version, resource, kind, namespaced, subresources, short): &Row| Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: resource.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        subresources: words(subresources),
        short_names: words(short),
        categories: Vec::new(),
        custom: Value::Null,
    };
    BUILT_IN.iter().map(kind).collect()
}

/// The resources of one definition, one for each served version.
pub(super) fn of_definition(definition: &Value) -> Vec<Kind> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| -> Vec<String> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().map(text).collect()
    };
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let served = versions
        .into_iter()
        .filter(|version| version["served"] == true);
    served
        .map(|version| Kind {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            resource: text(&spec["names"]["plural"]),
            kind: text(&spec["names"]["kind"]),
            namespaced: spec["scope"] == "Namespaced",
            subresources: if version["subresources"]["status"].is_object() {
                words(&["status"])
            } else {
                Vec::new()
            },
            short_names: list(&spec["names"]["shortNames"]),
            categories: list(&spec["names"]["categories"]),
            custom: version,
        })
        .collect()
}

impl Kind {
    pub(super) fn is_custom(&self) -> bool {
        !self.custom.is_null()
    }

    pub(super) fn has(&self, subresource: &str) -> bool {
        self.subresources.iter().any(|known| known == subresource)
    }

    pub(super) fn serves(&self, target: &Target) -> bool {
        self.group == target.group
            && self.version == target.version
            && self.resource == target.resource
    }

    /// `v1`, `batch/v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `Secret`, `Workload.countersign.dev`: as errors about an object's fields name it.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.kind.clone()
        } else {
            format!("{}.{}", self.kind, self.group)
        }
    }

    /// The key of the collection in storage. All versions of a resource share it.
    pub(super) fn collection(&self) -> String {
        format!("{}/{}", self.group, self.resource)
    }

    /// As discovery lists it.
    pub(super) fn discovered(&self) -> Vec<Value> {
        let verbs = [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ];
        let mut resource = json!({
            "name": self.resource,
            "singularName": self.kind.to_lowercase(),
            "namespaced": self.namespaced,
            "kind": self.kind,
            "verbs": verbs,
        });
        if !self.short_names.is_empty() {
            resource["shortNames"] = self.short_names.clone().into();
        }
        if !self.categories.is_empty() {
            resource["categories"] = self.categories.clone().into();
        }
        let sub = self.subresources.iter().map(|subresource| {
            json!({
                "name": format!("{}/{subresource}", self.resource),
                "singularName": "",
                "namespaced": self.namespaced,
                "kind": self.kind,
                "verbs": ["get", "patch", "update"],
            })
        });
        std::iter::once(resource).chain(sub).collect()
    }
}
