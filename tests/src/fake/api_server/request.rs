//! What a request is about: the parts of its path, and its verb as RBAC names it.

use http::Method;

use crate::fake::{Received, memory::fields};

/// The resource that a path names.
#[derive(Debug, Clone, Default)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    /// Empty for the whole cluster.
    pub(super) namespace: String,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Target {
    /// `None` if the path names no resource.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
        let parts: Vec<&str> = decoded.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let of_namespace = ["status", "finalize"];
        let (namespace, rest) = match rest {
            ["namespaces", _, subresource] if of_namespace.contains(subresource) => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (resource, name, subresource) = match rest {
            [resource] => (*resource, None, None),
            [resource, name] => (*resource, Some(*name), None),
            [resource, name, subresource] => (*resource, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
        })
    }

    /// `pods`, `jobs.batch`.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods/status`, as RBAC names a subresource.
    pub(super) fn with_subresource(&self) -> String {
        match &self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.clone(),
        }
    }
}

/// The fields of a query.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(received: &Received) -> Self {
        Self(received.query.as_deref().map(fields).unwrap_or_default())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }
}

/// The verb as RBAC names it.
pub(super) fn verb(method: &Method, target: &Target, query: &Query) -> &'static str {
    let named = target.name.is_some();
    match *method {
        Method::GET | Method::HEAD if query.is_true("watch") => "watch",
        Method::GET | Method::HEAD if named => "get",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

/// The name that RBAC's `resourceNames` are compared with: of a collection it is the one that its field
/// selector asks for.
pub(super) fn name_for_rbac(target: &Target, query: &Query) -> Option<String> {
    let selected = || {
        let selector = query.get("fieldSelector")?;
        let mut terms = selector.split(',').filter_map(|term| {
            let name = term.strip_prefix("metadata.name=")?;
            Some(name.trim_start_matches('=').to_owned())
        });
        terms.next()
    };
    target.name.clone().or_else(selected)
}
