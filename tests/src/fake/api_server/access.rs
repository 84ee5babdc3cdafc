//! What RBAC grants the gateway in the whole cluster, and the review by which it asks for its own rights.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{Failure, JWKS_PATH, KubernetesApi, REVIEW_PATH, failure, lock, status};
use crate::fake::{Body, Received, body};

/// The user whom the gateway's token proves.
pub(super) const USER: &str = "system:serviceaccount:countersign:countersign";

pub(super) const PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";

/// A right that a `ClusterRole` grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterRight {
    /// To create `TokenReviews`.
    ReviewTokens,
    /// To read the issuer's keys.
    ReadKeys,
}

impl ClusterRight {
    /// What the chart's role grants.
    pub const ALL: [Self; 2] = [Self::ReviewTokens, Self::ReadKeys];

    /// The right that a request needs.
    fn of(received: &Received) -> Option<Self> {
        match (received.path.as_str(), &received.method) {
            (REVIEW_PATH, &Method::POST) => Some(Self::ReviewTokens),
            (JWKS_PATH, &Method::GET) => Some(Self::ReadKeys),
            _ => None,
        }
    }

    /// The API server's message about a user who lacks it.
    fn message(self, user: &str) -> String {
        match self {
            Self::ReviewTokens => format!(
                "tokenreviews.authentication.k8s.io is forbidden: User \"{user}\" cannot create resource \
                 \"tokenreviews\" in API group \"authentication.k8s.io\" at the cluster scope"
            ),
            Self::ReadKeys => format!("forbidden: User \"{user}\" cannot get path \"{JWKS_PATH}\""),
        }
    }
}

/// The response to a request without a token.
pub(super) fn anonymous(received: &Received) -> Response<Body> {
    let user = "system:anonymous";
    let message = match ClusterRight::of(received) {
        Some(right) => right.message(user),
        None => format!(
            "forbidden: User \"{user}\" cannot get path \"{}\"",
            received.path
        ),
    };
    failure(&Failure::new(StatusCode::FORBIDDEN, "Forbidden", &message))
}

impl KubernetesApi {
    /// The refusal of a request that needs a right of the `ClusterRole` which it does not grant.
    pub(super) fn denied(&self, received: &Received) -> Option<Response<Body>> {
        let right = ClusterRight::of(received)?;
        if lock(&self.cluster_rights).contains(&right) {
            return None;
        }
        let message = right.message(USER);
        Some(failure(&Failure::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            &message,
        )))
    }

    /// `SelfSubjectAccessReview`, which every user may create.
    pub(super) fn access(&self, received: &Received) -> Response<Body> {
        let Some(mut review) = received.json().filter(is_review) else {
            return status(
                StatusCode::BAD_REQUEST,
                "the body is no SelfSubjectAccessReview",
            );
        };
        let spec = &review["spec"];
        let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        if resource.is_null() == path.is_null() {
            let message = "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: \
                           spec.resourceAttributes: Invalid value: exactly one of nonResourceAttributes or \
                           resourceAttributes must be specified";
            return failure(&Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Invalid",
                message,
            ));
        }
        let cluster = lock(&self.cluster_rights);
        let allowed = if resource.is_null() {
            *path == json!({"verb": "get", "path": JWKS_PATH})
                && cluster.contains(&ClusterRight::ReadKeys)
        } else if resource["resource"] == "tokenreviews" {
            resource["group"] == "authentication.k8s.io"
                && resource["verb"] == "create"
                && cluster.contains(&ClusterRight::ReviewTokens)
        } else {
            self.may_use_secrets(resource)
        };
        review["status"] = json!({"allowed": allowed});
        body::json(StatusCode::CREATED, &review)
    }

    fn may_use_secrets(&self, asked: &Value) -> bool {
        let text = |key: &str| asked[key].as_str().unwrap_or_default();
        let name = Some(text("name")).filter(|name| !name.is_empty());
        let covers = |grant: &super::Grant| grant.covers(text("namespace"), text("verb"), name);
        text("resource") == "secrets"
            && text("group").is_empty()
            && self.secrets().grants.iter().any(covers)
    }
}

fn is_review(body: &Value) -> bool {
    body["kind"] == "SelfSubjectAccessReview" && body["apiVersion"] == "authorization.k8s.io/v1"
}
