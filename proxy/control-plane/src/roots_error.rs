//! Why a file of roots cannot be used.

use std::{path::Path, sync::Arc};

/// Why a file of roots cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// It cannot be read.
    #[error("the roots in {} cannot be read ({reason})", file.display())]
    Unreadable {
        /// The file.
        file: Arc<Path>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// It holds no certificate.
    #[error("{} has no usable PEM certificate", file.display())]
    NoCertificate {
        /// The file.
        file: Arc<Path>,
    },
    /// No client can be made with it.
    #[error("no HTTP client can be made ({0})")]
    Client(Arc<str>),
}
