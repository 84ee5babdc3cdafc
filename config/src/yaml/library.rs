//! serde-saphyr, and what it is told.

use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Options};

use super::Node;

/// The deepest nesting of lists and mappings. No resource comes near it. Each level uses stack, and a
/// reload runs on an ordinary thread.
pub(super) const MAX_DEPTH: usize = 32;

/// The tree of any document that begins after so many lines.
pub(super) fn document(text: &str, lines_before: usize) -> Result<Node, serde_saphyr::Error> {
    let mut root: Node = serde_saphyr::from_str_with_options(text, options())?;
    root.shift(lines_before);
    Ok(root)
}

pub(super) fn options() -> Options {
    serde_saphyr::options! {
        // `read` reports all duplicates, with their places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // Kubernetes does not support merge keys, and with them places would be wrong.
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        // A date is a text here, and so is everything that only some YAML parsers read as a number.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 16,
        },
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            max_events: 200_000,
        },
    }
}
