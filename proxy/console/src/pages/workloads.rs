//! Workloads and what they may reach; one workload; who may make a request.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use countersign_insight::{
    access::{GrantRow as AccessRow, who_can},
    request::Asked as Wanted,
    review::{GrantRow, WorkloadRow},
    survey::Failure,
};

use crate::{
    Console,
    page::{Frame, Page},
    pages::review::reviewed,
    reading::Room,
    view::{FindingView, Link, When, by_urgency, link, record, sentence, shown},
};

/// The most workloads on one page.
const MOST: usize = 500;

/// The most requests on a workload's page.
const REQUESTS: usize = 20;

#[derive(Template)]
#[template(path = "workloads.html")]
struct Workloads {
    frame: Frame,
    rows: Vec<WorkloadSummary>,
    left_out: usize,
    asked: Option<Question>,
}

struct WorkloadSummary {
    name: Link,
    owner: String,
    environment: String,
    reaches: Vec<String>,
    last_used: String,
}

/// The question of who may make a request, and its answer.
struct Question {
    method: String,
    url: String,
    /// How many may, or why it cannot be answered.
    summary: String,
    rows: Vec<AccessRow>,
}

#[derive(Template)]
#[template(path = "workload.html")]
struct OneWorkload {
    frame: Frame,
    workload: WorkloadRow,
    grants: Vec<GrantView>,
    findings: Vec<FindingView>,
    failures: Vec<RequestRow>,
}

struct GrantView {
    grant: GrantRow,
    credentials: Vec<(Link, String)>,
}

struct RequestRow {
    at: When,
    request: Link,
    outcome: &'static str,
    reason: String,
}

/// What is asked for.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Asked {
    name: Option<String>,
    method: Option<String>,
    url: Option<String>,
}

pub(crate) async fn list(State(console): State<Console>) -> Response {
    let make = |room: &mut Room| make_list(room, None);
    console.desk.page("workloads".to_owned(), make).await
}

async fn answer(console: Console, method: String, url: String) -> Response {
    let key = format!("who-can {method} {url}");
    let make = move |room: &mut Room| {
        let asked = question(room, &method, &url);
        make_list(room, Some(asked))
    };
    console.desk.page(key, make).await
}

pub(crate) async fn ask(State(console): State<Console>, Query(asked): Query<Asked>) -> Response {
    let method = asked.method.unwrap_or_default().trim().to_uppercase();
    let url = asked.url.unwrap_or_default().trim().to_owned();
    answer(console, method, url).await
}

fn make_list(room: &mut Room, asked: Option<Question>) -> Page {
    let reading = room.reading();
    let review = reviewed(room);
    let left_out = review.workloads.len().saturating_sub(MOST);
    let summary = |row: &WorkloadRow| {
        let mut reaches: Vec<_> = row.grants.iter().map(|one| shown(&one.target)).collect();
        reaches.sort();
        reaches.dedup();
        let last = row.grants.iter().filter_map(|one| one.last_used.as_ref());
        WorkloadSummary {
            name: workload_link(&row.name),
            owner: shown(&row.owner),
            environment: shown(row.environment.as_deref().unwrap_or("not said")),
            reaches,
            last_used: last
                .max()
                .map_or_else(|| "not seen".to_owned(), |last| shown(last)),
        }
    };
    Page::ok(&Workloads {
        frame: Frame::new(room, "workloads", "Workloads").covering(&reading.coverage),
        rows: review.workloads.iter().take(MOST).map(summary).collect(),
        left_out,
        asked,
    })
}

fn workload_link(name: &str) -> Link {
    Link {
        text: shown(name),
        href: link("workload", &[("name", name)]),
    }
}

fn question(room: &mut Room, method: &str, url: &str) -> Question {
    let reading = room.reading();
    let (now, history) = (room.now(), room.history());
    let mut unread = history.is_err();
    let mut answered = None;
    let mut summary = "The policies could not be asked.".to_owned();
    room.source
        .policies(&mut |policies| match Wanted::read(method, url, policies) {
            Err(problem) => summary = sentence(&problem),
            Ok(wanted) => {
                let mut answer = who_can(policies, &wanted, &reading.survey.usage, now);
                if let Ok(Some(history)) = &history {
                    unread |= answer.look_back(history, &wanted).is_err();
                }
                answered = Some(answer);
            }
        });
    let rows = answered.as_ref().map(|answer| answer.rows().collect());
    let mut summary = answered.map_or(summary, |answer| answer.summary());
    if unread {
        // The rest of the answer stands.
        summary.push_str(". A kept revision cannot be read, so that it is not known since when");
    }
    Question {
        summary: shown(&summary),
        method: shown(method),
        url: shown(url),
        rows: rows.unwrap_or_default(),
    }
}

pub(crate) async fn one(State(console): State<Console>, Query(asked): Query<Asked>) -> Response {
    let name = asked.name.unwrap_or_default();
    let key = format!("workload {name}");
    console
        .desk
        .page(key, move |room| make_one(room, &name))
        .await
}

fn make_one(room: &mut Room, name: &str) -> Page {
    let reading = room.reading();
    let now = reading.survey.now;
    let review = reviewed(room);
    let Some(workload) = review.workloads.into_iter().find(|one| one.name == name) else {
        return Page::refused(
            StatusCode::NOT_FOUND,
            "console-workload",
            "No Workload has this name.",
            "See the list of workloads. A caller that matches no Workload may reach nothing: write one for it.",
        );
    };
    let findings = by_urgency(&reading.survey.report).into_iter();
    let findings = findings.chain(&reading.survey.report.api_errors);
    let own = findings.filter(|finding| finding.affected.iter().any(|one| one.name == name));
    let failures = reading.survey.failures.iter().filter(|one| one.who == name);
    let mut workload = workload;
    let grants = std::mem::take(&mut workload.grants).into_iter().map(grant);
    Page::ok(&OneWorkload {
        frame: Frame::new(room, "workloads", name).covering(&reading.coverage),
        grants: grants.collect(),
        findings: own.map(|finding| FindingView::of(finding, now)).collect(),
        failures: failures
            .take(REQUESTS)
            .map(|one| request_row(one, now))
            .collect(),
        workload,
    })
}

fn grant(grant: GrantRow) -> GrantView {
    let credentials = grant.credentials.iter().map(|one| {
        let name = Link {
            text: shown(&one.name),
            href: link("credential", &[("name", &one.name)]),
        };
        (name, shown(&one.kind))
    });
    GrantView {
        credentials: credentials.collect(),
        grant,
    }
}

fn request_row(failure: &Failure, now: jiff::Timestamp) -> RequestRow {
    RequestRow {
        at: When::of(failure.at, now),
        request: Link {
            text: shown(&failure.request),
            ..record(&failure.id)
        },
        outcome: failure.outcome,
        reason: shown(failure.answer.as_deref().unwrap_or(&failure.reason)),
    }
}
