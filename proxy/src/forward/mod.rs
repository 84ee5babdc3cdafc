//! The forward room.
