//! A response whose head has come.

use countersign_core::wire::connection_state::InFlightGuard;
use http::Response;

use super::{
    answer::{AnswerBody, Streamed},
    switched::Switched,
};
use crate::observe::Record;

/// A response whose head has come, before it is handed to the client with its record.
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
pub(super) enum Opened {
    /// An ordinary response.
    Streamed(Streamed),
    /// A `101`: what follows runs in a task of its own and takes the record with it.
    Switched(Switched),
}

impl Opened {
    /// The response, which closes the record when its body has ended.
    pub(super) fn answer(self, record: Record, in_flight: InFlightGuard) -> Response<AnswerBody> {
        match self {
            Self::Streamed(streamed) => streamed.answer(record, in_flight),
            Self::Switched(switched) => switched.answer(record, in_flight),
        }
    }
}
