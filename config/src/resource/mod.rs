//! What is written: one file a kind, unknown keys refused.
