//! What the tests of several rooms stand on.

pub(crate) mod site;
pub(crate) mod support;
