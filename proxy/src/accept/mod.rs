//! The accept room.
