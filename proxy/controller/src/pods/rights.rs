//! Which rights are missing, each verb and resource by name.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

/// Group, resource, verb.
const NEEDED: [(&str, &str, &str); 4] = [
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "watch"),
];

/// What a role must still grant in a namespace, as a sentence; `None` if nothing is missing, or if the API
/// server does not say.
pub(super) async fn missing(client: &Client, namespace: &str) -> Option<String> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut missing = Vec::new();
    for (group, resource, verb) in NEEDED {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some(group.to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some(verb.to_owned()),
                    namespace: Some(namespace.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let made = reviews.create(&PostParams::default(), &review).await.ok()?;
        if made.status.is_none_or(|status| !status.allowed) {
            let dot = if group.is_empty() { "" } else { "." };
            missing.push(format!("{verb} {resource}{dot}{group}"));
        }
    }
    (!missing.is_empty()).then(|| {
        format!(
            "the gateway's service account lacks rights in the namespace {namespace}: a role must grant it to {}",
            missing.join(", ")
        )
    })
}
