//! Turns a fetched value into the slot's current value.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{CredentialError, Fetched, Issued, Slot, Value};

impl Slot {
    /// Makes a fetched value usable. An unchanged value keeps its generation.
    pub(super) fn issue(
        &self,
        fetched: Fetched,
        held: Option<&Arc<Issued>>,
    ) -> Result<Arc<Issued>, CredentialError> {
        let now = self.clock.now();
        if let Some(at) = fetched.expires_at.filter(|at| *at <= now) {
            return Err(CredentialError::Expired { at });
        }
        let run_ends_at = self.caller.as_ref().map(|caller| caller.expires_at());
        if run_ends_at.is_some_and(|at| at <= now) {
            return Err(CredentialError::RunOver);
        }
        let same = held.filter(|held| *held.secret() == fetched.secret);
        if let Some(held) = same.filter(|held| held.renew_at.is_none_or(|at| now < at))
            && fetched.expires_at.is_none()
        {
            return Ok(Arc::clone(held));
        }
        let issuer_ends_at = fetched.expires_at;
        let own_bound = self
            .credential
            .max_age
            .and_then(|age| now.checked_add(age).ok());
        let renewable_until = [fetched.expires_at, own_bound].into_iter().flatten().min();
        let expires_at = renewable_until.into_iter().chain(run_ends_at).min();
        // A value that ends with its caller's run cannot be renewed beyond that.
        let renewal = renewable_until
            .filter(|_| expires_at == renewable_until)
            .map(|end| match fetched.renew_at {
                Some(at) => (at.min(end), at.min(end)),
                None => renewal(now, end),
            });
        let value = same.map_or_else(
            || {
                Arc::new(Value::new(
                    fetched.secret,
                    issuer_ends_at,
                    fetched.revocation,
                    &self.credential,
                    &self.revoker,
                ))
            },
            |held| {
                held.value.now_ends(issuer_ends_at);
                Arc::clone(&held.value)
            },
        );
        Ok(Arc::new(Issued {
            value,
            name: self.credential.name.clone(),
            generation: same.map_or_else(
                || self.generations.next(&self.credential.name),
                |held| held.generation,
            ),
            obtained_at: now,
            expires_at,
            renew_ahead_at: renewal.map(|(ahead, _)| ahead),
            renew_at: renewal.map(|(_, at)| at),
            recheck: fetched.recheck,
            dynamic_secret: fetched.dynamic_secret,
            stale: Arc::clone(&self.stale),
        }))
    }
}

/// Renew on use at 80 % of the lifetime; in the background up to 10 % of it earlier, jittered, so that
/// many gateways do not ask at once.
fn renewal(from: Timestamp, end: Timestamp) -> (Timestamp, Timestamp) {
    let life: SignedDuration = end.duration_since(from);
    let at = end.checked_sub(life / 5).unwrap_or(from);
    let mut random = [0];
    // Without randomness only the jitter is lost.
    let spread = aws_lc_rs::rand::fill(&mut random).map_or(0, |()| i32::from(random[0]));
    let ahead = at.checked_sub(life / 10 * spread / 256).unwrap_or(from);
    (ahead, at)
}
