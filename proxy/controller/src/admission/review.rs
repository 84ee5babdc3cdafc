//! One `AdmissionReview`: what the API server asks, and what it is answered.
//!
//! `mutate` injects. `validate` sees the pod after every other webhook, and refuses what injection would still
//! change; and it sees the debug containers and new images of pods that run.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation},
};
use serde_json::{Value, json};

use super::{
    hazards,
    inject::inject,
    names::{REDIRECT, RELAY},
    outcome::{LeftAlone, NotInjected, Refusal, sentences},
    settings::{Mode, NamespaceFacts, Settings},
};

/// What was decided, for metrics, log and Events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The pod gets a relay.
    Injected(Mode),
    /// It runs as it is.
    LeftAlone(LeftAlone),
    /// It does not run; the codes of why.
    Refused(Vec<&'static str>),
    /// What was asked is no concern of ours.
    Passed,
}

/// Which webhook was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Webhook {
    /// The one that injects.
    Mutate,
    /// The one that looks at the result.
    Validate,
}

/// Reads a review.
///
/// # Errors
/// When it is none, in words.
pub fn read(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body)
        .map_err(|error| format!("this is no AdmissionReview: {error}"))?;
    if review.types.api_version != "admission.k8s.io/v1" {
        let version = review.types.api_version.escape_debug().to_string();
        return Err(format!(
            "`{version}` is not admission.k8s.io/v1, the version that this webhook speaks"
        ));
    }
    review
        .try_into()
        .map_err(|_| "the AdmissionReview has no request".to_owned())
}

/// An answer as the API server reads it.
pub fn write(response: AdmissionResponse) -> Vec<u8> {
    let patch = response
        .patch
        .as_deref()
        .map(|patch| STANDARD.encode(patch));
    let mut review = json!(response.into_review());
    if let Some(patch) = patch {
        // Kubernetes' types have bytes as base64; kube's have them as a list of numbers.
        review["response"]["patch"] = json!(patch);
    }
    review.to_string().into_bytes()
}

/// Answers a review.
pub fn answer(
    webhook: Webhook,
    request: &AdmissionRequest<DynamicObject>,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> (AdmissionResponse, Decision) {
    let response = AdmissionResponse::from(request);
    if request.kind.kind != "Pod" || !request.kind.group.is_empty() {
        return (response, Decision::Passed);
    }
    let pod = value(request.object.as_ref());
    match webhook {
        Webhook::Mutate => mutate(response, request, &pod, namespace, settings),
        Webhook::Validate => {
            let refusals = match (request.sub_resource.as_deref(), &request.operation) {
                (Some("ephemeralcontainers"), _) => debugged(&pod, settings),
                (None | Some(""), Operation::Update) => {
                    exchanged(&value(request.old_object.as_ref()), &pod)
                }
                (None | Some(""), Operation::Create) => match created(&pod, namespace, settings) {
                    Ok(why) => return (response, Decision::LeftAlone(why)),
                    Err(refusals) => refusals,
                },
                _ => Vec::new(),
            };
            if refusals.is_empty() {
                (response, Decision::Passed)
            } else {
                refuse(response, &refusals)
            }
        }
    }
}

fn mutate(
    mut response: AdmissionResponse,
    request: &AdmissionRequest<DynamicObject>,
    pod: &Value,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> (AdmissionResponse, Decision) {
    if request.operation != Operation::Create || request.sub_resource.is_some() {
        return (response, Decision::Passed);
    }
    let injection = match inject(pod, namespace, settings) {
        Ok(injection) => injection,
        Err(NotInjected::LeftAlone(why)) => {
            note(&mut response, "left-alone", why.code());
            return (response, Decision::LeftAlone(why));
        }
        Err(NotInjected::Refused(refusals)) => return refuse(response, &refusals),
    };
    note(&mut response, "mode", injection.mode.as_str());
    note(&mut response, "because", &injection.because);
    let mut warnings = injection.warnings;
    // Whoever creates pods through a controller does not see them.
    if pod["metadata"]["ownerReferences"].is_null() {
        let mode = injection.mode;
        warnings.insert(0, format!("mode {mode}, because {}", injection.because));
    }
    if !warnings.is_empty() {
        let told = warnings.iter().map(|it| format!("countersign: {it}"));
        response.warnings = Some(told.collect());
    }
    let patch = serde_json::from_value(Value::Array(injection.patch));
    match patch.map(|patch| response.with_patch(patch)) {
        Ok(Ok(response)) => (response, Decision::Injected(injection.mode)),
        // Every operation is one that we wrote.
        Ok(Err(_)) | Err(_) => unreachable!("a patch of ours can be written"),
    }
}

fn note(response: &mut AdmissionResponse, key: &str, value: &str) {
    let notes = &mut response.audit_annotations;
    notes.insert(key.to_owned(), value.to_owned());
}

fn refuse(response: AdmissionResponse, refusals: &[Refusal]) -> (AdmissionResponse, Decision) {
    let mut response = response.deny(sentences(refusals));
    response.result.code = 403;
    "Forbidden".clone_into(&mut response.result.reason);
    let codes: Vec<_> = refusals.iter().map(|refusal| refusal.code).collect();
    note(&mut response, "refused", &codes.join(","));
    (response, Decision::Refused(codes))
}

/// A pod as it will be stored: whoever changed it after injection must not have taken anything away.
fn created(
    pod: &Value,
    namespace: &NamespaceFacts,
    settings: &Settings,
) -> Result<LeftAlone, Vec<Refusal>> {
    let injection = match inject(pod, namespace, settings) {
        Err(NotInjected::LeftAlone(why)) => return Ok(why),
        Err(NotInjected::Refused(refusals)) => return Err(refusals),
        Ok(injection) => injection,
    };
    let paths: Vec<_> = injection
        .patch
        .iter()
        .filter_map(|it| it["path"].as_str())
        .collect();
    Err(vec![Refusal::new(
        "changed_after_injection",
        paths.join(", "),
        "another admission webhook or policy changed the pod after it was injected: give that one \
         `reinvocationPolicy: IfNeeded`, or a name that comes before countersign's.",
    )])
}

/// The debug containers of a pod that has a relay.
fn debugged(pod: &Value, settings: &Settings) -> Vec<Refusal> {
    if image(pod, RELAY).is_none() {
        return Vec::new();
    }
    match serde_json::from_value::<k8s_openapi::api::core::v1::Pod>(pod.clone()) {
        Ok(pod) => hazards::of_ephemeral(&pod.spec.unwrap_or_default(), settings),
        Err(error) => vec![Refusal::new(
            "pod_malformed",
            "pod",
            format!("it cannot be read as a Pod: {error}"),
        )],
    }
}

/// An image is all that can be exchanged in a pod that runs; one in the relay's place would get its token.
fn exchanged(old: &Value, new: &Value) -> Vec<Refusal> {
    let changed = [RELAY, REDIRECT]
        .into_iter()
        .filter(|name| image(old, name) != image(new, name));
    let refusals = changed.map(|name| {
        Refusal::new(
            "relay_image",
            format!("spec.initContainers[{name}].image"),
            "the image of a container that injection added does not change: create the pod again.",
        )
    });
    refusals.collect()
}

fn image<'p>(pod: &'p Value, name: &str) -> Option<&'p Value> {
    let containers = pod["spec"]["initContainers"].as_array()?;
    let container = containers.iter().find(|it| it["name"] == name)?;
    container.get("image")
}

fn value(object: Option<&DynamicObject>) -> Value {
    object
        .and_then(|object| serde_json::to_value(object).ok())
        .unwrap_or_default()
}
