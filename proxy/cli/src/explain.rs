//! `countersign explain`: how a request would be decided, with the same code that decides it.

mod record;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use clap::Args;
use countersign_config::{
    load,
    path::CanonicalPath,
    policy::{CallerFacts, Decision, PodFacts, PolicySet, RequestFacts},
    shown::escaped,
};
use countersign_core::{
    clock::Clock,
    destination::{Authority, HTTPS},
    reason::Reason,
};
use http::{Method, Uri, uri::PathAndQuery};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    answer::{self, Format},
    files::found,
    logs::Logs,
    report,
    revisions::Revisions,
    subject::{self, Named},
};

/// Shows how a request would be decided, and how each rule contributed. Exit code 0 if it would be permitted, 1 if not, 2 if
/// that cannot be said.
///
/// With the id of a refusal (it is in the refusal's body and its `Proxy-Status`) instead: what was decided then, what
/// would be decided now, which revision changed it, and what to do; exit code 1 if it did not go through.
#[derive(Debug, Args)]
pub(super) struct ExplainCommand {
    /// A directory or file of resources, or the id of a record.
    #[arg(value_name = "DIR|ID")]
    directory: PathBuf,
    /// The caller: a workload's name, NAMESPACE/NAME of a service account,
    /// `system:serviceaccount:NAMESPACE:NAME`, or a SPIFFE ID.
    #[arg(long = "as", value_name = "SUBJECT", default_value = "")]
    subject: String,
    /// The issuer's name; needed only if selectors name several clusters.
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// The caller's CronJob.
    #[arg(long, value_name = "NAME")]
    cron_job: Option<String>,
    /// A label of the caller's pod.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// An image of the caller's pod, by digest.
    #[arg(long = "image", value_name = "IMAGE")]
    images: Vec<String>,
    /// The time, as in RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The request's method.
    method: Option<Method>,
    /// The request's URL.
    url: Option<Uri>,
    /// With an ID: a decision log, or a folder of logs, in which the record is; may be given several times.
    #[arg(long, value_name = "LOG")]
    log: Vec<PathBuf>,
    /// With an ID: the admin endpoint of a gateway that may have the record among its latest ones.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "log")]
    admin: Vec<SocketAddr>,
    /// With an ID: the state directory of a gateway, which has the revisions that were in force. With --admin, the gateway
    /// is asked for them.
    #[arg(long, value_name = "DIR")]
    revisions: Option<PathBuf>,
    /// With an ID: resources by which the same request is decided now. Default: the newest kept revision.
    #[arg(long, value_name = "DIR")]
    resources: Option<PathBuf>,
    /// The form of the answer.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
}

/// How a request would be decided.
#[derive(Serialize)]
struct Told {
    schema: &'static str,
    decision: &'static str,
    reason: Option<&'static str>,
    remedy: Option<&'static str>,
    /// What was assumed about the caller, and whether it is known.
    notes: Vec<String>,
    /// How each rule contributed.
    explanation: String,
}

impl Told {
    fn text(&self) -> String {
        let mut lines = self.notes.clone();
        lines.push(self.explanation.clone());
        if let (Some(reason), Some(remedy)) = (self.reason, self.remedy) {
            lines.push(format!("reason: {reason}"));
            lines.push(format!("remedy: {remedy}"));
        }
        lines.join("\n") + "\n"
    }

    fn markdown(&self) -> String {
        let verdict = match self.reason {
            None => "permitted".to_owned(),
            Some(reason) => format!("refused: `{reason}`"),
        };
        format!("**{verdict}**\n\n```text\n{}```\n", self.text())
    }
}

impl ExplainCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(self.answer())
    }

    fn answer(self) -> anyhow::Result<ExitCode> {
        if let Some(id) = self.id() {
            let logs = Logs::new(&self.log, &self.admin);
            let revisions = Revisions::new(self.revisions.as_ref(), &self.admin);
            let resources = self.resources.as_ref();
            return record::explain(id, &logs, &revisions, resources, self.output);
        }
        let (Some(method), Some(url)) = (&self.method, &self.url) else {
            bail!("write DIR --as SUBJECT METHOD URL, or the ID of a record and --log or --admin");
        };
        if self.subject.is_empty() {
            bail!("say who calls: --as SUBJECT");
        }
        self.decide(method, url)
    }

    /// The id of a record, if that was written instead of a directory.
    fn id(&self) -> Option<Uuid> {
        let written = self.directory.to_str()?;
        Uuid::parse_str(written)
            .ok()
            .filter(|_| !self.directory.exists())
    }

    fn decide(&self, method: &Method, url: &Uri) -> anyhow::Result<ExitCode> {
        let loaded = match load::resources(&[&self.directory]) {
            Ok(loaded) => loaded,
            Err(problems) => return report::problems(&problems),
        };
        found(&loaded)?;
        let policies = &loaded.policies;
        let (authority, path) = destination(url, policies)?;
        let (caller, assumed) = self.caller(policies)?;
        let request = RequestFacts {
            host: authority.host(),
            port: authority.port(),
            method,
            path: &path,
        };
        let at = self.at.unwrap_or_else(|| Clock::system().now());
        let explanation = policies.explain(&caller, &request, at);
        let mut notes: Vec<_> = assumed
            .iter()
            .map(|assumption| format!("assumed: {}", escaped(assumption)))
            .collect();
        if policies.recognise(&caller).is_unknown() {
            let suggestion = subject::suggestion(&self.subject, policies.workloads());
            notes.push(format!(
                "no workload matches this caller{}",
                escaped(&suggestion)
            ));
        }
        let refused = match &explanation.decision {
            Decision::Permit(_) => None,
            Decision::Deny(denial) => Some(countersign_authorize::reason(denial.reason)),
            Decision::Unmatched => Some(Reason::HostUnmatched),
        };
        let told = Told {
            schema: "countersign.explain/v1",
            decision: if refused.is_some() { "deny" } else { "permit" },
            reason: refused.map(|reason| reason.facts().code),
            remedy: refused.map(|reason| reason.facts().remedy),
            notes,
            explanation: explanation.to_string(),
        };
        let text = || told.text();
        answer::print(self.output, text, || told.markdown(), || &told)?;
        Ok(answer::findings(refused.is_some()))
    }

    /// The facts of the caller, and what was assumed about it.
    fn caller(&self, policies: &PolicySet) -> anyhow::Result<(CallerFacts, Vec<String>)> {
        let mut facts = CallerFacts {
            cluster: self.cluster.as_deref().map(Into::into),
            kubernetes: self.kubernetes(),
            ..CallerFacts::default()
        };
        let mut assumed = Vec::new();
        match subject::read(&self.subject, policies.workloads())? {
            Named::Spiffe(id) => facts.spiffe_id = Some(id.shared()),
            Named::Account(namespace, name) => {
                facts.namespace = Some(namespace.into());
                facts.service_account = Some(name.into());
            }
            Named::Workload(workload) => {
                let selector = subject::selector(workload);
                if let Some(account) = &selector.service_account {
                    let namespace = subject::namespace(selector, workload);
                    facts.namespace = namespace.map(Into::into);
                    facts.service_account = Some(account.as_str().into());
                    let namespace = namespace.unwrap_or_default();
                    assumed.push(format!("the service account {namespace}/{account}"));
                }
                if let Some(id) = &selector.spiffe_id {
                    facts.spiffe_id = Some(id.as_str().into());
                    assumed.push(format!("the SPIFFE ID {id}"));
                }
                if facts.cluster.is_none()
                    && let Some(cluster) = &selector.cluster
                {
                    facts.cluster = Some(cluster.as_str().into());
                    assumed.push(format!("--cluster {cluster}"));
                }
            }
        }
        if facts.service_account.is_some()
            && facts.cluster.is_none()
            && let Some(cluster) = only_cluster(policies)
        {
            assumed.push(format!(
                "--cluster {cluster}, the only one that selectors name"
            ));
            facts.cluster = Some(cluster);
        }
        Ok((facts, assumed))
    }

    /// The facts from the Kubernetes API, if any were given.
    fn kubernetes(&self) -> Option<Arc<PodFacts>> {
        let given = self.cron_job.is_some() || !self.labels.is_empty() || !self.images.is_empty();
        given.then(|| {
            Arc::new(PodFacts {
                labels: self.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
                images: self.images.clone(),
                cron_job: self.cron_job.clone(),
                ..PodFacts::default()
            })
        })
    }
}

fn destination(url: &Uri, policies: &PolicySet) -> anyhow::Result<(Authority, CanonicalPath)> {
    if url.scheme_str() != Some("https") {
        bail!("the URL must start with https://; only HTTPS requests get a credential");
    }
    let written = url.authority().context("the URL has no host")?;
    let authority = Authority::with_default_port(written.as_str(), HTTPS)?;
    let root = PathAndQuery::from_static("/");
    let path = url.path_and_query().unwrap_or(&root);
    let path = policies.path(authority.host(), authority.port(), path)?;
    Ok((authority, path))
}

/// The cluster that selectors name, if they all name the same.
fn only_cluster(policies: &PolicySet) -> Option<Arc<str>> {
    let selectors = policies
        .workloads()
        .iter()
        .flat_map(|workload| &workload.selectors);
    let mut clusters = selectors.filter_map(|selector| selector.cluster.as_deref());
    let first = clusters.next()?;
    clusters
        .all(|cluster| cluster == first)
        .then(|| first.into())
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write a label as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
