//! Finds the workloads of a caller.

use std::sync::Arc;

use foldhash::HashMap;
use smallvec::SmallVec;

use super::{
    CallerFacts, PolicySet,
    answer::{Mismatch, NearestSelector},
};
use crate::model::{Selector, Workload};

/// The workloads of a caller, in one revision. Computed once per connection and revision, so that
/// decisions need not match selectors again.
#[derive(Debug, Clone)]
pub struct Recognised {
    /// The revision that the numbers refer to.
    revision: Arc<str>,
    /// Ascending, so also sorted by name.
    workloads: SmallVec<[u32; 4]>,
}

impl Recognised {
    /// Whether the caller matches no workload.
    pub fn is_unknown(&self) -> bool {
        self.workloads.is_empty()
    }

    /// Whether it was made by this policy set, and not by one before a reload.
    pub fn is_of(&self, policies: &PolicySet) -> bool {
        Arc::ptr_eq(&self.revision, &policies.revision)
    }
}

/// Selectors, indexed by the keys that must be equal.
#[derive(Debug)]
pub(super) struct SelectorIndex {
    by_spiffe_id: HashMap<Box<str>, Vec<Place>>,
    /// By namespace, then service account.
    by_account: HashMap<Box<str>, HashMap<Box<str>, Vec<Place>>>,
    /// Selectors without one of these keys; compared with every caller.
    others: Vec<Place>,
}

/// A workload's number and the index of a selector in it.
type Place = (u32, usize);

pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).expect("there are fewer than 2^32 resources in memory")
}

impl SelectorIndex {
    pub(super) fn new(workloads: &[Arc<Workload>]) -> Self {
        let mut index = Self {
            by_spiffe_id: HashMap::default(),
            by_account: HashMap::default(),
            others: Vec::new(),
        };
        for (workload_index, workload) in workloads.iter().enumerate() {
            for (entry, selector) in workload.selectors.iter().enumerate() {
                index.places(selector).push((number(workload_index), entry));
            }
        }
        index
    }

    fn places(&mut self, selector: &Selector) -> &mut Vec<Place> {
        match (
            &selector.spiffe_id,
            &selector.namespace,
            &selector.service_account,
        ) {
            (Some(id), _, _) => self.by_spiffe_id.entry(id.as_str().into()).or_default(),
            (None, Some(namespace), Some(account)) => self
                .by_account
                .entry(namespace.as_str().into())
                .or_default()
                .entry(account.as_str().into())
                .or_default(),
            (None, None, _) | (None, _, None) => &mut self.others,
        }
    }

    /// Every selector that may match the caller.
    fn candidates<'i>(&'i self, caller: &CallerFacts) -> impl Iterator<Item = Place> + 'i {
        let by_id = caller
            .spiffe_id
            .as_deref()
            .and_then(|id| self.by_spiffe_id.get(id));
        let by_account = caller
            .namespace
            .as_deref()
            .and_then(|namespace| self.by_account.get(namespace))
            .zip(caller.service_account.as_deref())
            .and_then(|(accounts, account)| accounts.get(account));
        by_id
            .into_iter()
            .chain(by_account)
            .chain([&self.others])
            .flatten()
            .copied()
    }
}

impl PolicySet {
    /// The workloads of this caller.
    pub fn recognise(&self, caller: &CallerFacts) -> Recognised {
        let mut workloads: SmallVec<[u32; 4]> = self
            .selectors
            .candidates(caller)
            .filter(|(workload, entry)| {
                let workload = &self.workloads[*workload as usize];
                recognises(&workload.selectors[*entry], caller)
            })
            .map(|(workload, _)| workload)
            .collect();
        workloads.sort_unstable();
        workloads.dedup();
        Recognised {
            revision: self.revision.clone(),
            workloads,
        }
    }

    /// The workloads in `who`, by name; none if `who` was made by another revision.
    pub fn workloads_of<'s>(
        &'s self,
        who: &Recognised,
    ) -> impl Iterator<Item = &'s Arc<Workload>> + use<'s> {
        self.numbers_of(who)
            .iter()
            .map(|number| &self.workloads[*number as usize])
            .collect::<SmallVec<[_; 4]>>()
            .into_iter()
    }

    pub(super) fn numbers_of<'w>(&self, who: &'w Recognised) -> &'w [u32] {
        if who.is_of(self) { &who.workloads } else { &[] }
    }

    /// The selector that came closest, for a caller that matches no workload. It must agree in the
    /// service account, its namespace or the SPIFFE ID.
    pub(super) fn nearest_selector(&self, caller: &CallerFacts) -> Option<NearestSelector> {
        let mut best: Option<((usize, usize), &Arc<Workload>, usize)> = None;
        for workload in &self.workloads {
            for (entry, selector) in workload.selectors.iter().enumerate() {
                let Some(score) = nearness(selector, caller) else {
                    continue;
                };
                if best.is_none_or(|(most, _, _)| score > most) {
                    best = Some((score, workload, entry));
                }
            }
        }
        let by_id = || self.nearest_spiffe_id(caller);
        let best = best.map(|(_, workload, entry)| (workload, entry));
        let (workload, entry) = best.or_else(by_id)?;
        Some(NearestSelector {
            workload: workload.clone(),
            entry,
            mismatches: compare(&workload.selectors[entry], caller)
                .filter_map(|part| part.mismatch())
                .collect(),
        })
    }
}

impl PolicySet {
    /// The selector whose SPIFFE ID has most in common with the caller's, in the same trust domain.
    fn nearest_spiffe_id(&self, caller: &CallerFacts) -> Option<(&Arc<Workload>, usize)> {
        let id = caller.spiffe_id.as_deref()?;
        let trust_domain = id
            .split('/')
            .take(3)
            .map(|part| part.len() + 1)
            .sum::<usize>();
        let selectors = self.workloads.iter().flat_map(|workload| {
            let selectors = workload.selectors.iter().enumerate();
            selectors.map(move |(entry, selector)| (workload, entry, selector))
        });
        let scored = selectors.filter_map(|(workload, entry, selector)| {
            let wanted = selector.spiffe_id.as_deref()?;
            let alike = wanted.bytes().zip(id.bytes());
            let common = alike.take_while(|(ours, theirs)| ours == theirs).count();
            (common >= trust_domain).then_some((common, workload, entry))
        });
        let (_, workload, entry) = scored.max_by_key(|(common, ..)| *common)?;
        Some((workload, entry))
    }
}

impl Selector {
    /// Whether every part of it matches the caller.
    pub fn matches(&self, caller: &CallerFacts) -> bool {
        recognises(self, caller)
    }
}

/// Whether every part of the selector matches.
pub(super) fn recognises(selector: &Selector, caller: &CallerFacts) -> bool {
    compare(selector, caller).all(|part| part.matches())
}

/// How close a selector is: first the parts that prove identity, then all that match. `None` if it does
/// not resemble the caller.
pub(super) fn nearness(selector: &Selector, caller: &CallerFacts) -> Option<(usize, usize)> {
    let matching = |part: &Part<'_>| part.matches();
    let who = compare(selector, caller)
        .filter(|part| matches!(part.what, "namespace" | "serviceAccount" | "spiffeId"))
        .filter(matching)
        .count();
    (who > 0).then(|| (who, compare(selector, caller).filter(matching).count()))
}

/// One part that a selector has, and the caller's value for it.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    what: &'static str,
    test: Test<'a>,
}

#[derive(Clone, Copy)]
enum Test<'a> {
    Equal {
        wanted: &'a str,
        given: Given<'a>,
    },
    Label {
        key: &'a str,
        wanted: &'a str,
        given: Given<'a>,
    },
    /// Every image must be in the list, and there must be at least one.
    Images {
        wanted: &'a [String],
        given: Option<&'a [String]>,
    },
}

#[derive(Clone, Copy)]
enum Given<'a> {
    Known(Option<&'a str>),
    NotAsked,
}

/// The parts that a selector has, in the order of the resource.
pub(super) fn compare<'a>(
    selector: &'a Selector,
    caller: &'a CallerFacts,
) -> impl Iterator<Item = Part<'a>> {
    let equal = |what, wanted: &'a Option<String>, given: &'a Option<Arc<str>>| {
        wanted.as_deref().map(|wanted| Part {
            what,
            test: Test::Equal {
                wanted,
                given: Given::Known(given.as_deref()),
            },
        })
    };
    let pod = caller.kubernetes.as_deref();
    let cron_job = selector.cron_job.as_deref().map(move |wanted| Part {
        what: "cronJob",
        test: Test::Equal {
            wanted,
            given: pod.map_or(Given::NotAsked, |pod| Given::Known(pod.cron_job.as_deref())),
        },
    });
    let labels = selector.pod_labels.iter().map(move |(key, wanted)| Part {
        what: "podLabels",
        test: Test::Label {
            key,
            wanted,
            given: pod.map_or(Given::NotAsked, |pod| {
                Given::Known(pod.labels.get(key).map(String::as_str))
            }),
        },
    });
    let images = (!selector.images.is_empty()).then_some(Part {
        what: "images",
        test: Test::Images {
            wanted: &selector.images,
            given: pod.map(|pod| pod.images.as_slice()),
        },
    });
    [
        equal("cluster", &selector.cluster, &caller.cluster),
        equal("namespace", &selector.namespace, &caller.namespace),
        equal(
            "serviceAccount",
            &selector.service_account,
            &caller.service_account,
        ),
        equal("spiffeId", &selector.spiffe_id, &caller.spiffe_id),
        cron_job,
        images,
    ]
    .into_iter()
    .flatten()
    .chain(labels)
}

impl Part<'_> {
    pub(super) fn matches(&self) -> bool {
        match self.test {
            Test::Equal { wanted, given } | Test::Label { wanted, given, .. } => match given {
                Given::Known(given) => given == Some(wanted),
                Given::NotAsked => false,
            },
            Test::Images { wanted, given } => given.is_some_and(|given| {
                !given.is_empty() && given.iter().all(|image| wanted.contains(image))
            }),
        }
    }

    pub(super) fn mismatch(&self) -> Option<Mismatch> {
        const NOT_ASKED: &str = "unknown: this needs the Kubernetes API, which was not queried";
        if self.matches() {
            return None;
        }
        let given = |given| match given {
            Given::Known(given) => given.unwrap_or("none"),
            Given::NotAsked => NOT_ASKED,
        };
        Some(match self.test {
            Test::Equal {
                wanted,
                given: actual,
            } => Mismatch::new(self.what, wanted, given(actual)),
            Test::Label {
                key,
                wanted,
                given: actual,
            } => Mismatch::new(
                self.what,
                &format!("{key}={wanted}"),
                &match actual {
                    Given::Known(Some(actual)) => format!("{key}={actual}"),
                    Given::Known(None) => format!("no label {key}"),
                    Given::NotAsked => NOT_ASKED.to_owned(),
                },
            ),
            Test::Images {
                wanted,
                given: actual,
            } => Mismatch::new(
                self.what,
                &format!("only {}", wanted.join(", ")),
                &match actual {
                    Some([]) => "the image of a container is not known yet".to_owned(),
                    Some(images) => images.join(", "),
                    None => NOT_ASKED.to_owned(),
                },
            ),
        })
    }
}
