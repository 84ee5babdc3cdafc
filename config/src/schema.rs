//! JSON Schema from the same types.
