//! What the leader does, again and again: it brings the cluster to what it should be, from wherever it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use countersign_core::clock::Clock;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::reflector::Store,
};
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::time::sleep;

use super::{
    TrustError,
    authority::{Authorities, Root},
    bundle::Bundle,
    error::explained,
    health::Health,
    names::{AuthorityName, FIELD_MANAGER, MANAGED_BY, ROTATE, STATE_CONFIG_MAP, STATE_KEY},
    publish::Publisher,
    roots::Roots,
    rotate::Rotating,
    rotation::{Answer, Asked, Position, Step},
    settings::TrustSettings,
    sign::{self, Outcome},
    state::PublicState,
    watching::{self, Known, Seen, Watches},
    webhook,
};

/// How long it waits for a change before it looks again, and how long if something is wrong.
const AGAIN: Duration = Duration::from_secs(10);
const AGAIN_AFTER_A_PROBLEM: Duration = Duration::from_secs(2);

/// A root is rotated by itself when less than this part of its life is left: two years of ten.
const ROTATE_PART: i32 = 5;

/// What all parts of trust share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) settings: Arc<TrustSettings>,
    pub(super) system: Vec<CertificateDer<'static>>,
    pub(super) clock: Clock,
    pub(super) health: Health,
    /// Whether there is a webhook whose certificate is kept.
    pub(super) webhook: bool,
}

/// A controller that leads.
pub(super) struct Leader<'s> {
    shared: &'s Shared,
    roots: Roots,
    publisher: Publisher,
    known: Known,
    bundle: Option<Arc<Bundle>>,
    /// The state as it was written last; `None` until it was read.
    state: Option<PublicState>,
}

impl<'s> Leader<'s> {
    /// The leader, and what it must follow.
    pub(super) fn new(shared: &'s Shared) -> (Self, Watches) {
        let Shared {
            client, settings, ..
        } = shared;
        let (known, watches) = watching::watch(client, settings);
        let leader = Self {
            shared,
            roots: Roots::new(client.clone(), settings),
            publisher: Publisher::new(
                client.clone(),
                Arc::clone(settings),
                known.published.clone(),
            ),
            known,
            bundle: None,
            state: None,
        };
        (leader, watches)
    }

    /// Works until it is dropped.
    pub(super) async fn work(mut self, mut watches: Watches) {
        loop {
            let mut problems = Vec::new();
            if let Err(error) = self.turn(&mut problems).await {
                problems.push(error.to_string());
            }
            let pause = if problems.is_empty() {
                AGAIN
            } else {
                AGAIN_AFTER_A_PROBLEM
            };
            self.shared.health.set(problems);
            tokio::select! {
                Some(seen) = watches.next() => self.saw(seen),
                () = sleep(pause) => {}
            }
            while let Some(Some(seen)) = watches.next().now_or_never() {
                self.saw(seen);
            }
        }
    }

    fn saw(&mut self, seen: Seen) {
        match seen {
            Seen::Changed => {}
            Seen::Listed => self.publisher.forget_unlisted(),
            Seen::Gone(namespace, name) => self.publisher.forget(&namespace, &name),
        }
    }

    /// Once all of it. What fails is told, and does not keep the rest from being done.
    async fn turn(&mut self, problems: &mut Vec<String>) -> Result<(), TrustError> {
        let now = self.shared.clock.now();
        let mut authorities = self.roots.load(now).await?;
        let mut state = PublicState::of(&authorities, self.earlier().await?, now);
        self.sign(&authorities, &mut state, now, problems).await;
        if self.shared.webhook {
            let Shared {
                client, settings, ..
            } = self.shared;
            let kept = webhook::keep(client, settings, &authorities, now).await;
            problems.extend(kept.err().map(|error| error.to_string()));
            let written = webhook::keep_ca(client, &authorities).await;
            problems.extend(written.err().map(|error| error.to_string()));
        }
        self.publish(&authorities, now, problems).await;
        if let Err(error) = self
            .rotate(&mut authorities, &mut state, now, problems)
            .await
        {
            problems.push(error.to_string());
        }
        // The rotation may have changed them.
        self.publish(&authorities, now, problems).await;
        let state = PublicState::of(&authorities, &state, now);
        self.write_state(state).await
    }

    async fn publish(
        &mut self,
        authorities: &Authorities,
        now: Timestamp,
        problems: &mut Vec<String>,
    ) {
        let earlier = self.bundle.take();
        let fresh = Bundle::new(
            authorities,
            &self.shared.system,
            earlier.as_deref().cloned(),
        );
        let bundle = match earlier {
            Some(earlier) if *earlier == fresh => earlier,
            Some(_) | None => Arc::new(fresh),
        };
        let namespaces = self.known.opted_in();
        for problem in self.publisher.publish(&bundle, &namespaces, now).await {
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        self.bundle = Some(bundle);
    }

    async fn sign(
        &self,
        authorities: &Authorities,
        state: &mut PublicState,
        now: Timestamp,
        problems: &mut Vec<String>,
    ) {
        let Shared {
            client,
            settings,
            health,
            ..
        } = self.shared;
        let asked = self.known.requests.iter().flat_map(Store::state);
        for request in asked {
            match sign::settle(client, &request, authorities, settings, now).await {
                Ok(Outcome::Signed(purpose, pod, holder)) => {
                    health.settled("signed");
                    let name = purpose.authority().as_str();
                    if let Some(public) = state.authorities.get_mut(name) {
                        public.holders.insert(pod, holder);
                    }
                }
                Ok(Outcome::Denied) => health.settled("refused"),
                Ok(Outcome::Settled) => {}
                Err(problem) => problems.push(problem),
            }
        }
    }

    /// Takes the step that an operator asks for, or one that is due by itself.
    async fn rotate(
        &mut self,
        authorities: &mut Authorities,
        state: &mut PublicState,
        now: Timestamp,
        problems: &mut Vec<String>,
    ) -> Result<(), TrustError> {
        let given = match self.roots.given(now).await {
            Ok(given) => given,
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        };
        if let Some(asked) = self.asked(state) {
            let result = self
                .step(authorities, state, &asked, given.clone(), now)
                .await?;
            let (done, told) = match result {
                Ok(told) => (true, told),
                Err(told) => (false, told),
            };
            tracing::info!(
                authority = asked.authority.as_str(), step = asked.step.as_str(), done, %told,
                "a step of a rotation"
            );
            state.answer = Some(Answer {
                id: asked.id,
                done,
                told,
            });
            return Ok(());
        }
        for name in AuthorityName::ALL {
            let given = given
                .clone()
                .filter(|_| name == AuthorityName::Interception);
            let Some(step) = due_by_itself(authorities, name, given.as_ref(), now) else {
                continue;
            };
            let asked = Asked {
                authority: name,
                step,
                force: false,
                id: String::new(),
            };
            let (step, authority) = (step.as_str(), name.as_str());
            match self.step(authorities, state, &asked, given, now).await? {
                Ok(told) => tracing::info!(authority, step, %told, "a rotation goes on by itself"),
                Err(why) => tracing::debug!(authority, step, %why, "a rotation waits"),
            }
        }
        Ok(())
    }

    /// Takes one step, and keeps what it changed: only what is kept counts.
    async fn step(
        &mut self,
        authorities: &mut Authorities,
        state: &PublicState,
        asked: &Asked,
        given: Option<Root>,
        now: Timestamp,
    ) -> Result<Result<String, String>, TrustError> {
        let Some(bundle) = &self.bundle else {
            return Ok(Err("nothing was published yet".to_owned()));
        };
        let rotating = Rotating {
            client: &self.shared.client,
            settings: &self.shared.settings,
            publisher: &self.publisher,
            bundle,
            public: state.authorities.get(asked.authority.as_str()),
            given,
            now,
        };
        let mut changed = authorities.clone();
        let authority = changed.get_mut(asked.authority);
        let before = authority.position;
        if asked.step == Step::Add && asked.id.is_empty() {
            authority.automatic = true;
        }
        let result = rotating
            .take(asked.authority, authority, asked.step, asked.force)
            .await;
        if result.is_ok() && authority.position != before {
            self.roots.save(&changed).await?;
            *authorities = changed;
        }
        Ok(result)
    }

    /// What an operator asks for and has no answer to.
    fn asked(&self, state: &PublicState) -> Option<Asked> {
        let own = self.known.own()?;
        let asked = Asked::parse(own.annotations().get(ROTATE)?)?;
        let answered = state.answer.as_ref().map(|answer| &answer.id);
        (answered != Some(&asked.id)).then_some(asked)
    }

    /// The state that was written before.
    async fn earlier(&mut self) -> Result<&PublicState, TrustError> {
        if self.state.is_none() {
            let found = self.own_api().get_opt(STATE_CONFIG_MAP).await;
            let found = found.map_err(|error| state_error(&error))?;
            let data = found.and_then(|found| found.data);
            let text = data.and_then(|mut data| data.remove(STATE_KEY));
            // What cannot be read is written anew: it is only what gateways show.
            let read = text.and_then(|text| serde_json::from_str(&text).ok());
            self.state = Some(read.unwrap_or_default());
        }
        Ok(self.state.get_or_insert_default())
    }

    async fn write_state(&mut self, state: PublicState) -> Result<(), TrustError> {
        self.shared.health.shows(&state);
        let is_there = self.known.own().is_some();
        if is_there && self.state.as_ref() == Some(&state) {
            return Ok(());
        }
        let text = serde_json::to_string(&state);
        let text = text.map_err(|error| TrustError::Internal(error.to_string()))?;
        let (label, manager) = MANAGED_BY;
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": STATE_CONFIG_MAP, "labels": {label: manager}},
            "data": BTreeMap::from([(STATE_KEY, text)]),
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object);
        let written = self
            .own_api()
            .patch(STATE_CONFIG_MAP, &params, &patch)
            .await;
        written.map_err(|error| state_error(&error))?;
        self.state = Some(state);
        Ok(())
    }

    fn own_api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.shared.client.clone(), &self.shared.settings.namespace)
    }
}

fn state_error(error: &kube::Error) -> TrustError {
    let right = format!("create configmaps, and to get and patch the ConfigMap {STATE_CONFIG_MAP}");
    let why = explained(error, &right);
    TrustError::Api(format!(
        "the ConfigMap {STATE_CONFIG_MAP} cannot be used: {why}"
    ))
}

/// The step that nobody needs to ask for: an operator's root was replaced, a root ends within two years, or such a
/// rotation goes on.
fn due_by_itself(
    authorities: &Authorities,
    name: AuthorityName,
    given: Option<&Root>,
    now: Timestamp,
) -> Option<Step> {
    let authority = authorities.get(name);
    if authority.position != Position::Steady {
        return authority.automatic.then(|| authority.position.next());
    }
    let current = &authority.current;
    let replaced = given.is_some_and(|given| given.certificate != current.certificate);
    let life = current
        .validity
        .not_after
        .duration_since(current.validity.not_before);
    let left = current.validity.not_after.duration_since(now);
    let ends = given.is_none() && left < life / ROTATE_PART;
    (replaced || ends).then_some(Step::Add)
}
