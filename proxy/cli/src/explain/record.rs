//! `countersign explain ID`: the story behind one record.

use std::{io::Write, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use countersign_config::{
    load,
    policy::{CallerFacts, Decision, RequestFacts},
    shown::escaped,
};
use countersign_core::{
    clock::Clock,
    destination::{Authority, HTTPS},
};
use countersign_insight::{
    story::{Story, story},
    triage::{self, Style},
};
use http::{Method, uri::PathAndQuery};
use jiff::tz::TimeZone;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    format::{self, FINDINGS, Format},
    logs::Logs,
    output,
};

/// Tells the story of a record. Exit code 0 if its request went through, 1 if not, 2 if it is not found.
pub(super) fn explain(
    id: Uuid,
    logs: &Logs,
    resources: Option<&PathBuf>,
    output: Format,
) -> anyhow::Result<ExitCode> {
    let id = id.hyphenated().to_string();
    let mut reader = logs.open()?;
    let Some(story) = story(&mut reader, &id) else {
        let read = reader.counts().records;
        bail!(
            "none of the {read} records that were read has the id {id}; name the log of the gateway that refused it (--log), or ask it (--admin)"
        );
    };
    let text = match format::data(&story, output)? {
        Some(text) => text,
        None => table(&story, resources)?,
    };
    let mut stdout = output::stdout();
    write!(stdout, "{text}")?;
    stdout.flush()?;
    let went_through = matches!(
        story.record["outcome"].as_str(),
        Some("permitted" | "tunnelled")
    );
    Ok(if went_through {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FINDINGS)
    })
}

fn table(story: &Story, resources: Option<&PathBuf>) -> anyhow::Result<String> {
    let mut lines = vec![format!("{}.", story.what)];
    if let Some(detail) = story.record["detail"].as_str() {
        lines.push(detail.to_owned());
    }
    for change in &story.would_permit {
        lines.push(format!("would permit it: {change}"));
    }
    if let Some(resources) = resources {
        lines.push(format!("now: {}", now(&story.record, resources)?));
    }
    let mut text = String::new();
    for line in &lines {
        text.push_str(&escaped(line));
        text.push('\n');
    }
    if let Some(finding) = &story.finding {
        let style = Style {
            zone: TimeZone::system(),
            ..Style::default()
        };
        text.push('\n');
        text.push_str(&triage::finding(finding, &style));
    }
    Ok(text)
}

/// How the same request would be decided now.
fn now(record: &Value, directory: &PathBuf) -> anyhow::Result<String> {
    let loaded = match load::resources(&[directory]) {
        Ok(loaded) => loaded,
        Err(problems) => return Err(crate::files::unusable(&problems)),
    };
    let policies = &loaded.policies;
    let target = &record["target"];
    let (Some(authority), Some(method), Some(path)) = (
        target["authority"].as_str(),
        target["method"].as_str(),
        target["path"].as_str(),
    ) else {
        return Ok("not known, because the record has no request".to_owned());
    };
    let authority = Authority::with_default_port(authority, HTTPS)?;
    let written: PathAndQuery = path.parse().context("the record's path is no path")?;
    let path = policies.path(authority.host(), authority.port(), &written)?;
    let method: Method = method.parse().context("the record's method is none")?;
    let request = RequestFacts {
        host: authority.host(),
        port: authority.port(),
        method: &method,
        path: &path,
    };
    let caller = caller(record).context("the record's caller was not proven")?;
    let explanation = policies.explain(&caller, &request, Clock::system().now());
    let revision = policies.revision();
    Ok(match explanation.decision {
        Decision::Permit(_) => format!("revision {revision} would permit it"),
        Decision::Deny(denial) => {
            let reason = countersign_authorize::reason(denial.reason);
            format!(
                "revision {revision} would refuse it: {}",
                reason.facts().code
            )
        }
        Decision::Unmatched => format!("in revision {revision} no target has its host"),
    })
}

/// The facts of a record's caller, as far as it has them.
fn caller(record: &Value) -> Option<CallerFacts> {
    let caller = &record["caller"];
    let subject = caller["subject"].as_str()?;
    let mut facts = CallerFacts {
        cluster: caller["issuer"].as_str().map(Arc::from),
        ..CallerFacts::default()
    };
    let account = subject.strip_prefix("system:serviceaccount:");
    if let Some((namespace, account)) = account.and_then(|rest| rest.split_once(':')) {
        facts.namespace = Some(namespace.into());
        facts.service_account = Some(account.into());
        facts.pod = caller["pod"].as_str().map(Arc::from);
    } else {
        facts.spiffe_id = Some(subject.into());
        facts.cluster = None;
    }
    Some(facts)
}
