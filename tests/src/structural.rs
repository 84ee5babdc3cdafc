//! What a real API server demands of a custom resource definition, and of an object of such a kind.
//!
//! The rules are those of `apiextensions-apiserver`: a structural schema (`ValidateStructural`), the keywords that
//! are forbidden in `apiextensions.k8s.io/v1`, and the bounds that keep a rule in CEL cheap.

mod definition;
mod object;
mod rules;

pub use definition::problems;
pub use object::admit;

use serde_json::Value;

/// The schema of the first version of a definition.
pub fn schema(definition: &Value) -> &Value {
    &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

#[cfg(test)]
mod tests;
