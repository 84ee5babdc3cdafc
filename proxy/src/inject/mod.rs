//! The inject room.
