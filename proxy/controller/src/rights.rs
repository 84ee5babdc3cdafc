//! Which rights are missing, each verb and resource by name.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, Client, api::PostParams};

/// A right: group, resource, verb.
pub(crate) type Right = (&'static str, &'static str, &'static str);

/// Which of these rights a role must still grant, in a namespace or in all, as a sentence; `None` if nothing is
/// missing, or if the API server does not say.
pub(crate) async fn missing(
    client: &Client,
    namespace: Option<&str>,
    needed: &[Right],
) -> Option<String> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut missing = Vec::new();
    for (group, resource, verb) in needed {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    group: Some((*group).to_owned()),
                    resource: Some((*resource).to_owned()),
                    verb: Some((*verb).to_owned()),
                    namespace: namespace.map(str::to_owned),
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
        let missing = missing.join(", ");
        match namespace {
            Some(namespace) => format!(
                "the gateway's service account lacks rights in the namespace {namespace}: a role must grant it to {missing}"
            ),
            None => format!(
                "the gateway's service account lacks rights in all namespaces: a ClusterRole must grant it to {missing}"
            ),
        }
    })
}
