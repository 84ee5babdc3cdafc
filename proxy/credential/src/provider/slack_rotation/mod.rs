//! Slack's token rotation (<https://docs.slack.dev/authentication/using-token-rotation>).
//!
//! An access token lives 12 hours. The next one is bought with a refresh token that works once and
//! comes with its own successor: a chain, which begins with a seed from the operator. To lose the
//! newest refresh token is to lose the workspace. So a refresh is claimed in the state store before
//! it is sent ([`crate::state`]), and what it brought is durable there before anyone
//! uses it.
//!
//! Slack takes a spent refresh token once more for a short while of unknown length. So what ended
//! without an answer, by a broken connection or a crash, is tried again at once with the same one.
//! No more than two access tokens of an installation live, and so none is minted without need: a
//! newer one in the store is always taken first.

mod call;
mod error;
mod keep;
mod memory;
mod revoke;
mod seed;

pub use error::RotationError;
pub(crate) use keep::{keep_before_end, keep_soon};
pub(crate) use memory::Memory;
pub(crate) use revoke::revoke;

use countersign_config::{
    host::Host,
    model::{ResourceName, SecretSource, SlackSeed},
};
use countersign_core::secret::Secret;
use jiff::{SignedDuration, Timestamp};

use super::{Asking, Fetched};
use crate::{
    CredentialError, Tools,
    revoke::Revocation,
    source::Form,
    state::{Access, Claimed, Document, Fingerprint, Pair, StateError, Turn},
};
use call::{Client, Grant};
use seed::Seed;

/// An access token is refreshed this long before its end, as Slack's SDKs do, or for the last
/// quarter of a shorter life.
const AHEAD: SignedDuration = SignedDuration::from_hours(2);

/// Different credentials are refreshed at different times within this. All replicas agree on the
/// time of each: they want it together, one does it while the others watch, and so one that dies
/// is replaced at once.
const SPREAD_SECS: u64 = 600;

/// After a refresh that failed while the token still lives, it is tried again after this.
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
    asking: &'a Asking<'a>,
    app: App<'a>,
    tools: &'a Tools,
    seed: Result<Seed, CredentialError>,
}

/// A way to the next pair.
#[derive(Clone)]
enum Step<'a> {
    /// What an earlier fetch got and could not keep; what it was bought with.
    Keep(Fingerprint),
    /// A chain begins.
    Begin(&'a Seed),
    /// The chain goes on.
    Continue(Secret),
}

pub(crate) async fn fetch(
    asking: &Asking<'_>,
    app: App<'_>,
    tools: &Tools,
) -> Result<Fetched, CredentialError> {
    let seed = Seed::read(asking, app.seed, tools).await;
    let rotation = Rotation {
        asking,
        app,
        tools,
        seed,
    };
    let name = &asking.credential.name;
    // Until what was begun is settled, the process should not end.
    let _unfinished = tools.rotations.begin();
    let kept = tools.state.read(name).await?.document;
    if let Some(fetched) = rotation.usable(&kept) {
        return Ok(fetched);
    }
    let settled = rotation.advance().await;
    settled.or_else(|error| rotation.bridged(&kept, error))
}

/// The access token that is stored, if it lives and is not the one that was rejected. Spends nothing.
pub(crate) async fn renewed_elsewhere(asking: &Asking<'_>, tools: &Tools) -> Option<Fetched> {
    let name = &asking.credential.name;
    let read = tools.state.read(name).await;
    let read = read.inspect_err(
        |error| tracing::debug!(credential = %name, %error, "no look at what is stored"),
    );
    let kept = read.ok()?.document;
    let access = living(asking, &kept, tools.state.now())?;
    Some(fetched(access, renewal(access)))
}

/// Whether a refresh was begun and nobody knows how it ended. A store that does not tell is asked
/// again by the first request.
pub(crate) async fn was_cut_off(name: &ResourceName, tools: &Tools) -> bool {
    let read = tools.state.read(name).await;
    read.is_ok_and(|stored| stored.document.attempt.is_some())
}

impl Rotation<'_> {
    /// The access token, if there is nothing to do about it.
    fn usable(&self, kept: &Document) -> Option<Fetched> {
        let access = self.living(kept)?;
        let renew_at = renewal(access);
        let urgent = kept.attempt.is_some() || self.next_step(kept).is_some_and(|s| s.is_urgent());
        (!urgent && self.tools.state.now() < renew_at).then(|| fetched(access, renew_at))
    }

    /// The access token, if it may be used.
    fn living<'d>(&self, kept: &'d Document) -> Option<&'d Access> {
        living(self.asking, kept, self.tools.state.now())
    }

    /// A token that lives is used until its end, whatever keeps its successor away.
    fn bridged(&self, kept: &Document, error: CredentialError) -> Result<Fetched, CredentialError> {
        let Some(access) = self.living(kept) else {
            return Err(error);
        };
        tracing::warn!(
            credential = %self.asking.credential.name, %error, expires_at = %access.expires_at,
            "no next token; the one that lives serves until its end"
        );
        let soon = self.tools.state.now() + TRY_AGAIN;
        Ok(fetched(access, soon))
    }

    /// Gets the next pair, or sees another replica do it.
    async fn advance(&self) -> Result<Fetched, CredentialError> {
        let name = &self.asking.credential.name;
        let (sources, source) = (&self.tools.sources, self.app.client_secret);
        let read = sources.read(self.asking.credential, source, Form::Token);
        let client = Client {
            id: self.app.client_id,
            secret: read.await?.secret,
        };
        if let Some(error) = self.tools.rotations.held_off(name, &client.fingerprint()) {
            return Err(error.into());
        }
        let wanted = |kept: &Document| match self.usable(kept) {
            Some(_) => None,
            None => self.next_step(kept).map(|step| step.spends()),
        };
        match self.tools.state.turn(name, wanted).await? {
            Turn::Ours(claim) => self.walk(claim, &client).await,
            Turn::Settled(kept) => self.usable(&kept).ok_or_else(|| self.nothing_left(&kept)),
        }
    }

    /// Takes the steps there are until one succeeds or says what is wrong.
    async fn walk(
        &self,
        mut claim: Claimed<'_>,
        client: &Client<'_>,
    ) -> Result<Fetched, CredentialError> {
        let memory = &self.tools.rotations;
        let name = &self.asking.credential.name;
        loop {
            let kept = claim.document().clone();
            let Some(step) = self.next_step(&kept) else {
                let error = self.nothing_left(&kept);
                return self.release(claim, error).await;
            };
            let spends = step.spends();
            claim.intend(spends.clone()).await?;
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
                    tracing::warn!(credential = %name, %error, "a token to refresh with is dead");
                    memory.refuse(name, spends, error);
                }
                Err(error) => {
                    memory.hold_off(name, client.fingerprint(), &error);
                    return self.release(claim, error.into()).await;
                }
            }
        }
    }

    /// Sends, and once more if the answer stayed away: what was sent may have been done.
    async fn send(&self, step: &Step<'_>, client: &Client<'_>) -> Result<Pair, RotationError> {
        let grant = match step {
            Step::Begin(seed) if seed.long_lived => Grant::LongLived(&seed.secret),
            Step::Begin(seed) => Grant::Refresh(&seed.secret),
            Step::Continue(token) => Grant::Refresh(token),
            Step::Keep(_) => return Err(RotationError::Defect),
        };
        let name = &self.asking.credential.name;
        let clock = || self.tools.state.now();
        let slack = call::Slack {
            http: &self.tools.http,
            host: self.app.host,
            credential: name,
        };
        match call::mint(slack, client, grant, clock).await {
            Err(error) if error.may_have_acted() => {
                tracing::info!(credential = %name, %error, "trying again at once");
                call::mint(slack, client, grant, clock).await
            }
            answered => answered,
        }
    }

    /// Makes a pair durable, and only then gives it out.
    async fn keep(
        &self,
        claim: Claimed<'_>,
        next: Document,
        spent: Fingerprint,
    ) -> Result<Fetched, CredentialError> {
        let name = &self.asking.credential.name;
        match claim.settle(next.clone()).await {
            Ok(kept) => {
                self.tools.rotations.forget(name);
                let access = kept.pair.as_ref().and_then(|pair| pair.access.as_ref());
                let access = access.ok_or(RotationError::Defect)?;
                tracing::info!(credential = %name, expires_at = %access.expires_at, "refreshed");
                Ok(fetched(access, renewal(access)))
            }
            Err(error) => {
                tracing::error!(
                    credential = %name, %error,
                    "a new token cannot be kept, and is not used before it is"
                );
                self.tools.rotations.save_later(name, spent, next);
                Err(error.into())
            }
        }
    }

    /// Keeps what an earlier fetch could not, if what it was bought with is still what is stored.
    async fn keep_unsaved(&self, claim: Claimed<'_>) -> Result<Fetched, CredentialError> {
        let name = &self.asking.credential.name;
        match self.tools.rotations.take_unsaved(name) {
            Some((spent, next)) => self.keep(claim, next, spent).await,
            None => self.release(claim, StateError::Conflict.into()).await,
        }
    }

    /// Gives the claim back. What was sent without an answer stays noted.
    async fn release(
        &self,
        claim: Claimed<'_>,
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
                credential = %self.asking.credential.name, %error,
                "a claim could not be given back; it runs out by itself"
            );
        }
        Err(error)
    }

    /// The first step that was not refused a moment ago.
    fn next_step(&self, kept: &Document) -> Option<Step<'_>> {
        let (memory, name) = (&self.tools.rotations, &self.asking.credential.name);
        let seed = self.seed.as_ref().ok();
        let seed = seed.filter(|seed| !kept.seeds.contains(&seed.fingerprint));
        let pair = kept.pair.as_ref();
        let steps = [
            seed.map(Step::Begin),
            pair.map(|pair| Step::Continue(pair.refresh_token.clone())),
        ];
        let steps = steps.into_iter().flatten();
        // What was bought already need only be kept, if it was bought with what still stands there.
        if let Some(spent) = memory.unsaved_from(name)
            && steps.clone().any(|step| step.spends() == spent)
        {
            return Some(Step::Keep(spent));
        }
        let mut open = steps.filter(|step| memory.refusal(name, &step.spends()).is_none());
        open.next()
    }

    /// Why there is no step.
    fn nothing_left(&self, kept: &Document) -> CredentialError {
        let (memory, name) = (&self.tools.rotations, &self.asking.credential.name);
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

    /// Whether it is to be taken although the token that is stored is good.
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

fn living<'d>(asking: &Asking<'_>, kept: &'d Document, now: Timestamp) -> Option<&'d Access> {
    let access = kept.pair.as_ref()?.access.as_ref()?;
    let rejected = asking.rejected.is_some_and(|r| *r == access.token);
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

/// When to see about the successor of an access token.
fn renewal(access: &Access) -> Timestamp {
    let life = access.expires_at.duration_since(access.obtained_at);
    let ahead = AHEAD.min(life / 4);
    let spread = Fingerprint::of("spread", &access.token).number() % SPREAD_SECS;
    // At most a twelfth of what is ahead, which for two hours is all of the spread.
    let spread = SignedDuration::from_secs(i64::try_from(spread).unwrap_or_default());
    access.expires_at - ahead - spread.min(ahead / 12)
}
