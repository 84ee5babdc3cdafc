//! What is said of trust: in `/readyz`, in metrics, and in the log when it changes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{names::AuthorityName, state::PublicState};
use crate::lease::Role;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAuthority {
    authority: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    result: &'static str,
}

/// Shared by whoever works and whoever asks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    shared: Arc<Mutex<Standing>>,
    leads: Gauge,
    problems: Gauge,
    ends: Family<OfAuthority, Gauge>,
    requests: Family<OfRequest, Counter>,
}

#[derive(Debug, Default)]
struct Standing {
    /// `None` until there was an attempt.
    role: Option<Role>,
    problems: BTreeSet<String>,
    /// Whether trust was in order once: from then on, trouble does not take the webhook away.
    was_well: bool,
}

impl Health {
    /// Metrics of this registry, whose prefix is `countersign`.
    pub fn register(registry: &mut Registry) -> Self {
        let health = Self::default();
        registry.register(
            "trust_leads",
            "Whether this controller leads",
            health.leads.clone(),
        );
        registry.register(
            "trust_problems",
            "What is wrong with trust now; the controller's /readyz and log say what",
            health.problems.clone(),
        );
        registry.register(
            "trust_root_not_after_timestamp_seconds",
            "When the root that signs ends",
            health.ends.clone(),
        );
        registry.register(
            "trust_requests",
            "Gateways' requests for certificates by what became of them: signed, refused",
            health.requests.clone(),
        );
        health
    }

    /// Whether this controller leads.
    pub fn is_leading(&self) -> bool {
        self.leads.get() == 1
    }

    /// Whether trust is in order, in words; for `/readyz`. Once it was, problems are told and do not count: without the
    /// webhook no pod could be created.
    ///
    /// # Errors
    /// While it was not in order yet, in words.
    pub fn readiness(&self) -> Result<String, String> {
        let standing = self.lock();
        let role = match &standing.role {
            None => "it is not known yet who leads".to_owned(),
            Some(Role::Waits(holder)) => format!("{holder} leads"),
            Some(Role::Unknown(why)) => format!("the Lease cannot be had: {why}"),
            Some(Role::Leads) => "this controller leads".to_owned(),
        };
        let mut told = format!("trust: {role}");
        for problem in &standing.problems {
            told.push_str("; ");
            told.push_str(problem);
        }
        let is_well = matches!(standing.role, Some(Role::Waits(_))) || standing.was_well;
        if is_well { Ok(told) } else { Err(told) }
    }

    /// Notes what this controller is; each change is logged.
    pub(super) fn is(&self, role: Role) {
        let mut standing = self.lock();
        if standing.role.as_ref() == Some(&role) {
            return;
        }
        match &role {
            Role::Leads => tracing::info!("this controller leads"),
            Role::Waits(holder) => tracing::info!(%holder, "another controller leads"),
            Role::Unknown(why) => tracing::warn!("the Lease cannot be had: {why}"),
        }
        self.leads.set(i64::from(role == Role::Leads));
        self.problems.set(0);
        standing.problems.clear();
        standing.role = Some(role);
    }

    /// What is wrong now; each is logged when it begins and when it ends.
    pub(super) fn set(&self, problems: Vec<String>) {
        let problems: BTreeSet<_> = problems.into_iter().collect();
        let mut standing = self.lock();
        for problem in problems.difference(&standing.problems) {
            tracing::error!("trust: {problem}");
        }
        if problems.is_empty() && !standing.problems.is_empty() {
            tracing::info!("trust is in order again");
        }
        self.problems
            .set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
        standing.was_well |= problems.is_empty();
        standing.problems = problems;
    }

    pub(super) fn shows(&self, state: &PublicState) {
        for name in AuthorityName::ALL {
            if let Some(public) = state.authorities.get(name.as_str()) {
                let labels = OfAuthority {
                    authority: name.as_str(),
                };
                self.ends
                    .get_or_create(&labels)
                    .set(public.ends.as_second());
            }
        }
    }

    pub(super) fn settled(&self, result: &'static str) {
        self.requests.get_or_create(&OfRequest { result }).inc();
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
