//! The class of a decision: of an identified caller, or of an unidentified client.

/// Each class has its own queue and file of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The caller is identified.
    Identified,
    /// Any client that reaches a listener.
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
