//! Built-in kinds through Kubernetes' own types: what has a wrong type is refused, what is unknown is
//! dropped.

use k8s_openapi::api::{
    admissionregistration::v1::{
        MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
        ValidatingWebhookConfiguration,
    },
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    certificates::v1::CertificateSigningRequest,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    events,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::kinds::Kind;

fn through<T: Serialize + DeserializeOwned>(object: &Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(object.clone())?)
}

/// The object as its type has it.
pub(super) fn typed(kind: &Kind, object: &Value) -> serde_json::Result<Value> {
    match kind.kind.as_str() {
        "Namespace" => through::<Namespace>(object),
        "Node" => through::<Node>(object),
        "Pod" => through::<Pod>(object),
        "Secret" => through::<Secret>(object),
        "ConfigMap" => through::<ConfigMap>(object),
        "ServiceAccount" => through::<ServiceAccount>(object),
        "Service" => through::<Service>(object),
        "Event" if kind.group.is_empty() => through::<Event>(object),
        "Event" => through::<events::v1::Event>(object),
        "Deployment" => through::<Deployment>(object),
        "ReplicaSet" => through::<ReplicaSet>(object),
        "StatefulSet" => through::<StatefulSet>(object),
        "DaemonSet" => through::<DaemonSet>(object),
        "Job" => through::<Job>(object),
        "CronJob" => through::<CronJob>(object),
        "Lease" => through::<Lease>(object),
        "EndpointSlice" => through::<EndpointSlice>(object),
        "CertificateSigningRequest" => through::<CertificateSigningRequest>(object),
        "NetworkPolicy" => through::<NetworkPolicy>(object),
        "PodDisruptionBudget" => through::<PodDisruptionBudget>(object),
        "HorizontalPodAutoscaler" => through::<HorizontalPodAutoscaler>(object),
        "MutatingWebhookConfiguration" => through::<MutatingWebhookConfiguration>(object),
        "ValidatingWebhookConfiguration" => through::<ValidatingWebhookConfiguration>(object),
        "MutatingAdmissionPolicy" => through::<MutatingAdmissionPolicy>(object),
        "MutatingAdmissionPolicyBinding" => through::<MutatingAdmissionPolicyBinding>(object),
        "Role" => through::<Role>(object),
        "RoleBinding" => through::<RoleBinding>(object),
        "ClusterRole" => through::<ClusterRole>(object),
        "ClusterRoleBinding" => through::<ClusterRoleBinding>(object),
        "CustomResourceDefinition" => through::<CustomResourceDefinition>(object),
        other => unreachable!("{other} is in the table of kinds and has no type"),
    }
}

/// The fields of one object that another does not have; null ones are not sent.
pub(super) fn unknown(sent: &Value, kept: &Value, path: &str, found: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), kept) => {
            for (name, value) in sent {
                let path = match path {
                    "" => name.clone(),
                    path => format!("{path}.{name}"),
                };
                match kept.get(name) {
                    _ if value.is_null() => {}
                    None => found.push(path),
                    Some(kept) => unknown(value, kept, &path, found),
                }
            }
        }
        (Value::Array(sent), Value::Array(kept)) => {
            for (index, (sent, kept)) in sent.iter().zip(kept).enumerate() {
                unknown(sent, kept, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}
