//! Takes the steps of a rotation, each after its check.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{
    authority::{Authority, Root},
    bundle::Bundle,
    error::explained,
    names::AuthorityName,
    publish::Publisher,
    rotation::{Position, Step},
    settings::TrustSettings,
    state::PublicAuthority,
};
use crate::{admission::names::CLIENT, pods::OPTED_IN};

/// How long a kubelet may take to bring a `ConfigMap` that changed into the pods that mount it.
const KUBELET: SignedDuration = SignedDuration::from_mins(2);

/// How many pods are named in a refusal.
const NAMED: usize = 5;

/// The most that the API server lists at once.
const PAGE: u32 = 500;

/// What a step needs.
pub(super) struct Rotating<'r> {
    pub(super) client: &'r Client,
    pub(super) settings: &'r TrustSettings,
    pub(super) publisher: &'r Publisher,
    pub(super) bundle: &'r Bundle,
    /// What is known of the authority's holders.
    pub(super) public: Option<&'r PublicAuthority>,
    /// The root in the operator's Secret, if there is one.
    pub(super) given: Option<Root>,
    pub(super) now: Timestamp,
}

impl Rotating<'_> {
    /// Takes a step, if it comes now and its check passes; what was done, or why not.
    pub(super) async fn take(
        self,
        name: AuthorityName,
        authority: &mut Authority,
        step: Step,
        force: bool,
    ) -> Result<String, String> {
        let position = authority.position;
        let next = position.next();
        if step < next {
            return Ok(format!(
                "nothing to do: {} is done, and {}",
                step.as_str(),
                position.sentence()
            ));
        }
        if step > next {
            let is_last = position == Position::Steady && step == Step::Remove;
            if is_last {
                return Ok("nothing to do: there is one root".to_owned());
            }
            return Err(format!(
                "{} comes after {}: {}",
                step.as_str(),
                next.as_str(),
                position.sentence()
            ));
        }
        match step {
            Step::Add => self.add(name, authority),
            Step::Distribute => self.distribute(authority).await,
            Step::Reissue => self.reissue(name, authority, force).await,
            Step::Remove => self.remove(authority).await,
        }
    }

    fn add(self, name: AuthorityName, authority: &mut Authority) -> Result<String, String> {
        let next = match (name, self.given, &self.settings.root_secret) {
            (AuthorityName::Interception, Some(given), Some(secret)) => {
                if given.certificate == authority.current.certificate {
                    return Err(format!(
                        "the Secret {secret} still has the root that signs: put another into it, or let cert-manager issue it again"
                    ));
                }
                given
            }
            (AuthorityName::Interception | AuthorityName::Gateways, _, _) => {
                Root::generate(name, self.now).map_err(|error| error.to_string())?
            }
        };
        let told = format!("a second root was added: {}", next.fingerprint());
        authority.next = Some(next);
        authority.position = Position::Added;
        Ok(told)
    }

    async fn distribute(self, authority: &mut Authority) -> Result<String, String> {
        let namespaces = self.opted_in().await?;
        let count = self.publisher.check(self.bundle, &namespaces).await?;
        authority.position = Position::Distributed { since: self.now };
        Ok(format!("{count} namespaces have both roots"))
    }

    /// Apps read their roots when they start; relays whenever they dial.
    async fn reissue(
        self,
        name: AuthorityName,
        authority: &mut Authority,
        force: bool,
    ) -> Result<String, String> {
        let Position::Distributed { since } = authority.position else {
            return Err(authority.position.sentence());
        };
        let from = since + KUBELET;
        let mut told = String::new();
        if name == AuthorityName::Interception {
            let old = self.pods_before(from).await?;
            if let Some(problem) = old_pods(&old, from) {
                if !force {
                    return Err(problem);
                }
                told = format!(" ({} pods that may break were passed over)", old.len());
            }
        } else if self.now < from && !force {
            return Err(format!(
                "kubelets may take until {from:.0} to bring both roots to the relays; try again then"
            ));
        }
        let next = authority.next.take();
        let next = next.ok_or_else(|| "the second root is not there".to_owned())?;
        let before = std::mem::replace(&mut authority.current, next);
        authority.previous.push(before.certificate);
        authority.position = Position::Reissued { since: self.now };
        authority.replaced_another_at = Some(self.now);
        Ok(format!("the new root signs{told}"))
    }

    async fn remove(self, authority: &mut Authority) -> Result<String, String> {
        let signs = authority.current.fingerprint();
        let holders = self.public.map(|public| &public.holders);
        let old: Vec<_> = holders
            .into_iter()
            .flatten()
            .filter(|(_, holder)| holder.root != signs && holder.ends > self.now)
            .map(|(pod, _)| pod)
            .collect();
        if !old.is_empty() {
            let living = self.gateway_pods().await?;
            let still: Vec<_> = old
                .into_iter()
                .filter(|pod| living.contains(*pod))
                .collect();
            if let Some(first) = still.first() {
                return Err(format!(
                    "{} gateways still show a certificate below the old root, {first} among them; they ask for another by themselves: see their /readyz and log",
                    still.len()
                ));
            }
        }
        authority.previous.clear();
        authority.position = Position::Steady;
        authority.automatic = false;
        Ok(format!(
            "the old root is not trusted any more; {signs} is alone"
        ))
    }

    async fn opted_in(&self) -> Result<BTreeSet<String>, String> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let params = ListParams::default().labels(OPTED_IN);
        let found = api.list_metadata(&params).await;
        let found = found.map_err(|error| explained(&error, "list namespaces"))?;
        let living = found
            .items
            .iter()
            .filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
        Ok(living.map(ResourceExt::name_any).collect())
    }

    /// Injected pods that run and were created before: `namespace/name`.
    async fn pods_before(&self, from: Timestamp) -> Result<Vec<String>, String> {
        let api: Api<Pod> = Api::all(self.client.clone());
        let mut params = ListParams::default()
            .labels(&format!("{CLIENT}=true"))
            .fields("status.phase!=Succeeded,status.phase!=Failed")
            .limit(PAGE);
        let mut old = Vec::new();
        loop {
            let page = api.list_metadata(&params).await;
            let page = page.map_err(|error| explained(&error, "list pods"))?;
            old.extend(page.items.iter().filter_map(|pod| {
                let created = pod.metadata.creation_timestamp.as_ref()?;
                let place = pod.namespace().unwrap_or_default();
                (created.0 < from).then(|| format!("{place}/{}", pod.name_any()))
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                None => return Ok(old),
                Some(token) => params = params.continue_token(&token),
            }
        }
    }

    async fn gateway_pods(&self) -> Result<BTreeSet<String>, String> {
        let namespaces = self.settings.gateways.iter().map(|it| it.namespace.clone());
        let mut pods = BTreeSet::new();
        for namespace in namespaces.collect::<BTreeSet<_>>() {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
            let found = api.list_metadata(&ListParams::default()).await;
            let found = found.map_err(|error| explained(&error, "list pods"))?;
            pods.extend(found.items.iter().map(ResourceExt::name_any));
        }
        Ok(pods)
    }
}

fn old_pods(old: &[String], from: Timestamp) -> Option<String> {
    if old.is_empty() {
        return None;
    }
    let named = old.iter().take(NAMED).cloned().collect::<Vec<_>>();
    let more = match old.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "{} pods started before both roots were published everywhere ({from:.0}) and trust the old one alone: {}{more}; wait until they end, or restart them (kubectl rollout restart), or force the step: their requests then fail until they restart",
        old.len(),
        named.join(", ")
    ))
}
