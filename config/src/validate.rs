//! From what is written to what is usable; the only constructor of [`crate::model`].
