//! One controller leads, by a Lease: the others wait. Clocks are not compared: a Lease that nobody renewed for its
//! time, as seen from here, is free.
//!
//! A leader that hangs may still write after another has taken over. So whatever must not be written twice names the
//! version that was read.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use tokio::time::{Instant, sleep, timeout};

use super::names::LEASE;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct LeaderTimes {
    /// How long a Lease is held without being renewed. Whole seconds.
    pub lease: Duration,
    /// How often it is renewed, and tried to be had.
    pub renew: Duration,
    /// After how long without a renewal the leader stops by itself. Less than `lease`.
    pub give_up: Duration,
}

impl LeaderTimes {
    /// For a Lease that is held this long: renewed seven times within, and given up when two thirds are over.
    pub fn of_lease(lease: Duration) -> Self {
        Self {
            lease,
            renew: lease / 7,
            give_up: lease * 2 / 3,
        }
    }
}

impl Default for LeaderTimes {
    fn default() -> Self {
        Self::of_lease(Duration::from_secs(15))
    }
}

/// The Lease, as one controller sees it.
pub(super) struct Leadership {
    api: Api<Lease>,
    identity: String,
    times: LeaderTimes,
    /// The version that was seen last, and since when.
    seen: Option<(String, Instant)>,
    /// The Lease as this controller wrote it last.
    held: Option<Lease>,
}

impl Leadership {
    pub(super) fn new(
        client: Client,
        namespace: &str,
        identity: String,
        times: LeaderTimes,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            identity,
            times,
            seen: None,
            held: None,
        }
    }

    /// Waits until this controller leads.
    pub(super) async fn acquire(&mut self, mut told: impl FnMut(Result<String, String>)) {
        loop {
            match timeout(self.times.give_up, self.attempt()).await {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(holder))) => told(Ok(holder)),
                Ok(Err(error)) => told(Err(error.to_string())),
                Err(_) => told(Err("the API server does not answer".to_owned())),
            }
            sleep(self.times.renew).await;
        }
    }

    /// Renews, and completes when this controller does not lead any more.
    pub(super) async fn keep(&mut self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < self.times.give_up {
            sleep(self.times.renew).await;
            let left = self.times.give_up.saturating_sub(renewed.elapsed());
            match timeout(left, self.attempt()).await {
                Ok(Ok(None)) => renewed = Instant::now(),
                Ok(Ok(Some(_))) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be renewed"),
                Err(_) => {}
            }
        }
    }

    /// Lets another lead at once.
    pub(super) async fn release(&mut self) {
        self.held = None;
        let Ok(Some(mut lease)) = self.api.get_opt(LEASE).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() == Some(&self.identity) {
            spec.holder_identity = None;
            let released = self
                .api
                .replace(LEASE, &PostParams::default(), &lease)
                .await;
            if let Err(error) = released {
                tracing::info!(%error, "the Lease cannot be released; it ends by itself");
            }
        }
    }

    /// `None` if this controller holds the Lease now; else who does.
    async fn attempt(&mut self) -> kube::Result<Option<String>> {
        // What it wrote last needs not be read again, if nobody else has written.
        if let Some(held) = self.held.take() {
            let renewed = self.write(&self.lease(Some(held.clone()))).await;
            match renewed {
                Ok(lease) => {
                    self.held = Some(lease);
                    return Ok(None);
                }
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {}
                Err(error) => {
                    self.held = Some(held);
                    return Err(error);
                }
            }
        }
        let written = match self.api.get_opt(LEASE).await? {
            None => {
                self.api
                    .create(&PostParams::default(), &self.lease(None))
                    .await
            }
            Some(found) => {
                let spec = found.spec.clone().unwrap_or_default();
                let holder = spec.holder_identity.clone().unwrap_or_default();
                if holder != self.identity && !holder.is_empty() && !self.is_over(&found) {
                    return Ok(Some(holder));
                }
                self.write(&self.lease(Some(found))).await
            }
        };
        match written {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(None)
            }
            // Another was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some("another".to_owned())),
            Err(error) => Err(error),
        }
    }

    /// Writes over the version that was read. What fails at the server is tried once more: that names the version, too.
    async fn write(&self, lease: &Lease) -> kube::Result<Lease> {
        let params = PostParams::default();
        match self.api.replace(LEASE, &params, lease).await {
            Err(kube::Error::Api(status)) if status.code >= 500 => {
                self.api.replace(LEASE, &params, lease).await
            }
            written => written,
        }
    }

    /// Whether nobody has renewed it for its time.
    fn is_over(&mut self, lease: &Lease) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if *seen == version => {
                let spec = lease.spec.as_ref();
                let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
                let life = seconds.and_then(|seconds| u64::try_from(seconds).ok());
                since.elapsed() > life.map_or(self.times.lease, Duration::from_secs)
            }
            _ => {
                self.seen = Some((version, Instant::now()));
                false
            }
        }
    }

    fn lease(&self, found: Option<Lease>) -> Lease {
        let now = MicroTime(now());
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(LEASE.to_owned()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let before = lease.spec.take().unwrap_or_default();
        let is_ours = before.holder_identity.as_ref() == Some(&self.identity);
        let transitions = before.lease_transitions.unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.times.lease.as_secs()).ok(),
            acquire_time: before
                .acquire_time
                .filter(|_| is_ours)
                .or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions.saturating_add(i32::from(!is_ours))),
            ..LeaseSpec::default()
        });
        lease
    }
}

/// Only for people who read the Lease.
fn now() -> Timestamp {
    countersign_core::clock::Clock::system().now()
}
