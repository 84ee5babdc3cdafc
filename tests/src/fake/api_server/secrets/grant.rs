//! What a Role grants.

/// What a Role grants the gateway in one namespace.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The namespace.
    pub namespace: String,
    /// The verbs.
    pub verbs: Vec<String>,
    /// The names it is for; all of them if `None`.
    pub names: Option<Vec<String>>,
}

impl Grant {
    /// These verbs on all Secrets of a namespace.
    pub fn all(namespace: &str, verbs: &[&str]) -> Self {
        Self {
            namespace: namespace.to_owned(),
            verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
            names: None,
        }
    }

    /// These verbs on one Secret.
    pub fn one(namespace: &str, name: &str, verbs: &[&str]) -> Self {
        Self {
            names: Some(vec![name.to_owned()]),
            ..Self::all(namespace, verbs)
        }
    }

    /// RBAC knows no name of what is created, nor of a whole collection.
    pub(in crate::fake::api_server) fn covers(
        &self,
        namespace: &str,
        verb: &str,
        name: Option<&str>,
    ) -> bool {
        let named = match (&self.names, name) {
            (None, _) => true,
            (Some(names), Some(name)) => names.iter().any(|known| known == name),
            (Some(_), None) => false,
        };
        named && self.namespace == namespace && self.verbs.iter().any(|known| known == verb)
    }
}
