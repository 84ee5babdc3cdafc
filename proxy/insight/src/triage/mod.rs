//! Why jobs failed: failures grouped by cause and not by line, each with whose side it is on, since when, what
//! changed just before, and the one thing to do.
//!
//! One pass in bounded memory; `docs/triage.md` says how each verdict comes about.

mod causes;
mod changes;
mod collect;
mod episode;
mod report;
mod scope;
mod shape;
mod show;
mod timeline;
mod verdict;

use jiff::Timestamp;

use self::collect::Collected;
pub use self::{
    causes::{Blame, is_known},
    changes::Change,
    report::{AffectedWorkload, Confidence, Finding, Report},
    show::{Style, finding, markdown, table},
};
use crate::{
    reader::{Counts, Line, Reader},
    record::Decision,
};

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only what concerns this workload, `NAMESPACE/NAME`.
    pub workload: Option<String>,
    /// Only records from then on.
    pub since: Option<Timestamp>,
    /// Only one run of a Job: its name, or a pod of it.
    pub run: Option<String>,
    /// Also what was brief and is over.
    pub all: bool,
}

impl Options {
    fn concerns(&self, decision: &Decision<'_>, who: &str) -> bool {
        let workload = self.workload.as_deref().is_none_or(|wanted| wanted == who);
        let run = self.run.as_deref().is_none_or(|run| {
            let pod = decision
                .caller
                .as_ref()
                .and_then(|caller| caller.pod.as_deref());
            pod.is_some_and(|pod| crate::receipt::is_of_run(pod, run))
        });
        workload && run
    }
}

/// Collects records, and says at any time what they mean.
#[derive(Debug, Default)]
pub struct Triage {
    options: Options,
    collected: Collected,
}

impl Triage {
    /// Nothing seen yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            collected: Collected::default(),
        }
    }

    /// Takes one record into account. Their order matters little.
    pub fn see(&mut self, line: &Line<'_>) {
        self.collected.see(line, &self.options);
    }

    /// What the records so far mean.
    pub fn report(&self, counts: &Counts) -> Report {
        let mut report = verdict::report(&self.collected, &self.options);
        report.note(counts);
        report
    }
}

/// Whether a finding may be that of a request: it names its workload (or its address), and is of its reason's kind.
pub(crate) fn explains(finding: &Finding, who: &str, client: &str, reason: &str) -> bool {
    let address = collect::host(client);
    let names = |name: &str| {
        if who.is_empty() {
            name == address
        } else {
            name == who
        }
    };
    let named = finding.affected.iter().any(|one| names(&one.name));
    let meaning = causes::of(reason);
    let alike = finding.reason == reason || finding.kind == meaning.label;
    let is_answer = finding.kind == causes::API_SAID_NO.label && reason == "permitted";
    named && (alike || is_answer)
}

/// On whose side a reason is; that of a later version is the gateway's.
pub fn blame_of(reason: &str) -> Blame {
    causes::of(reason).blame
}

/// Whether a reason is about the credential that a request carried.
pub fn is_of_credential(reason: &str) -> bool {
    matches!(causes::of(reason).label, "CREDENTIAL" | "SCOPE")
}

/// Which step of a request a reason ends.
pub(crate) fn label_of(reason: &str) -> &'static str {
    causes::of(reason).label
}

/// Reads everything, and says what it means.
pub fn triage(reader: &mut Reader, options: Options) -> Report {
    let mut triage = Triage::new(options);
    reader.each(|line| triage.see(&line));
    triage.report(reader.counts())
}
