//! The rights that the gateway needs at an API server: all of those for one purpose together, so that a role is
//! corrected once.

use std::sync::Arc;

use serde_json::{Value, json};

/// A right, as a rule of RBAC grants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// A verb on objects of the API.
    Resource {
        /// The verb.
        verb: &'static str,
        /// The API group; empty for the core group.
        group: &'static str,
        /// The resource, in the plural.
        resource: &'static str,
        /// Its namespace; `None` for a resource of the whole cluster.
        namespace: Option<Arc<str>>,
        /// The one object that it is for. RBAC knows no name of what is created.
        name: Option<Arc<str>>,
    },
    /// A verb on a path that is not a resource.
    Path {
        /// The verb, an HTTP method in lower case.
        verb: &'static str,
        /// The path.
        path: Arc<str>,
    },
}

impl Right {
    /// The right to create `TokenReviews`.
    pub fn to_review_tokens() -> Self {
        Self::Resource {
            verb: "create",
            group: "authentication.k8s.io",
            resource: "tokenreviews",
            namespace: None,
            name: None,
        }
    }

    /// The right to read a path, such as that of the issuer's keys.
    pub fn to_read(path: &str) -> Self {
        Self::Path {
            verb: "get",
            path: path.into(),
        }
    }

    /// The right to do something with one Secret.
    pub fn on_secret(verb: &'static str, namespace: &str, name: &str) -> Self {
        Self::Resource {
            verb,
            group: "",
            resource: "secrets",
            namespace: Some(namespace.into()),
            name: (verb != "create").then(|| name.into()),
        }
    }

    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Resource { verb, .. } | Self::Path { verb, .. } => verb,
        }
    }

    /// `authorization.k8s.io/v1`, `SelfSubjectAccessReview`.
    pub(super) fn question(&self) -> Value {
        let spec = match self {
            Self::Resource {
                verb,
                group,
                resource,
                namespace,
                name,
            } => json!({"resourceAttributes": {
                "verb": verb,
                "group": group,
                "resource": resource,
                "namespace": namespace.as_deref().unwrap_or_default(),
                "name": name.as_deref().unwrap_or_default(),
            }}),
            Self::Path { verb, path } => {
                json!({"nonResourceAttributes": {"verb": verb, "path": &**path}})
            }
        };
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": spec,
        })
    }

    /// What the right is for, with the same verbs removed: `Secret slack in namespace qa`.
    fn object(&self) -> String {
        match self {
            Self::Resource {
                resource: "secrets",
                namespace: Some(namespace),
                name,
                ..
            } => match name {
                Some(name) => format!("Secret {name} in namespace {namespace}"),
                None => format!("Secrets in namespace {namespace}"),
            },
            Self::Resource {
                resource, group, ..
            } => format!("{resource}.{group}"),
            Self::Path { path, .. } => path.to_string(),
        }
    }

    /// The rule that grants it, without its verbs.
    fn rule(&self) -> String {
        match self {
            Self::Resource {
                group,
                resource,
                name,
                ..
            } => {
                let group = if group.is_empty() { "\"\"" } else { group };
                let names = name.as_deref();
                let names = names.map(|name| format!("resourceNames: [{name}], "));
                format!(
                    "apiGroups: [{group}], resources: [{resource}], {}",
                    names.unwrap_or_default()
                )
            }
            Self::Path { path, .. } => format!("nonResourceURLs: [{path}], "),
        }
    }
}

/// Rights that the API server does not grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRights {
    /// The user that the API server takes the gateway for; empty if it did not say.
    user: Arc<str>,
    /// The missing rights; never empty.
    missing: Arc<[Right]>,
    /// All rights that are needed for the same purpose.
    needed: Arc<[Right]>,
}

impl MissingRights {
    /// These rights of those that are needed; both are not empty.
    pub(super) fn new(user: Arc<str>, missing: Arc<[Right]>, needed: Arc<[Right]>) -> Self {
        Self {
            user,
            missing,
            needed,
        }
    }

    /// The first missing verb.
    pub fn verb(&self) -> &'static str {
        self.missing.first().map_or("get", Right::verb)
    }

    /// One missing right, of which the API server said nothing more.
    pub fn only(right: Right) -> Self {
        let rights: Arc<[Right]> = [right].into();
        Self {
            user: "".into(),
            missing: Arc::clone(&rights),
            needed: rights,
        }
    }
}

impl std::fmt::Display for MissingRights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let who = match &*self.user {
            "" => "the gateway".to_owned(),
            user => format!("the gateway ({user})"),
        };
        let doing = grouped(&self.missing, Right::object);
        let doing: Vec<_> = doing
            .into_iter()
            .map(|(object, verbs)| format!("{} {object}", verbs.join(" and ")))
            .collect();
        let rules = grouped(&self.needed, Right::rule);
        let rules: Vec<_> = rules
            .into_iter()
            .map(|(rule, verbs)| format!("{{{rule}verbs: [{}]}}", verbs.join(", ")))
            .collect();
        let namespace = self.needed.iter().find_map(|right| match right {
            Right::Resource { namespace, .. } => namespace.as_deref(),
            Right::Path { .. } => None,
        });
        let role = match namespace {
            Some(namespace) => format!("a Role in namespace {namespace}"),
            None => "a ClusterRole (the Helm chart's `rbac.create` makes it)".to_owned(),
        };
        write!(
            f,
            "it does not allow {who} to {}; bind its service account to {role} with rules: [{}]",
            doing.join(", nor to "),
            rules.join(", ")
        )
    }
}

/// The verbs of rights on the same object together, in order.
fn grouped(rights: &[Right], by: fn(&Right) -> String) -> Vec<(String, Vec<&'static str>)> {
    let mut groups: Vec<(String, Vec<&'static str>)> = Vec::new();
    for right in rights {
        let object = by(right);
        match groups.iter_mut().find(|(known, _)| *known == object) {
            Some((_, verbs)) => verbs.push(right.verb()),
            None => groups.push((object, vec![right.verb()])),
        }
    }
    groups
}

#[cfg(test)]
mod tests;
