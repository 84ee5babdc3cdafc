//! Slack's token rotation (<https://docs.slack.dev/authentication/using-token-rotation>).
//!
//! An access token is valid for 12 hours. The next one is bought with a single-use refresh token, which
//! comes with its own successor: a chain that begins with a seed from the operator. Losing the newest
//! refresh token means losing the workspace. So a refresh is claimed in the state store before it is
//! sent ([`crate::state`]), and its result is durable there before anyone uses it.
//!
//! Slack accepts a spent refresh token once more for a short, undocumented time. So a request without a
//! response, because of a broken connection or a crash, is retried at once with the same token. At most
//! two access tokens of an installation are valid, so none is minted without need: a newer one in the
//! store is always used first.

mod call;
mod keep;
mod memory;
mod revoke;
mod seed;

pub(crate) use keep::{keep_before_end, keep_soon};
pub(crate) use memory::Memory;
pub(crate) use revoke::revoke;

use countersign_config::{
    host::Host,
    model::{ResourceName, SecretSource, SlackSeed},
};
use countersign_core::secret::Secret;
use jiff::{SignedDuration, Timestamp};

use super::{FetchRequest, Fetched};
use crate::{
    CredentialError, ProviderContext,
    error::RotationError,
    revocation::Revocation,
    source::Form,
    state::{Access, ClaimGuard, ClaimOutcome, Fingerprint, Pair, StateDocument, StateError},
};
use call::{Client, Grant};
use seed::Seed;

/// An access token is refreshed this long before it expires, as Slack's SDKs do, or in the last quarter
/// of a shorter lifetime.
const AHEAD: SignedDuration = SignedDuration::from_hours(2);

/// Different credentials are refreshed at different times within this span. All replicas agree on the
/// time for each: one refreshes and the others watch it, so that if it dies it is replaced at once.
const SPREAD_SECS: u64 = 600;

/// If a refresh fails while the token is still valid, it is retried after this.
const TRY_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// The app that rotates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct App<'a> {
    pub(crate) host: &'a Host,
    pub(crate) client_id: &'a str,
    pub(crate) client_secret: &'a SecretSource,
    pub(crate) seed: &'a SlackSeed,
}

/// One fetch.
struct Rotation<'a> {
    request: &'a FetchRequest<'a>,
    app: App<'a>,
    context: &'a ProviderContext,
    seed: Result<Seed, CredentialError>,
}

/// A way to the next pair.
#[derive(Clone)]
enum Step<'a> {
    /// Store what an earlier fetch bought and could not store; what it was bought with.
    Keep(Fingerprint),
    /// Begin a chain.
    Begin(&'a Seed),
    /// Continue the chain.
    Continue(Secret),
}

pub(crate) async fn fetch(
    request: &FetchRequest<'_>,
    app: App<'_>,
    context: &ProviderContext,
) -> Result<Fetched, CredentialError> {
    let seed = Seed::read(request, app.seed, context).await;
    let rotation = Rotation {
        request,
        app,
        context,
        seed,
    };
    let name = &request.credential.name;
    // The process should not end before this fetch is settled.
    let _unfinished = context.rotations.begin();
    let kept = context.state.read(name).await?.document;
    if let Some(fetched) = rotation.usable(&kept) {
        return Ok(fetched);
    }
    // Boxed, because it is rare and large.
    let settled = Box::pin(rotation.advance()).await;
    settled.or_else(|error| rotation.bridged(&kept, error))
}

/// The stored access token, if it is valid and not the one that was rejected. Spends nothing.
pub(crate) async fn renewed_elsewhere(
    request: &FetchRequest<'_>,
    context: &ProviderContext,
) -> Option<Fetched> {
    let name = &request.credential.name;
    let read = context.state.read(name).await;
    let read = read.inspect_err(
        |error| tracing::debug!(credential = %name, %error, "the stored token could not be read"),
    );
    let kept = read.ok()?.document;
    let access = living(request, &kept, context.state.now())?;
    Some(fetched(access, renewal(access)))
}

/// Whether a refresh began and its result is unknown. If the store does not respond, the first request
/// asks it again.
pub(crate) async fn was_cut_off(name: &ResourceName, context: &ProviderContext) -> bool {
    let read = context.state.read(name).await;
    read.is_ok_and(|stored| stored.document.attempt.is_some())
}

impl Rotation<'_> {
    /// The access token, if it needs no refresh.
    fn usable(&self, kept: &StateDocument) -> Option<Fetched> {
        let access = self.living(kept)?;
        let renew_at = renewal(access);
        let urgent = kept.attempt.is_some() || self.next_step(kept).is_some_and(|s| s.is_urgent());
        (!urgent && self.context.state.now() < renew_at).then(|| fetched(access, renew_at))
    }

    /// The access token, if it may be used.
    fn living<'d>(&self, kept: &'d StateDocument) -> Option<&'d Access> {
        living(self.request, kept, self.context.state.now())
    }

    /// A valid token is used until it expires, even if it cannot be refreshed.
    fn bridged(
        &self,
        kept: &StateDocument,
        error: CredentialError,
    ) -> Result<Fetched, CredentialError> {
        let Some(access) = self.living(kept) else {
            return Err(error);
        };
        tracing::warn!(
            credential = %self.request.credential.name, %error, expires_at = %access.expires_at,
            "the token could not be refreshed; the current one is used until it expires"
        );
        let soon = self.context.state.now() + TRY_AGAIN;
        Ok(fetched(access, soon))
    }

    /// Gets the next pair, or waits for another replica to do it.
    async fn advance(&self) -> Result<Fetched, CredentialError> {
        let name = &self.request.credential.name;
        let (sources, source) = (&self.context.sources, self.app.client_secret);
        let read = sources.read_for(self.request.credential, source, Form::Token);
        let client = Client {
            id: self.app.client_id,
            secret: read.await?.secret,
        };
        if let Some(error) = self.context.rotations.held_off(name, &client.fingerprint()) {
            return Err(error.into());
        }
        let wanted = |kept: &StateDocument| match self.usable(kept) {
            Some(_) => None,
            None => self.next_step(kept).map(|step| step.spends()),
        };
        match self.context.state.claim(name, wanted).await? {
            ClaimOutcome::Ours(claim) => Box::pin(self.walk(claim, &client)).await,
            ClaimOutcome::Settled(kept) => {
                self.usable(&kept).ok_or_else(|| self.nothing_left(&kept))
            }
        }
    }

    /// Tries the steps until one succeeds or fails for a known reason.
    async fn walk(
        &self,
        mut claim: ClaimGuard<'_>,
        client: &Client<'_>,
    ) -> Result<Fetched, CredentialError> {
        let memory = &self.context.rotations;
        let name = &self.request.credential.name;
        loop {
            let kept = claim.document().clone();
            let Some(step) = self.next_step(&kept) else {
                let error = self.nothing_left(&kept);
                return self.release(claim, error).await;
            };
            let spends = step.spends();
            claim.record_intent(spends.clone()).await?;
            if let Step::Keep(_) = step {
                return self.keep_unsaved(claim).await;
            }
            let since = claim.spent_since();
            match claim.hold(self.send(&step, client)).await {
                Ok(minted) => {
                    let mut next = kept;
                    if let Step::Begin(seed) = &step {
                        next.begin(seed.fingerprint.clone());
                    }
                    next.pair = Some(minted);
                    next.attempt = None;
                    return self.keep(claim, next, spends).await;
                }
                Err(error) if error.is_final() => {
                    let error = error.spent(since);
                    tracing::warn!(credential = %name, %error, "a refresh token is dead");
                    memory.refuse(name, spends, error);
                }
                Err(error) => {
                    memory.hold_off(name, client.fingerprint(), &error);
                    return self.release(claim, error.into()).await;
                }
            }
        }
    }

    /// Sends, and once more if there was no response: the first request may have taken effect.
    async fn send(&self, step: &Step<'_>, client: &Client<'_>) -> Result<Pair, RotationError> {
        let grant = match step {
            Step::Begin(seed) if seed.long_lived => Grant::LongLived(&seed.secret),
            Step::Begin(seed) => Grant::Refresh(&seed.secret),
            Step::Continue(token) => Grant::Refresh(token),
            Step::Keep(_) => return Err(RotationError::Defect),
        };
        let name = &self.request.credential.name;
        let clock = || self.context.state.now();
        let slack = call::Slack {
            http: &self.context.http,
            host: self.app.host,
            credential: name,
        };
        match call::mint(slack, client, grant, clock).await {
            Err(error) if error.may_have_acted() => {
                tracing::info!(credential = %name, %error, "retrying at once");
                call::mint(slack, client, grant, clock).await
            }
            answered => answered,
        }
    }

    /// Makes a pair durable, and only then returns it.
    async fn keep(
        &self,
        claim: ClaimGuard<'_>,
        next: StateDocument,
        spent: Fingerprint,
    ) -> Result<Fetched, CredentialError> {
        let name = &self.request.credential.name;
        match claim.settle(next.clone()).await {
            Ok(kept) => {
                self.context.rotations.forget(name);
                let access = kept.pair.as_ref().and_then(|pair| pair.access.as_ref());
                let access = access.ok_or(RotationError::Defect)?;
                tracing::info!(credential = %name, expires_at = %access.expires_at, "refreshed");
                Ok(fetched(access, renewal(access)))
            }
            Err(error) => {
                tracing::error!(
                    credential = %name, %error,
                    "a new token cannot be stored, and is not used before it is"
                );
                self.context.rotations.save_later(name, spent, next);
                Err(error.into())
            }
        }
    }

    /// Stores what an earlier fetch could not, if the stored token is still the one that it was bought
    /// with.
    async fn keep_unsaved(&self, claim: ClaimGuard<'_>) -> Result<Fetched, CredentialError> {
        let name = &self.request.credential.name;
        match self.context.rotations.take_unsaved(name) {
            Some((spent, next)) => self.keep(claim, next, spent).await,
            None => self.release(claim, StateError::Conflict.into()).await,
        }
    }

    /// Releases the claim. A request without a response stays recorded.
    async fn release(
        &self,
        claim: ClaimGuard<'_>,
        error: CredentialError,
    ) -> Result<Fetched, CredentialError> {
        let mut kept = claim.document().clone();
        let unclear = match &error {
            CredentialError::Rotation(error) => error.may_have_acted() || error.is_final(),
            _ => false,
        };
        if !unclear {
            kept.attempt = None;
        }
        if let Err(error) = claim.settle(kept).await {
            tracing::warn!(
                credential = %self.request.credential.name, %error,
                "a claim could not be released; it expires by itself"
            );
        }
        Err(error)
    }

    /// The first step that was not refused recently.
    fn next_step(&self, kept: &StateDocument) -> Option<Step<'_>> {
        let (memory, name) = (&self.context.rotations, &self.request.credential.name);
        let seed = self.seed.as_ref().ok();
        let seed = seed.filter(|seed| !kept.seeds.contains(&seed.fingerprint));
        let pair = kept.pair.as_ref();
        let steps = [
            seed.map(Step::Begin),
            pair.map(|pair| Step::Continue(pair.refresh_token.clone())),
        ];
        let steps = steps.into_iter().flatten();
        // A pair that was already bought only needs to be stored, if it was bought with the stored
        // token.
        if let Some(spent) = memory.unsaved_from(name)
            && steps.clone().any(|step| step.spends() == spent)
        {
            return Some(Step::Keep(spent));
        }
        let mut open = steps.filter(|step| memory.refusal(name, &step.spends()).is_none());
        open.next()
    }

    /// Why there is no step.
    fn nothing_left(&self, kept: &StateDocument) -> CredentialError {
        let (memory, name) = (&self.context.rotations, &self.request.credential.name);
        let chain = kept.pair.as_ref().map(Pair::spends);
        let refused = |spent: &Fingerprint| memory.refusal(name, spent).map(Into::into);
        match &self.seed {
            Ok(seed) => chain
                .and_then(|chain| refused(&chain))
                .or_else(|| refused(&seed.fingerprint))
                .unwrap_or(CredentialError::Abandoned),
            Err(error) => chain
                .and_then(|chain| refused(&chain))
                .unwrap_or_else(|| error.clone()),
        }
    }
}

impl Step<'_> {
    /// What it spends.
    fn spends(&self) -> Fingerprint {
        match self {
            Self::Keep(spent) => spent.clone(),
            Self::Begin(seed) => seed.fingerprint.clone(),
            Self::Continue(token) => refresh_token(token),
        }
    }

    /// Whether it is needed although the stored token is valid.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Keep(_) | Self::Begin(_) => true,
            Self::Continue(_) => false,
        }
    }
}

impl Pair {
    /// What a refresh with it spends.
    fn spends(&self) -> Fingerprint {
        refresh_token(&self.refresh_token)
    }
}

fn living<'d>(
    request: &FetchRequest<'_>,
    kept: &'d StateDocument,
    now: Timestamp,
) -> Option<&'d Access> {
    let access = kept.pair.as_ref()?.access.as_ref()?;
    let rejected = request.rejected.is_some_and(|r| *r == access.token);
    (!rejected && now < access.expires_at).then_some(access)
}

fn refresh_token(token: &Secret) -> Fingerprint {
    Fingerprint::of("refresh token", token)
}

fn fetched(access: &Access, renew_at: Timestamp) -> Fetched {
    Fetched {
        renew_at: Some(renew_at),
        ..Fetched::issued(
            access.token.clone(),
            Some(access.expires_at),
            revoke::is_a_users(&access.token).then_some(Revocation::Slack),
        )
    }
}

/// When to refresh an access token.
fn renewal(access: &Access) -> Timestamp {
    let life = access.expires_at.duration_since(access.obtained_at);
    let ahead = AHEAD.min(life / 4);
    let spread = Fingerprint::of("spread", &access.token).number() % SPREAD_SECS;
    // At most a twelfth of the time ahead; for two hours that is the whole spread.
    let spread = SignedDuration::from_secs(i64::try_from(spread).unwrap_or_default());
    access.expires_at - ahead - spread.min(ahead / 12)
}
