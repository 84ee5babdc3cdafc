//! Classes of callers: which selectors match.
//!
//! A gateway proves a service account by a token, a SPIFFE ID by a certificate, or both if the certificate's
//! path names the token's service account. So selectors can only match one caller together if they agree in
//! one service account or one SPIFFE ID.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use countersign_config::{
    model::{Selector, Workload},
    policy::{CallerFacts, PodFacts},
    spiffe::SpiffeId,
};

use crate::space::{Set, TooComplex};

/// The most classes of callers with one service account.
const MAX_CLASSES: usize = 4096;

/// All selectors of two revisions, each once.
#[derive(Debug)]
pub(crate) struct Selectors {
    all: Vec<Selector>,
}

/// Callers that match the same selectors.
#[derive(Debug, Clone)]
pub(crate) struct CallerClass {
    /// Which.
    pub(crate) selectors: Set,
    /// One of them, with no facts beyond those that the selectors ask for.
    pub(crate) example: CallerFacts,
}

/// Selectors that one caller may match together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Account(String, String),
    Spiffe(String),
}

impl Selectors {
    pub(crate) fn of<'w>(workloads: impl Iterator<Item = &'w Arc<Workload>>) -> Self {
        let mut all: BTreeMap<String, Selector> = BTreeMap::new();
        for selector in workloads.flat_map(|workload| &workload.selectors) {
            all.insert(key(selector), selector.clone());
        }
        Self {
            all: all.into_values().collect(),
        }
    }

    /// The numbers of a workload's selectors.
    pub(crate) fn numbers(&self, workload: &Workload) -> Set {
        let numbers = workload
            .selectors
            .iter()
            .map(|selector| self.number(selector));
        numbers.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn number(&self, selector: &Selector) -> u32 {
        let wanted = key(selector);
        let found = self.all.binary_search_by(|own| key(own).cmp(&wanted));
        number(found.expect("it is one of these"))
    }

    /// The selectors that match a caller.
    pub(crate) fn matching(&self, caller: &CallerFacts) -> Set {
        let all = (0_u32..).zip(&self.all);
        all.filter(|(_, selector)| selector.matches(caller))
            .map(|(number, _)| number)
            .collect()
    }

    /// The groups of selectors that one caller may match together.
    pub(crate) fn groups(&self) -> Vec<Set> {
        let mut groups: BTreeMap<Group, BTreeSet<u32>> = BTreeMap::new();
        for (number, selector) in (0_u32..).zip(&self.all) {
            let id = selector.spiffe_id.as_deref();
            let proven = id.and_then(|id| SpiffeId::parse(id).ok());
            let proven = proven.as_ref().and_then(SpiffeId::service_account);
            if let Some(id) = id
                && selector.service_account.is_none()
            {
                groups
                    .entry(Group::Spiffe(id.to_owned()))
                    .or_default()
                    .insert(number);
            }
            let account = match (&selector.namespace, &selector.service_account) {
                (Some(namespace), Some(account)) => Some((namespace.as_str(), account.as_str())),
                _ => proven,
            };
            if let Some((namespace, account)) = account {
                let group = Group::Account(namespace.to_owned(), account.to_owned());
                groups.entry(group).or_default().insert(number);
            }
        }
        let sets: BTreeSet<Set> = groups
            .into_values()
            .map(|group| group.into_iter().collect())
            .collect();
        sets.into_iter().collect()
    }

    /// Every set of selectors of a group that some caller matches, without those that match none.
    pub(crate) fn classes(&self, group: &[u32]) -> Result<Vec<CallerClass>, TooComplex> {
        let mut found: BTreeMap<Set, CallerFacts> = BTreeMap::new();
        let mut waiting: Vec<Set> = group.iter().map(|number| vec![*number]).collect();
        while let Some(wanted) = waiting.pop() {
            let Some(example) = self.example(&wanted) else {
                continue;
            };
            let matching: Set = group
                .iter()
                .copied()
                .filter(|number| self.all[*number as usize].matches(&example))
                .collect();
            if found.contains_key(&matching) || !wanted.iter().all(|one| matching.contains(one)) {
                continue;
            }
            if found.len() >= MAX_CLASSES {
                return Err(TooComplex);
            }
            let further = group.iter().filter(|number| !matching.contains(number));
            waiting.extend(further.map(|number| [matching.as_slice(), &[*number]].concat()));
            found.insert(matching, example);
        }
        let classes = found
            .into_iter()
            .map(|(selectors, example)| CallerClass { selectors, example });
        Ok(classes.collect())
    }

    /// The caller with the facts that these selectors ask for and no others; `None` if they contradict each
    /// other.
    fn example(&self, wanted: &[u32]) -> Option<CallerFacts> {
        let mut facts = CallerFacts::default();
        let mut pod = PodFacts::default();
        let (mut asks_pod, mut images) = (false, None::<Vec<String>>);
        for number in wanted {
            let selector = &self.all[*number as usize];
            agree(&mut facts.cluster, selector.cluster.as_deref())?;
            agree(&mut facts.namespace, selector.namespace.as_deref())?;
            agree(
                &mut facts.service_account,
                selector.service_account.as_deref(),
            )?;
            agree(&mut facts.spiffe_id, selector.spiffe_id.as_deref())?;
            let mut cron_job = pod.cron_job.take().map(Arc::from);
            agree(&mut cron_job, selector.cron_job.as_deref())?;
            pod.cron_job = cron_job.as_deref().map(str::to_owned);
            for (label, value) in &selector.pod_labels {
                let known = pod
                    .labels
                    .entry(label.clone())
                    .or_insert_with(|| value.clone());
                if known != value {
                    return None;
                }
            }
            if !selector.images.is_empty() {
                // With all images that are permitted, no selector matches that need not.
                let both = match images {
                    None => selector.images.clone(),
                    Some(images) => images
                        .into_iter()
                        .filter(|image| selector.images.contains(image))
                        .collect(),
                };
                images = Some(both);
            }
            asks_pod |= selector.cron_job.is_some()
                || !selector.pod_labels.is_empty()
                || !selector.images.is_empty();
        }
        if images.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        pod.images = images.unwrap_or_default();
        facts.kubernetes = asks_pod.then(|| Arc::new(pod));
        complete(facts)
    }
}

/// Adds what a caller has whenever it has the rest; `None` if a gateway proves no such caller.
fn complete(mut facts: CallerFacts) -> Option<CallerFacts> {
    let id = facts.spiffe_id.clone();
    let id = id.as_deref().and_then(|id| SpiffeId::parse(id).ok());
    let named = id.as_ref().and_then(SpiffeId::service_account);
    let has_token = facts.cluster.is_some()
        || facts.namespace.is_some()
        || facts.service_account.is_some()
        || facts.kubernetes.is_some();
    if facts.spiffe_id.is_some() && has_token {
        let (namespace, account) = named?;
        agree(&mut facts.namespace, Some(namespace))?;
        agree(&mut facts.service_account, Some(account))?;
    }
    Some(facts)
}

/// Sets what is not set; `None` if it is set to something else.
fn agree(fact: &mut Option<Arc<str>>, wanted: Option<&str>) -> Option<()> {
    match (fact.as_deref(), wanted) {
        (_, None) => Some(()),
        (None, Some(wanted)) => {
            *fact = Some(wanted.into());
            Some(())
        }
        (Some(fact), Some(wanted)) => (fact == wanted).then_some(()),
    }
}

fn key(selector: &Selector) -> String {
    format!("{selector:?}")
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a list in memory is shorter")
}
