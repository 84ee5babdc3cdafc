//! Resources that are objects of a cluster.
//!
//! Files are one revision: all of it or nothing. Objects belong to many tenants, so each is accepted on its own: one
//! that is wrong keeps its last accepted version in force, and takes nothing else with it. And what somebody writes in
//! one namespace reaches no other: `docs/namespaces.md` has the rules, `validate` holds them.

mod accepted;
mod mirror;
mod object;
mod report;
mod tree;

pub use accepted::{Accepted, InForce};
pub use mirror::{Mirror, Scope, Seen};
pub use object::{Key, Object, Version};
pub use report::{Access, CredentialStanding, Report, Used};
pub(crate) use tree::{path_at, to_node};

use std::fmt;

use crate::problem::Severity;

/// The objects of a cluster at one moment, and what was accepted of them before.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// All of them.
    pub all: Vec<Object>,
    /// What holds for them.
    pub boundary: Boundary,
}

/// What the operator of the gateway says about the objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boundary {
    /// The namespace whose `TargetService`s hold for the whole cluster, and whose credentials may be in files and
    /// in Vault.
    pub operator_namespace: Option<String>,
    /// The issuer of this cluster's tokens: objects select nobody else.
    pub cluster: Option<String>,
}

impl Boundary {
    /// Whether it is the operator's namespace.
    pub fn is_operators(&self, namespace: &str) -> bool {
        self.operator_namespace.as_deref() == Some(namespace)
    }
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which object.
    pub key: Key,
    /// Of the object that was looked at.
    pub uid: String,
    /// The generation that was looked at.
    pub generation: i64,
    /// The generation in force, if any is.
    pub in_force: Option<i64>,
    /// Whether the generation that was looked at is right. It may be in force in part if it is not.
    pub accepted: bool,
    /// What is wrong with it, and what is probably not meant.
    pub findings: Vec<Finding>,
}

/// A finding about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name, the same as for files.
    pub code: &'static str,
    /// Where, such as `spec.allow[0].methods[1]`; empty if it is about the whole object.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// As a finding about a file, with the place in the object instead of the line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}: {}; {}", self.code, self.message, self.remedy)
    }
}

#[cfg(test)]
mod tests;
