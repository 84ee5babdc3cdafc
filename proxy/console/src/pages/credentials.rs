//! Credentials: how they stand, and what became of one. Never a value.

use askama::Template;
use axum::{
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use countersign_insight::credentials::{Health, Moment, MomentKind, length};
use jiff::Timestamp;

use crate::{
    Console,
    page::{Frame, Page},
    pages::overview::class_of,
    reading::Room,
    view::{Link, When, count, link, record, shown},
};

/// The most credentials on one page.
const MOST: usize = 500;

#[derive(Template)]
#[template(path = "credentials.html")]
struct Credentials {
    frame: Frame,
    rows: Vec<HealthView>,
    left_out: usize,
}

#[derive(Template)]
#[template(path = "credential.html")]
struct OneCredential {
    frame: Frame,
    name: String,
    values: Vec<HealthView>,
    uses: Option<Uses>,
    moments: Vec<MomentView>,
}

struct HealthView {
    name: Link,
    caller: Option<String>,
    provider: String,
    sources: Vec<String>,
    class: &'static str,
    words: &'static str,
    state: String,
    age: String,
    expires: String,
    last_use: String,
    facts: Vec<String>,
}

/// What the records say of its use.
struct Uses {
    text: String,
    workloads: Vec<Link>,
}

struct MomentView {
    at: When,
    until: Option<When>,
    class: &'static str,
    kind: &'static str,
    what: String,
    count: String,
    record: Link,
}

/// What is asked for.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Asked {
    name: Option<String>,
}

pub(crate) async fn list(State(console): State<Console>) -> Response {
    console.desk.page("credentials".to_owned(), make_list).await
}

fn make_list(room: &mut Room) -> Page {
    let all = Health::read(&room.source.credentials());
    Page::ok(&Credentials {
        frame: Frame::new(room, "credentials", "Credentials"),
        left_out: all.len().saturating_sub(MOST),
        rows: all.iter().take(MOST).map(health).collect(),
    })
}

pub(crate) async fn one(State(console): State<Console>, Query(asked): Query<Asked>) -> Response {
    let name = asked.name.unwrap_or_default();
    let key = format!("credential {name}");
    console
        .desk
        .page(key, move |room| make_one(room, &name))
        .await
}

fn make_one(room: &mut Room, name: &str) -> Page {
    let reading = room.reading();
    let now = reading.survey.now;
    let all = Health::read(&room.source.credentials());
    let values: Vec<_> = all
        .iter()
        .filter(|one| one.name == name)
        .map(health)
        .collect();
    let timeline = reading.survey.credentials.of(name);
    if values.is_empty() && timeline.is_none() {
        return Page::refused(
            StatusCode::NOT_FOUND,
            "console-credential",
            "No policy uses a Credential of this name, and no record that was read has it.",
            "See the list of credentials.",
        );
    }
    let uses = timeline.map(|timeline| Uses {
        text: match (timeline.first, timeline.last) {
            (Some(first), Some(last)) => format!(
                "{} carried it, the first {} and the last {} UTC",
                count(timeline.uses, "request", "requests"),
                When::of(first, now).text,
                When::of(last, now).text
            ),
            _ => "No request carried it".to_owned(),
        },
        workloads: timeline
            .workloads
            .iter()
            .map(|name| Link {
                text: shown(name),
                href: link("workload", &[("name", name)]),
            })
            .collect(),
    });
    let moments = timeline.map(|timeline| {
        timeline
            .moments()
            .into_iter()
            .map(|one| moment(one, now))
            .collect()
    });
    Page::ok(&OneCredential {
        frame: Frame::new(room, "credentials", name).covering(&reading.coverage),
        name: shown(name),
        values,
        uses,
        moments: moments.unwrap_or_default(),
    })
}

fn health(one: &Health) -> HealthView {
    let time = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), length);
    let standing = one.standing();
    HealthView {
        name: Link {
            text: shown(&one.name),
            href: link("credential", &[("name", &one.name)]),
        },
        caller: one.caller.as_deref().map(shown),
        provider: shown(&one.provider),
        sources: one.sources.iter().map(|source| shown(source)).collect(),
        class: class_of(standing),
        words: standing.words(),
        state: shown(&one.state),
        age: time(one.age_s),
        expires: one
            .expires_in_s
            .map_or_else(|| "no known end".to_owned(), length),
        last_use: one
            .last_use_s
            .map_or_else(|| "never".to_owned(), |ago| format!("{} ago", length(ago))),
        facts: one.facts().iter().map(|fact| shown(fact)).collect(),
    }
}

fn moment(moment: &Moment, now: Timestamp) -> MomentView {
    MomentView {
        at: When::of(moment.at, now),
        until: (moment.until > moment.at).then(|| When::of(moment.until, now)),
        class: match moment.kind {
            MomentKind::Obtained => "plain",
            MomentKind::Failed => "bad",
            MomentKind::Recovered => "good",
        },
        kind: moment.kind.words(),
        what: shown(&moment.what),
        count: count(moment.count, "request", "requests"),
        record: record(&moment.id),
    }
}
