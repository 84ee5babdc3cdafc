//! Reading a directory of YAML files into one [`PolicySet`], whole or not at all.

use std::path::Path;

use crate::{model::Gateway, policy::PolicySet, problem::Problems};

/// A usable revision and what is worth a warning about it.
#[derive(Debug)]
pub struct Loaded {
    /// The resources.
    pub policies: PolicySet,
    /// Warnings only.
    pub warnings: Problems,
}

/// Loads every `*.yaml` and `*.yml` file of the given directories (or single files), in the order
/// of their names, with the catalog beneath them.
pub fn resources<P: AsRef<Path>>(_paths: &[P]) -> Result<Loaded, Problems> {
    unimplemented!()
}

/// Loads the file that starts a gateway.
pub fn gateway(_path: &Path) -> Result<(Gateway, Problems), Problems> {
    unimplemented!()
}
