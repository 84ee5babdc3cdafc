//! The identify room.
