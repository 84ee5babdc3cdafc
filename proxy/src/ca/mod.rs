//! The ca room.
