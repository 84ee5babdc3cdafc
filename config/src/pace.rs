//! What keeps long work from holding up requests on the same core.

/// Lets a waiting thread have the core. Reading thousands of resources takes longer than a slice of the
/// scheduler, and a request would wait for its end; so this is called after each resource.
pub(crate) fn yield_core() {
    std::thread::yield_now();
}

/// The same in short steps, of which this is the `index`th.
pub(crate) fn yield_core_at(index: usize) {
    if index.is_multiple_of(32) {
        yield_core();
    }
}
