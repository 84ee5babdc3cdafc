//! The credential, just in time.
