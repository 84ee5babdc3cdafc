//! What a Role grants the gateway, without the objects of RBAC.

/// What a Role grants the gateway in one namespace, or a `ClusterRole` everywhere.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, such as `secrets` or `pods/status`.
    pub resource: String,
    /// The namespace; all of them if it is empty.
    pub namespace: String,
    /// The verbs.
    pub verbs: Vec<String>,
    /// The names it is for; all of them if `None`.
    pub names: Option<Vec<String>>,
}

impl Grant {
    /// These verbs on all Secrets of a namespace.
    pub fn all(namespace: &str, verbs: &[&str]) -> Self {
        Self::on("secrets", namespace, verbs)
    }

    /// These verbs on one Secret.
    pub fn one(namespace: &str, name: &str, verbs: &[&str]) -> Self {
        Self {
            names: Some(vec![name.to_owned()]),
            ..Self::all(namespace, verbs)
        }
    }

    /// These verbs on a resource, named like `pods` or `jobs.batch`.
    pub fn on(resource: &str, namespace: &str, verbs: &[&str]) -> Self {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        Self {
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
            names: None,
        }
    }

    /// RBAC knows no name of what is created, nor of a whole collection.
    pub(super) fn covers(&self, asked: &super::access::Attributes) -> bool {
        let named = match (&self.names, &asked.name) {
            (None, _) => true,
            (Some(names), Some(name)) => names.contains(name),
            (Some(_), None) => false,
        };
        named
            && (self.namespace.is_empty() || self.namespace == asked.namespace)
            && self.group == asked.group
            && self.resource == asked.resource
            && self.verbs.contains(&asked.verb)
    }
}
