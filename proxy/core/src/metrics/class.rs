//! Whose decisions are counted: of callers who proved who they are, or of anybody.

/// Records of one class have a queue and a file of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The caller is proven.
    Identified,
    /// Anybody who reaches a listener.
    Unidentified,
}

impl Class {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Identified, Self::Unidentified];

    /// Its name in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identified => "identified",
            Self::Unidentified => "unidentified",
        }
    }
}
