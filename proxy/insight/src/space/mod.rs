//! The requests that there are, cut into classes that a list of patterns cannot tell apart: computed from the
//! patterns, not sampled. Each class has an example.

pub(crate) mod hosts;
pub(crate) mod paths;
pub(crate) mod times;
mod words;

/// Some of the patterns of a list, by index, ascending.
pub(crate) type Set = Vec<u32>;

/// There are too many classes to look at each: the patterns overlap in too many ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooComplex;
