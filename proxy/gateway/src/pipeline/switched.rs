//! What follows a `101`: client and upstream exchange bytes that are not inspected.

use std::sync::Arc;

use countersign_core::{slots::Slot, wire::connection_state::InFlightGuard};
use countersign_upstream::forward::Upgraded;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::answer::AnswerBody;
use crate::{
    lifecycle::Tasks,
    observe::{Outcome, Record},
    session::pump::{self, pump},
};

/// A connection that both sides agreed to switch.
pub(super) struct Switched {
    pub(super) response: Response<()>,
    pub(super) client: OnUpgrade,
    pub(super) upstream: Upgraded,
    pub(super) bounds: pump::Bounds,
    pub(super) slot: Arc<Slot>,
    pub(super) tasks: Tasks,
}

impl Switched {
    /// The `101` for the client; the stream runs in a task with the record until it ends.
    pub(super) fn answer(self, record: Record, in_flight: InFlightGuard) -> Response<AnswerBody> {
        let Self {
            response,
            client,
            upstream,
            bounds,
            slot,
            tasks,
        } = self;
        in_flight.switch();
        let carried = async move {
            let _in_flight = in_flight;
            // The client left before it had the response; dropping the record says so.
            let Ok(client) = client.await else { return };
            let client = TokioIo::new(client);
            pump(client, upstream, record, bounds, Outcome::Permitted).await;
        };
        tasks.spawn(async move { slot.within(carried).await });
        response.map(|()| AnswerBody::empty())
    }
}
