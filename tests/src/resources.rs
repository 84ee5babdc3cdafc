//! Resources as an operator writes them, built piece by piece: targets, credentials, workloads and
//! access policies, with what all tests write alike filled in.
//!
//! ```
//! use countersign_tests::resources::{Resource, Resources};
//! use serde_json::json;
//!
//! let mut resources = Resources::from([
//!     Resource::target("example", &["api.example.test"]).bearer(),
//!     Resource::credential("example", "example").token_file("example"),
//!     Resource::access("dashboard-uses-example", "nightly-dashboard", "example")
//!         .credential_named("example")
//!         .allow(json!({"methods": ["GET"], "paths": ["/**"]})),
//! ]);
//! resources.access("dashboard-uses-example")["conditions"] = json!({"rate": "2/h"});
//! ```

use std::{
    fmt,
    ops::{Index, IndexMut},
};

use serde_json::{Value, json};

/// Where [`Environment`](crate::environment::Environment) puts the directory of its secrets.
pub const SECRETS: &str = "{secrets}";

/// The resources of one file.
#[derive(Debug, Clone, Default)]
pub struct Resources(Vec<Resource>);

/// One resource. Its `spec` is reached by index, by the keys that an operator writes.
#[derive(Debug, Clone)]
pub struct Resource {
    kind: Kind,
    name: String,
    spec: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    TargetService,
    Credential,
    Workload,
    AccessPolicy,
}

impl Resources {
    /// Adds a resource.
    pub fn push(&mut self, resource: Resource) {
        self.0.push(resource);
    }

    /// The target of this name.
    pub fn target(&mut self, name: &str) -> &mut Resource {
        self.find(Kind::TargetService, name)
    }

    /// The credential of this name.
    pub fn credential(&mut self, name: &str) -> &mut Resource {
        self.find(Kind::Credential, name)
    }

    /// The workload of this name.
    pub fn workload(&mut self, name: &str) -> &mut Resource {
        self.find(Kind::Workload, name)
    }

    /// The access policy of this name.
    pub fn access(&mut self, name: &str) -> &mut Resource {
        self.find(Kind::AccessPolicy, name)
    }

    /// Takes the access policy of this name out.
    pub fn remove_access(&mut self, name: &str) {
        self.access(name);
        self.0
            .retain(|resource| resource.kind != Kind::AccessPolicy || resource.name != name);
    }

    fn find(&mut self, kind: Kind, name: &str) -> &mut Resource {
        let mut all = self.0.iter_mut();
        all.find(|resource| resource.kind == kind && resource.name == name)
            .unwrap_or_else(|| panic!("there is no {kind:?} {name}"))
    }
}

impl<const N: usize> From<[Resource; N]> for Resources {
    fn from(resources: [Resource; N]) -> Self {
        Self(resources.into())
    }
}

/// As YAML, one document a resource.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|resource| resource.fmt(f))
    }
}

impl Resource {
    /// An API at these hosts, with no route yet.
    pub fn target(name: &str, hosts: &[&str]) -> Self {
        Self::new(Kind::TargetService, name).with("hosts", json!(hosts))
    }

    /// What an operator adds to an API that the catalog knows.
    pub fn extended_target(name: &str) -> Self {
        Self::new(Kind::TargetService, name).with("extends", json!(name))
    }

    /// A workload that runs as the service account of the same name.
    pub fn workload(name: &str) -> Self {
        Self::new(Kind::Workload, name)
            .with("owner", json!("qa-platform@example.com"))
            .with("purpose", json!("Is tested"))
            .with("environment", json!("test"))
            .with("reviewBy", json!("2099-06-30"))
            .with(
                "match",
                json!([{"cluster": "prod-eu", "serviceAccount": name}]),
            )
    }

    /// A credential for a target, obtained in no way yet.
    pub fn credential(name: &str, target: &str) -> Self {
        Self::new(Kind::Credential, name).with("target", json!(target))
    }

    /// An access policy that lets a workload do nothing yet.
    pub fn access(name: &str, workload: &str, target: &str) -> Self {
        Self::new(Kind::AccessPolicy, name)
            .with("owner", json!("qa-platform@example.com"))
            .with("workloads", json!([workload]))
            .with("target", json!(target))
            .with("allow", json!([]))
    }

    /// Sets a key of the `spec`.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.spec[key] = value;
        self
    }

    /// A target: every request carries the slot `token` as a bearer token.
    #[must_use]
    pub fn bearer(self) -> Self {
        self.with("slots", json!({"default": "token", "names": ["token"]}))
            .with(
                "routes",
                json!([{
                    "paths": ["/**"],
                    "attach": {"slot": "token", "header": "Authorization", "value": "Bearer {token}"},
                }]),
            )
    }

    /// A credential: a token in a file of the environment's secrets.
    #[must_use]
    pub fn token_file(self, secret: &str) -> Self {
        self.with("static", json!({"token": secret_file(secret)}))
    }

    /// An access policy: with this credential.
    #[must_use]
    pub fn credential_named(self, credential: &str) -> Self {
        self.with("credential", json!(credential))
    }

    /// An access policy: allows this too.
    ///
    /// # Panics
    /// If this is none.
    #[must_use]
    pub fn allow(mut self, rule: Value) -> Self {
        let rules = self.spec["allow"].as_array_mut();
        rules.expect("an access policy has rules").push(rule);
        self
    }

    fn new(kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            spec: json!({}),
        }
    }
}

impl Index<&str> for Resource {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.spec[key]
    }
}

impl IndexMut<&str> for Resource {
    fn index_mut(&mut self, key: &str) -> &mut Value {
        &mut self.spec[key]
    }
}

/// Values are written as JSON, which is YAML too.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = match self.kind {
            Kind::TargetService => "",
            _ => ", namespace: qa",
        };
        writeln!(f, "---\napiVersion: countersign.dev/v1alpha1")?;
        writeln!(f, "kind: {:?}", self.kind)?;
        writeln!(f, "metadata: {{ name: {}{namespace} }}", self.name)?;
        writeln!(f, "spec:")?;
        let mut keys = self.spec.as_object().into_iter().flatten();
        keys.try_for_each(|(key, value)| writeln!(f, "  {key}: {value}"))
    }
}

/// A secret of the environment, read from its file.
pub fn secret_file(name: &str) -> Value {
    json!({"file": format!("{SECRETS}/{name}")})
}
