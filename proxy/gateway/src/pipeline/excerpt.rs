//! A copy of a response's first bytes, made while it streams, in which the API may report an error. Nothing
//! is delayed for it.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use countersign_config::model::Target;
use countersign_core::budget::{Charge, Purse};
use countersign_upstream::detect::ResponseMeta;

/// The beginning of a response that may report an error.
pub(super) struct Excerpt {
    /// The first piece, not copied.
    first: Bytes,
    /// What follows it, copied: a reference to a few bytes would keep their whole buffer alive.
    rest: Vec<u8>,
    room: usize,
    charge: Charge,
}

impl Excerpt {
    /// Copies a response if it can report an error: a failing status with a text, or JSON from an API that
    /// reports errors with status 200.
    pub(super) fn wanted(
        target: &Target,
        meta: ResponseMeta,
        limit: usize,
        purse: &Arc<Purse>,
    ) -> Option<Self> {
        let says_so_in_json = target.auth_failure.iter().any(|rule| !rule.json.is_empty());
        let wanted = (meta.is_json() && says_so_in_json) || meta.status_failed();
        (wanted && meta.is_readable()).then(|| Self {
            first: Bytes::new(),
            rest: Vec::new(),
            room: limit,
            charge: purse.charge(),
        })
    }

    /// Keeps a piece. If it does not fit, or there is no memory for it, the excerpt ends: the response is
    /// too long to be an error.
    pub(super) fn take(&mut self, data: &Bytes) {
        let held = self.first.len() + 2 * (self.rest.len() + data.len());
        if data.len() > self.room || self.charge.set(held).is_err() {
            self.room = 0;
            self.first = Bytes::new();
            self.rest = Vec::new();
            return;
        }
        self.room -= data.len();
        if self.first.is_empty() {
            self.first = data.clone();
        } else {
            self.rest.extend_from_slice(data);
        }
    }

    /// The copied bytes; none if the response was too long.
    pub(super) fn body(&self) -> Cow<'_, [u8]> {
        if self.rest.is_empty() {
            Cow::Borrowed(&self.first)
        } else {
            Cow::Owned([&self.first, self.rest.as_slice()].concat())
        }
    }
}
