//! Why a decision log cannot be started or ended.

use std::{io, path::PathBuf};

use super::{super::trace::TraceError, sink::OpenError};

/// Why a decision log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened for appending.
    #[error("the decision log {path} cannot be opened")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory of the checkpoints cannot be used.
    #[error("{path} (observe.audit.directory) cannot be used")]
    Audit {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A sink cannot be opened.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Spans cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The system gave no thread.
    #[error("the decision log's thread cannot be started")]
    Thread(#[source] io::Error),
}

impl LogError {
    pub(super) fn of(error: OpenError) -> Self {
        match error {
            OpenError::File(path, source) => Self::Open { path, source },
            error @ OpenError::Otlp { .. } => Self::Sink(SinkError(error)),
        }
    }
}

/// Why a sink among several cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SinkError(OpenError);

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TracesError(pub(super) TraceError);

/// The records left in the queue could not be written in time; they are lost.
#[derive(Debug, thiserror::Error)]
#[error("the decision log could not be written in time")]
pub struct DrainTimedOut;
