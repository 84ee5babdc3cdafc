//! What the elected gateway writes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use countersign_config::cluster::{CredentialStanding, Key, Report, Scope, Verdict};
use kube::api::ListParams;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    MANAGER, Objects, Source, by_name,
    document::{Document, Transitions, transitions},
    why,
};
use crate::backoff::jittered;

/// After a write or a list that failed.
const PAUSE: Duration = Duration::from_secs(10);

/// Objects in one answer of the API server.
const PAGE: u32 = 500;

/// What stands in the status of an object.
#[derive(Debug)]
struct Known {
    uid: String,
    /// Of the document; `None` if it is another one than any of ours.
    digest: Option<u64>,
    transitions: Transitions,
}

pub(super) struct Writer<'s> {
    source: &'s Source,
    objects: &'s Objects<'s>,
    reports: watch::Receiver<Option<Arc<Report>>>,
    known: BTreeMap<Key, Known>,
    credentials: BTreeMap<String, CredentialStanding>,
    told: Option<String>,
}

impl<'s> Writer<'s> {
    pub(super) fn new(source: &'s Source, objects: &'s Objects<'s>) -> Self {
        Self {
            source,
            objects,
            reports: source.reports.clone(),
            known: BTreeMap::new(),
            credentials: BTreeMap::new(),
            told: None,
        }
    }

    /// Writes for as long as this gateway is the one that does.
    pub(super) async fn run(mut self) {
        loop {
            // An error is that the gateway ends.
            let Ok(report) = self
                .reports
                .wait_for(Option::is_some)
                .await
                .map(|it| it.clone())
            else {
                return std::future::pending().await;
            };
            let Some(report) = report else { continue };
            while let Err(error) = self.read_again(&report).await {
                self.fail(&error).await;
            }
            self.until_it_is_read_again().await;
        }
    }

    async fn until_it_is_read_again(&mut self) {
        let end = Instant::now() + self.source.pace.again;
        loop {
            let report = self.reports.borrow_and_update().clone();
            if let Some(report) = report {
                self.credentials = by_name((self.source.credentials)());
                self.write_due(&report).await;
            }
            tokio::select! {
                () = sleep_until(end) => return,
                // An error is that the gateway ends.
                changed = self.reports.changed() => if changed.is_err() {
                    return std::future::pending().await;
                },
                () = sleep(self.source.pace.look) => {}
            }
        }
    }

    /// Reads what stands in the cluster: of an earlier writer, or of others.
    async fn read_again(&mut self, report: &Report) -> kube::Result<()> {
        let verdicts: BTreeMap<&Key, &Verdict> =
            report.verdicts.iter().map(|it| (&it.key, it)).collect();
        self.credentials = by_name((self.source.credentials)());
        let mut known = BTreeMap::new();
        for scope in Scope::all_of(&self.source.objects) {
            let Some(api) = self.objects.of(&scope) else {
                continue;
            };
            let mut page = ListParams::default().limit(PAGE);
            loop {
                let list = api.list(&page).await?;
                for object in list.items {
                    let metadata = object.metadata;
                    let (Some(namespace), Some(name)) = (metadata.namespace, metadata.name) else {
                        continue;
                    };
                    let key = Key {
                        kind: scope.kind,
                        namespace,
                        name,
                    };
                    let Some(verdict) = verdicts.get(&key) else {
                        continue;
                    };
                    let status = &object.data["status"];
                    let wanted = Document::new(verdict, report, &self.credentials);
                    let stands = Known {
                        uid: metadata.uid.unwrap_or_default(),
                        digest: wanted.stands_in(status).then(|| wanted.digest()),
                        transitions: transitions(status),
                    };
                    known.insert(key, stands);
                }
                match list.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => page = ListParams::default().limit(PAGE).continue_token(&token),
                    None => break,
                }
            }
        }
        self.known = known;
        Ok(())
    }

    /// Writes what is not written yet, what is wrong first, until something newer is to be written.
    async fn write_due(&mut self, report: &Report) {
        let mut due = self.due(report);
        while let Some((verdict, document)) = due.pop_front() {
            match self.write(verdict, &document).await {
                Ok(()) => {
                    self.told = None;
                    sleep(self.source.pace.writes).await;
                }
                Err(error) => {
                    due.push_front((verdict, document));
                    self.fail(&error).await;
                }
            }
            if self.reports.has_changed().unwrap_or(true) {
                return;
            }
        }
    }

    fn due<'r>(&mut self, report: &'r Report) -> VecDeque<(&'r Verdict, Document)> {
        let there = &report.verdicts;
        self.known
            .retain(|key, _| there.binary_search_by(|it| it.key.cmp(key)).is_ok());
        let mut good = VecDeque::new();
        let mut due = VecDeque::new();
        for verdict in there {
            let document = Document::new(verdict, report, &self.credentials);
            let known = self.known.get(&verdict.key);
            let known = known.filter(|known| known.uid == verdict.uid);
            if known.is_some_and(|known| known.digest == Some(document.digest())) {
                continue;
            }
            let is_good = document.is_good();
            let queue = if is_good { &mut good } else { &mut due };
            queue.push_back((verdict, document));
        }
        due.append(&mut good);
        due
    }

    async fn write(&mut self, verdict: &Verdict, document: &Document) -> kube::Result<()> {
        let before = self.known.get(&verdict.key);
        let before = before.filter(|known| known.uid == verdict.uid);
        let none = Transitions::new();
        let before = before.map_or(&none, |known| &known.transitions);
        let (status, transitions) = document.status(before, self.source.clock.now());
        self.objects.apply(&verdict.key, MANAGER, status).await?;
        let known = Known {
            uid: verdict.uid.clone(),
            digest: Some(document.digest()),
            transitions,
        };
        self.known.insert(verdict.key.clone(), known);
        Ok(())
    }

    async fn fail(&mut self, error: &kube::Error) {
        let why = why(error);
        if self.told.as_ref() != Some(&why) {
            tracing::warn!(%why, "the status of objects is not written");
            self.told = Some(why);
        }
        sleep(jittered(PAUSE)).await;
    }
}
