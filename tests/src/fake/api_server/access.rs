//! Who may do what: the objects of RBAC, what a test granted the gateway without them, and the reviews
//! by which users ask.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    JWKS_PATH, OPENID_PATH,
    failure::{Cause, Failure},
    request::{Query, Target, name_for_rbac, verb},
    state::State,
    storage::Key,
    text,
    user::User,
};
use crate::fake::Received;

/// The user whom the gateway's token proves.
pub(super) const USER: &str = "system:serviceaccount:countersign:countersign";

/// The paths that everybody may read.
const PUBLIC: [&str; 6] = [
    "/healthz", "/livez", "/readyz", "/version", "/livez/", "/readyz/",
];

/// The paths of discovery, for every user who has proven who they are.
const DISCOVERY: [&str; 4] = ["/api", "/apis", "/openapi", "/version"];

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

    fn covers(self, asked: &Attributes) -> bool {
        match self {
            Self::ReviewTokens => {
                asked.resource == "tokenreviews"
                    && asked.group == "authentication.k8s.io"
                    && asked.verb == "create"
            }
            Self::ReadKeys => asked.path == JWKS_PATH && asked.verb == "get",
        }
    }
}

/// What a request does, as RBAC sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) verb: String,
    pub(super) group: String,
    /// With its subresource.
    pub(super) resource: String,
    pub(super) namespace: String,
    pub(super) name: Option<String>,
    /// Instead of a resource.
    pub(super) path: String,
}

impl Attributes {
    pub(super) fn of(received: &Received, target: Option<&Target>, query: &Query) -> Self {
        match target {
            None => Self {
                verb: received.method.as_str().to_lowercase(),
                path: received.path.clone(),
                ..Self::default()
            },
            Some(target) => Self {
                verb: verb(&received.method, target, query).to_owned(),
                group: target.group.clone(),
                resource: target.with_subresource(),
                namespace: target.namespace.clone(),
                name: name_for_rbac(target, query),
                path: String::new(),
            },
        }
    }

    /// The API server's message about a user who may not.
    pub(super) fn forbidden(&self, user: &User) -> Failure {
        let (who, verb) = (&user.name, &self.verb);
        let message = if self.path.is_empty() {
            let (resource, group) = (&self.resource, &self.group);
            let plain = resource.split('/').next().unwrap_or_default();
            let dotted = match group.as_str() {
                "" => plain.to_owned(),
                group => format!("{plain}.{group}"),
            };
            let name = self.name.as_ref().map(|name| format!("\"{name}\" "));
            let place = match self.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace \"{namespace}\""),
            };
            format!(
                "{dotted} {}is forbidden: User \"{who}\" cannot {verb} resource \"{resource}\" in API \
                 group \"{group}\" {place}",
                name.unwrap_or_default()
            )
        } else {
            format!(
                "forbidden: User \"{who}\" cannot {verb} path \"{}\"",
                self.path
            )
        };
        Failure::new(StatusCode::FORBIDDEN, "Forbidden", &message)
    }
}

impl State {
    /// Whether a user may do this.
    pub(super) fn allows(&self, user: &User, asked: &Attributes) -> bool {
        if user.is_master() {
            return true;
        }
        let known = user
            .groups
            .iter()
            .any(|group| group == "system:authenticated");
        if known && (is_self_review(asked) || is_discovery(asked)) {
            return true;
        }
        // What `system:service-account-issuer-discovery` grants from the start.
        let is_account = user.groups.iter().any(|it| it == "system:serviceaccounts");
        if is_account && asked.path == OPENID_PATH && asked.verb == "get" {
            return true;
        }
        if PUBLIC.iter().any(|path| asked.path == *path) && asked.verb == "get" {
            return true;
        }
        let is_gateway = user.name == USER;
        let granted = self.grants.iter().any(|grant| grant.covers(asked))
            || self.cluster_rights.iter().any(|right| right.covers(asked));
        (is_gateway && granted) || self.bound(user, asked)
    }

    /// Whether a binding gives the user a role that grants this.
    fn bound(&self, user: &User, asked: &Attributes) -> bool {
        let cluster_wide = self
            .storage
            .all("rbac.authorization.k8s.io/clusterrolebindings", "")
            .filter(|(_, binding)| names(binding, user, ""))
            .any(|(_, binding)| self.role_grants(binding, "", asked));
        if cluster_wide || asked.namespace.is_empty() {
            return cluster_wide;
        }
        let collection = "rbac.authorization.k8s.io/rolebindings";
        self.storage
            .all(collection, &asked.namespace)
            .filter(|(_, binding)| names(binding, user, &asked.namespace))
            .any(|(_, binding)| self.role_grants(binding, &asked.namespace, asked))
    }

    fn role_grants(&self, binding: &Value, namespace: &str, asked: &Attributes) -> bool {
        let of_cluster = binding["roleRef"]["kind"] == "ClusterRole";
        let (resource, namespace) = if of_cluster {
            ("clusterroles", "")
        } else {
            ("roles", namespace)
        };
        let kind = self.built_in("rbac.authorization.k8s.io", resource);
        let key = Key::new(&kind, namespace, &text(&binding["roleRef"]["name"]));
        let role = self.storage.get(&key);
        let rules = role.and_then(|role| role["rules"].as_array());
        let rules = rules.map(Vec::as_slice).unwrap_or_default();
        rules.iter().any(|rule| rule_grants(rule, asked))
    }

    /// `SelfSubjectReview`.
    pub(super) fn review_self(user: &User, mut review: Value) -> Result<Value, Failure> {
        if review["kind"] != "SelfSubjectReview"
            || review["apiVersion"] != "authentication.k8s.io/v1"
        {
            return Err(Failure::bad_request("the body is no SelfSubjectReview"));
        }
        review["status"] = json!({"userInfo": {"username": user.name, "groups": user.groups}});
        Ok(review)
    }

    /// `SelfSubjectAccessReview` and `SubjectAccessReview`.
    pub(super) fn review_access(
        &self,
        user: &User,
        kind: &str,
        mut review: Value,
    ) -> Result<Value, Failure> {
        if review["kind"] != kind || review["apiVersion"] != "authorization.k8s.io/v1" {
            let message = format!("the body is no {kind}");
            return Err(Failure::bad_request(&message));
        }
        let spec = &review["spec"];
        let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        if resource.is_null() == path.is_null() {
            let message = "Invalid value: exactly one of nonResourceAttributes or resourceAttributes \
                           must be specified";
            let cause = Cause::invalid("spec.resourceAttributes", message);
            let kind = format!("{kind}.authorization.k8s.io");
            return Err(Failure::invalid(&kind, "", &[cause]));
        }
        let whom = match kind {
            "SelfSubjectAccessReview" => user.clone(),
            _ => User {
                name: text(&spec["user"]),
                groups: strings(&spec["groups"]),
            },
        };
        let allowed = self.allows(&whom, &asked_in(resource, path));
        review["status"] = json!({"allowed": allowed});
        Ok(review)
    }
}

fn asked_in(resource: &Value, path: &Value) -> Attributes {
    let subresource = text(&resource["subresource"]);
    let mut name = text(&resource["resource"]);
    if !subresource.is_empty() {
        name = format!("{name}/{subresource}");
    }
    let is_path = resource.is_null();
    Attributes {
        verb: text(&(if is_path { path } else { resource })["verb"]),
        group: text(&resource["group"]),
        resource: name,
        namespace: text(&resource["namespace"]),
        name: Some(text(&resource["name"])).filter(|name| !name.is_empty()),
        path: text(&path["path"]),
    }
}

fn is_self_review(asked: &Attributes) -> bool {
    let reviews = [
        "selfsubjectaccessreviews",
        "selfsubjectrulesreviews",
        "selfsubjectreviews",
    ];
    asked.verb == "create" && reviews.contains(&asked.resource.as_str())
}

fn is_discovery(asked: &Attributes) -> bool {
    asked.verb == "get"
        && DISCOVERY.iter().any(|root| {
            let rest = asked.path.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
}

/// Whether a binding names the user.
fn names(binding: &Value, user: &User, namespace: &str) -> bool {
    let subjects = binding["subjects"].as_array().map(Vec::as_slice);
    subjects.unwrap_or_default().iter().any(|subject| {
        let name = text(&subject["name"]);
        match subject["kind"].as_str() {
            Some("User") => name == user.name,
            Some("Group") => user.groups.contains(&name),
            Some("ServiceAccount") => {
                let of = subject["namespace"].as_str().unwrap_or(namespace);
                user.name == format!("system:serviceaccount:{of}:{name}")
            }
            _ => false,
        }
    })
}

fn rule_grants(rule: &Value, asked: &Attributes) -> bool {
    let lists = |list: &str, wanted: &str| {
        strings(&rule[list])
            .iter()
            .any(|known| known == "*" || known == wanted)
    };
    if !lists("verbs", &asked.verb) {
        return false;
    }
    if !asked.path.is_empty() {
        return strings(&rule["nonResourceURLs"]).iter().any(|known| {
            let prefix = known.strip_suffix('*');
            *known == asked.path || prefix.is_some_and(|prefix| asked.path.starts_with(prefix))
        });
    }
    let only = strings(&rule["resourceNames"]);
    let named = match &asked.name {
        _ if only.is_empty() => true,
        // The name of what is created is not known to RBAC.
        Some(name) if asked.verb != "create" => only.contains(name),
        _ => false,
    };
    named && lists("apiGroups", &asked.group) && lists("resources", &asked.resource)
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(text).collect()
}
