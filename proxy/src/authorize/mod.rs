//! The authorize room.
