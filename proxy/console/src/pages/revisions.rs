//! The revisions that were in force, and what any two of them permit differently, as `countersign diff` tells it.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use countersign_insight::{
    diff::{self, DifferenceRow},
    history::{History, HistoryError, RevisionChange},
};
use countersign_types::shown::io_error;
use jiff::Timestamp;

use super::requests::{ChangeView, change};
use crate::{
    Console,
    page::{Frame, Page},
    reading::Room,
    view::{When, link, shown},
};

/// The most differences on one page.
const MOST: usize = 200;

#[derive(Template)]
#[template(path = "revisions.html")]
struct Revisions {
    frame: Frame,
    revisions: Vec<RevisionRow>,
}

struct RevisionRow {
    since: When,
    name: String,
    digest: String,
    in_force: bool,
    /// What it changed of the one before it, if there is one.
    diff: Option<String>,
    is_newest: bool,
    is_before: bool,
}

#[derive(Template)]
#[template(path = "diff.html")]
struct Diff {
    frame: Frame,
    summary: String,
    rows: Vec<DifferenceRow>,
    left_out: usize,
    incomplete: Vec<String>,
    lines: ChangeView,
    redacted: bool,
}

/// What is asked for: two digests.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Asked {
    from: Option<String>,
    to: Option<String>,
}

pub(crate) async fn list(State(console): State<Console>) -> Response {
    console.desk.page("revisions".to_owned(), make_list).await
}

fn make_list(room: &mut Room) -> Page {
    let history = match room.history() {
        Ok(history) => history,
        Err(error) => return unreadable(&io_error(&error)),
    };
    let now = room.now();
    let heads = history.as_ref().map(History::heads).unwrap_or_default();
    let newest = heads.len().saturating_sub(1);
    let rows = heads.iter().enumerate().rev().map(|(place, head)| {
        let before = place.checked_sub(1).map(|before| &heads[before]);
        RevisionRow {
            since: When::of(head.since, now),
            name: shown(&head.revision),
            digest: head.digest.clone(),
            in_force: place == newest,
            diff: before
                .map(|before| link("diff", &[("from", &before.digest), ("to", &head.digest)])),
            is_newest: place == newest,
            is_before: place + 1 == newest,
        }
    });
    Page::ok(&Revisions {
        frame: Frame::new(room, "revisions", "Revisions"),
        revisions: rows.collect(),
    })
}

pub(crate) async fn diff(State(console): State<Console>, Query(asked): Query<Asked>) -> Response {
    let from = asked.from.unwrap_or_default();
    let to = asked.to.unwrap_or_default();
    let key = format!("diff {from} {to}");
    let make = move |room: &mut Room| match compare(room, &from, &to) {
        Ok(page) => page,
        Err(error) => unreadable(&shown(&error.to_string())),
    };
    console.desk.page(key, make).await
}

fn compare(room: &mut Room, from: &str, to: &str) -> Result<Page, HistoryError> {
    let history = match room.history() {
        Ok(history) => history,
        Err(error) => return Ok(unreadable(&io_error(&error))),
    };
    let place = |digest: &str| {
        let history = history.as_ref()?;
        let place = history
            .heads()
            .iter()
            .position(|head| head.digest == digest)?;
        Some((history, place))
    };
    let (Some((history, before)), Some((_, after))) = (place(from), place(to)) else {
        return Ok(Page::refused(
            StatusCode::NOT_FOUND,
            "console-revision",
            "One of the two revisions is not kept.",
            "Choose two of the list of revisions; the oldest of a hundred are forgotten.",
        ));
    };
    let [before, after] = [history.revision(before)?, history.revision(after)?];
    let now: Timestamp = room.now();
    let report = diff::diff(&before.loaded.policies, &after.loaded.policies, now);
    let lines = RevisionChange::between(&before, &after, |_, _| true);
    Ok(Page::ok(&Diff {
        frame: Frame::new(
            room,
            "revisions",
            format!("From {} to {}", before.name, after.name),
        ),
        summary: shown(&report.summary()),
        left_out: report.differences.len().saturating_sub(MOST),
        rows: report.rows().take(MOST).collect(),
        incomplete: report.incomplete.iter().map(|one| shown(one)).collect(),
        lines: change("Lines that differ in revision", &lines, now),
        redacted: before.redacted || after.redacted,
    }))
}

fn unreadable(why: &str) -> Page {
    Page::refused(
        StatusCode::INTERNAL_SERVER_ERROR,
        "console-revisions",
        "The kept revisions cannot be read.",
        &format!("Look at the gateway's state directory: {why}."),
    )
}
