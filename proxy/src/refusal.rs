//! The refusal.
