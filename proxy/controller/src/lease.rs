//! One of several processes does what must be done once: whoever holds the Lease.
//!
//! As in Kubernetes' own components: a holder renews it, and who waits takes it over when it was not renewed for its
//! duration, by the waiting process's own clock. Every write names the version that was read, so of two that write at
//! once one is refused.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use countersign_core::clock::Clock;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::backoff::jittered;

/// The times of a Lease.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long it holds without being renewed; whole seconds.
    pub duration: Duration,
    /// How often it is renewed, and looked at by who waits.
    pub renewal: Duration,
}

impl Timing {
    /// For a Lease that holds this long: renewed seven times within.
    pub fn of_lease(duration: Duration) -> Self {
        Self {
            duration,
            renewal: duration / 7,
        }
    }
}

impl Default for Timing {
    /// 45 s, and four requests a minute.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(45),
            renewal: Duration::from_secs(15),
        }
    }
}

/// An election by a Lease.
#[derive(Debug, Clone)]
pub struct Election {
    api: Leases,
    namespace: String,
    name: String,
    holder: String,
    timing: Timing,
    clock: Clock,
}

/// What a process is in an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It holds the Lease.
    Leads,
    /// This one holds it.
    Waits(String),
    /// It is not known who holds it, for this reason.
    Unknown(String),
}

/// The API, which has no `Debug` of its own that says more.
#[derive(Clone)]
struct Leases(Api<Lease>);

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leases")
    }
}

/// What is there, and since when it has not changed.
#[derive(Debug, Default)]
struct Seen {
    version: Option<String>,
    since: Option<Instant>,
}

/// What came of an attempt.
enum Attempt {
    Ours(Box<Lease>),
    /// Held by this one.
    Theirs(String),
    /// Another one wrote at the same moment.
    Lost,
}

impl From<Option<Lease>> for Attempt {
    fn from(written: Option<Lease>) -> Self {
        written.map_or(Self::Lost, |lease| Self::Ours(Box::new(lease)))
    }
}

/// A name for this process that no other has: its pod's, with a suffix.
fn holder() -> String {
    let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| "countersign".to_owned());
    format!("{pod}_{:016x}", RandomState::new().hash_one(()))
}

impl Election {
    /// An election by the Lease of this name; this process calls itself by its pod's name with a suffix.
    pub fn new(client: Client, namespace: &str, name: &str, clock: Clock) -> Self {
        Self {
            api: Leases(Api::namespaced(client, namespace)),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            holder: holder(),
            timing: Timing::default(),
            clock,
        }
    }

    /// The same with other times.
    #[must_use]
    pub fn with(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Does the work whenever this process holds the Lease, until `end` completes; then it is left to the others at
    /// once. Work that is in progress is dropped when the Lease is lost. `tell` is told the role at each look.
    pub async fn lead<W: Future<Output = ()>>(
        &self,
        mut tell: impl FnMut(Role),
        work: impl Fn() -> W,
        end: impl Future<Output = ()>,
    ) {
        let mut held = None;
        let leading = async {
            loop {
                let lease = held.insert(self.acquire(&mut tell).await);
                tell(Role::Leads);
                tokio::select! {
                    () = self.keep(lease) => {
                        held = None;
                        tell(Role::Unknown("it was not renewed in time".to_owned()));
                    }
                    () = work() => {
                        if let Some(lease) = held.take() {
                            self.release(lease).await;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = leading => {}
            () = end => {}
        }
        if let Some(lease) = held {
            self.release(lease).await;
        }
    }

    /// Waits until it is ours.
    async fn acquire(&self, tell: &mut impl FnMut(Role)) -> Lease {
        let mut seen = Seen::default();
        loop {
            match timeout(self.timing.duration, self.attempt(&mut seen)).await {
                Ok(Ok(Attempt::Ours(held))) => return *held,
                Ok(Ok(Attempt::Theirs(holder))) => tell(Role::Waits(holder)),
                Ok(Ok(Attempt::Lost)) => {}
                Ok(Err(error)) => tell(Role::Unknown(self.why(&error))),
                Err(_) => tell(Role::Unknown("the API server does not answer".to_owned())),
            }
            sleep(jittered(self.timing.renewal / 2)).await;
        }
    }

    /// One look, and one write if it can be taken.
    async fn attempt(&self, seen: &mut Seen) -> kube::Result<Attempt> {
        let Some(found) = self.api.0.get_opt(&self.name).await? else {
            let made = self.lease(None);
            let made = self.api.0.create(&PostParams::default(), &made).await;
            return Ok(unless_another_was_first(made)?.into());
        };
        let spec = found.spec.clone().unwrap_or_default();
        if seen.version != found.metadata.resource_version || seen.since.is_none() {
            seen.version.clone_from(&found.metadata.resource_version);
            seen.since = Some(Instant::now());
        }
        let duration = spec.lease_duration_seconds.unwrap_or_default().max(0);
        let duration = Duration::from_secs(duration.unsigned_abs().into());
        let is_over = seen.since.is_none_or(|since| since.elapsed() >= duration);
        let holder = spec.holder_identity.unwrap_or_default();
        if !(holder.is_empty() || is_over || holder == self.holder) {
            return Ok(Attempt::Theirs(holder));
        }
        Ok(self.write(self.lease(Some(&found))).await?.into())
    }

    /// Renews it for as long as that succeeds in time.
    async fn keep(&self, held: &mut Lease) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.timing.renewal).await;
            // One renewal before others may take it.
            let end = renewed + self.timing.duration.saturating_sub(self.timing.renewal);
            let next = self.lease(Some(held));
            match timeout_at(end, self.write(next)).await {
                Ok(Ok(Some(lease))) => {
                    *held = lease;
                    renewed = Instant::now();
                }
                Ok(Err(error)) if Instant::now() < end => {
                    tracing::debug!(%error, lease = %self.name, "the Lease is not renewed yet");
                }
                // Another process has it, or may have it from now on.
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            }
        }
    }

    /// Leaves it to the others, if it is still ours.
    async fn release(&self, held: Lease) {
        let mut free = self.lease(Some(&held));
        if let Some(spec) = &mut free.spec {
            spec.holder_identity = None;
        }
        if let Err(error) = self.write(free).await {
            tracing::debug!(%error, lease = %self.name, "the Lease is not released");
        }
    }

    async fn write(&self, lease: Lease) -> kube::Result<Option<Lease>> {
        let how = PostParams::default();
        unless_another_was_first(self.api.0.replace(&self.name, &how, &lease).await)
    }

    /// The Lease as ours, after what was there before.
    fn lease(&self, before: Option<&Lease>) -> Lease {
        let old = before.and_then(|before| before.spec.clone());
        let old = old.unwrap_or_default();
        let now = MicroTime(self.clock.now());
        let is_ours = old.holder_identity.as_ref() == Some(&self.holder);
        let transitions = old.lease_transitions.unwrap_or_default();
        let is_first = before.is_none();
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version: before.and_then(|it| it.metadata.resource_version.clone()),
                uid: before.and_then(|it| it.metadata.uid.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.holder.clone()),
                lease_duration_seconds: i32::try_from(self.timing.duration.as_secs().max(1)).ok(),
                acquire_time: if is_ours {
                    old.acquire_time
                } else {
                    Some(now.clone())
                },
                renew_time: Some(now),
                lease_transitions: Some(if is_ours || is_first {
                    transitions
                } else {
                    transitions.saturating_add(1)
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    fn why(&self, error: &kube::Error) -> String {
        match error {
            kube::Error::Api(status) if status.code == 403 => format!(
                "a role must grant to get and update leases.coordination.k8s.io `{}`, and to create leases, in the namespace {}",
                self.name, self.namespace
            ),
            kube::Error::Api(status) => format!("the API server answered {}", status.code),
            _ => "the API server cannot be reached".to_owned(),
        }
    }
}

/// A conflict is that another process wrote it since it was read.
fn unless_another_was_first(written: kube::Result<Lease>) -> kube::Result<Option<Lease>> {
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(error) => Err(error),
    }
}
