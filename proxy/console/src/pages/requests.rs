//! Requests that did not go through, and the story of one, step by step, as `countersign explain ID` tells it.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use countersign_insight::{
    hindsight::{Hindsight, Side},
    history::RevisionChange,
    story::{Step, StepState, Story},
    survey::Failure,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Console,
    page::{Frame, Page},
    reading::Room,
    view::{FindingView, Link, When, record, sentence, shown},
};

#[derive(Template)]
#[template(path = "requests.html")]
struct Requests {
    frame: Frame,
    failures: Vec<FailureRow>,
}

struct FailureRow {
    at: When,
    request: Link,
    who: String,
    outcome: &'static str,
    reason: String,
    blame: &'static str,
}

#[derive(Template)]
#[template(path = "story.html")]
struct StoryPage {
    frame: Frame,
    id: String,
    what: String,
    went_through: bool,
    detail: Option<String>,
    steps: Vec<StepView>,
    finding: Option<FindingView>,
    would_permit: Vec<String>,
    hindsight: Option<HindsightView>,
    /// Why hindsight could not be had.
    trouble: Option<String>,
    record: String,
}

struct StepView {
    name: &'static str,
    purpose: &'static str,
    class: &'static str,
    words: &'static str,
    took: Option<String>,
    facts: Vec<(&'static str, String)>,
}

struct HindsightView {
    lines: Vec<(&'static str, String)>,
    changes: Vec<ChangeView>,
    nearest: Vec<String>,
    smallest: Vec<String>,
    permits: Vec<String>,
    more: usize,
    notes: Vec<String>,
}

/// What a revision changed, with the lines.
pub(crate) struct ChangeView {
    pub(crate) title: String,
    pub(crate) resources: Vec<ResourceView>,
    pub(crate) more: usize,
}

pub(crate) struct ResourceView {
    pub(crate) what: String,
    pub(crate) whose: String,
    pub(crate) lines: Vec<LineView>,
}

pub(crate) struct LineView {
    /// `added`, `removed` or `same`.
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// What is asked for.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Asked {
    id: Option<String>,
}

pub(crate) async fn list(State(console): State<Console>, Query(asked): Query<Asked>) -> Response {
    if let Some(id) = asked.id.filter(|id| !id.trim().is_empty()) {
        let place = crate::view::link("request", &[("id", id.trim())]);
        return Redirect::to(&place).into_response();
    }
    console.desk.page("requests".to_owned(), make_list).await
}

fn make_list(room: &mut Room) -> Page {
    let reading = room.reading();
    let now = reading.survey.now;
    let row = |failure: &Failure| FailureRow {
        at: When::of(failure.at, now),
        request: Link {
            text: shown(&failure.request),
            ..record(&failure.id)
        },
        who: match &*failure.who {
            "" => "a client that proved nothing".to_owned(),
            who => shown(who),
        },
        outcome: failure.outcome,
        reason: match &failure.answer {
            Some(answer) if failure.outcome == "answered" => shown(answer),
            _ => shown(&failure.reason),
        },
        blame: failure.blame.words(),
    };
    Page::ok(&Requests {
        frame: Frame::new(room, "requests", "Requests").covering(&reading.coverage),
        failures: reading.survey.failures.iter().map(row).collect(),
    })
}

pub(crate) async fn story(State(console): State<Console>, Query(asked): Query<Asked>) -> Response {
    let id = asked.id.unwrap_or_default();
    let Ok(id) = Uuid::parse_str(id.trim()) else {
        return Page::refused(
            StatusCode::BAD_REQUEST,
            "console-id",
            "This is no id of a record.",
            "An id is a UUID: it is in the body of a refusal, and in its Proxy-Status.",
        )
        .respond();
    };
    let id = id.hyphenated().to_string();
    let key = format!("request {id}");
    console
        .desk
        .page(key, move |room| make_story(room, &id))
        .await
}

fn make_story(room: &mut Room, id: &str) -> Page {
    let reading = room.reading();
    let line = room.record(id);
    let story = line.and_then(|line| Story::of_record(&line, &reading.survey.report));
    let Some(mut story) = story else {
        return Page::refused(
            StatusCode::NOT_FOUND,
            "console-record",
            "No record with this id was found.",
            &format!(
                "{} Ask the other gateways, or `countersign explain {id} --log LOG` for the whole log.",
                reading.coverage
            ),
        );
    };
    let now = room.now();
    let trouble = look_back(room, &mut story, now);
    let outcome = story.record["outcome"].as_str();
    Page::ok(&StoryPage {
        frame: Frame::new(room, "requests", format!("Request {id}")).covering(&reading.coverage),
        id: id.to_owned(),
        what: sentence(&shown(&story.what)),
        went_through: matches!(outcome, Some("permitted" | "tunnelled")),
        detail: story.record["detail"]
            .as_str()
            .map(|detail| sentence(&shown(detail))),
        steps: story.steps().into_iter().map(step).collect(),
        finding: story
            .finding
            .as_ref()
            .map(|finding| FindingView::of(finding, now)),
        would_permit: story.would_permit.iter().map(|one| shown(one)).collect(),
        hindsight: story.hindsight.as_ref().map(|told| hindsight(told, now)),
        trouble,
        record: serde_json::to_string_pretty(&story.record)
            .map(|record| countersign_types::shown::escaped_lines(&record).into_owned())
            .unwrap_or_default(),
    })
}

/// Adds what kept revisions say; returns why they could not.
fn look_back(room: &Room, story: &mut Story, now: Timestamp) -> Option<String> {
    match room.history() {
        Ok(Some(history)) => story
            .look_back(&history, None, now)
            .err()
            .map(|error| shown(&error.to_string())),
        Ok(None) => None,
        Err(error) => Some(format!(
            "the kept revisions cannot be read: {}",
            countersign_types::shown::io_error(&error)
        )),
    }
}

fn step(step: Step) -> StepView {
    let facts = step.facts.into_iter();
    StepView {
        name: step.name,
        purpose: step.purpose,
        class: match step.state {
            StepState::Done => "good",
            StepState::Stopped => "bad",
            StepState::NotReached | StepState::NotNeeded => "quiet",
        },
        words: step.state.words(),
        took: step.took_us.map(took),
        facts: facts.map(|(name, text)| (name, shown(&text))).collect(),
    }
}

/// `180 µs`, `3.2 ms`, `1.5 s`.
fn took(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} \u{b5}s"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

fn hindsight(told: &Hindsight, now: Timestamp) -> HindsightView {
    let mut lines = Vec::new();
    if let Some(then) = &told.then {
        lines.push(("Then", side(then, now)));
    }
    if let Some(side_now) = &told.now {
        lines.push(("Now", side(side_now, now)));
    }
    let changes = [
        ("Caused by", told.caused_by.as_ref()),
        ("Changed again by", told.changed_by.as_ref()),
    ];
    let changes = changes.into_iter().filter_map(|(how, change)| {
        let change = change?;
        Some(self::change(&format!("{how} revision"), change, now))
    });
    let smallest = told.smallest.as_ref();
    let texts = |list: &[String]| list.iter().map(|one| shown(one)).collect();
    HindsightView {
        lines,
        changes: changes.collect(),
        nearest: texts(&told.nearest),
        smallest: smallest.map(|one| texts(&one.steps)).unwrap_or_default(),
        permits: smallest.map(|one| texts(&one.permits)).unwrap_or_default(),
        more: smallest.map_or(0, |one| one.more),
        notes: texts(&told.notes),
    }
}

fn side(side: &Side, now: Timestamp) -> String {
    let since = side.since.map(|since| When::of(since, now).text);
    let since = since.map(|since| format!(", in force since {since} UTC"));
    shown(&format!(
        "revision {}{}: {}",
        side.revision,
        since.unwrap_or_default(),
        side.decision
    ))
}

/// A change of a revision, line by line.
pub(crate) fn change(how: &str, change: &RevisionChange, now: Timestamp) -> ChangeView {
    let since = change.since.map(|since| When::of(since, now).text);
    let since = since.map(|since| format!(" of {since} UTC"));
    let resources = change.resources.iter().map(|one| ResourceView {
        what: shown(&format!("{} {} {}", one.change, one.kind, one.name)),
        whose: shown(&match (&one.owner, &one.approved) {
            (Some(owner), Some(approved)) => format!("ask {owner}; approved by {approved}"),
            (Some(owner), None) => format!("ask {owner}"),
            (None, Some(approved)) => format!("approved by {approved}"),
            (None, None) => "it names no owner".to_owned(),
        }),
        lines: one.diff.lines().map(diff_line).collect(),
    });
    ChangeView {
        title: shown(&format!(
            "{how} {}{}",
            change.revision,
            since.unwrap_or_default()
        )),
        more: change.changed.saturating_sub(change.resources.len()),
        resources: resources.collect(),
    }
}

fn diff_line(line: &str) -> LineView {
    LineView {
        class: match line.as_bytes().first() {
            Some(b'+') => "added",
            Some(b'-') => "removed",
            _ => "same",
        },
        text: shown(line),
    }
}
