//! What the console sees of the gateway that it is part of.

use std::path::PathBuf;

use countersign_config::{model::Governance, policy::PolicySet};
use serde_json::Value;

/// What the console sees of a gateway: nothing of it is secret, and nothing can be changed. All methods are called on
/// threads that may wait.
pub trait Source: Send + Sync + 'static {
    /// The gateway's name.
    fn name(&self) -> String;

    /// Shows the policies in force, exactly once.
    fn policies(&self, see: &mut dyn FnMut(&PolicySet));

    /// How the credentials stand: the answer of `/credentials`.
    fn credentials(&self) -> Value;

    /// Whether the gateway serves, and what hinders that: the answer of `/readyz`.
    fn readiness(&self) -> Value;

    /// The latest lines of the decision log from memory, which are read where there is no file.
    fn records(&self) -> Vec<u8>;

    /// The files of the decision log, without the rotated ones beside them.
    fn logs(&self) -> Vec<PathBuf>;

    /// The directory of the kept revisions, if there is one.
    fn revisions(&self) -> Option<PathBuf>;

    /// The file with the last uses, if there is one.
    fn last_use(&self) -> Option<PathBuf>;

    /// What the gateway's `governance` asks for.
    fn governance(&self) -> Option<Governance>;
}
