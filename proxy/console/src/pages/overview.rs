//! The first screen: what failed last, whose fault it is and what to do; requests of the last hour and day; credentials.

use askama::Template;
use axum::{extract::State, response::Response};
use countersign_insight::{
    credentials::{Health, Standing},
    survey::{Activity, Tally},
    triage::Finding,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    Console,
    page::{Frame, Page},
    reading::Room,
    view::{FindingView, Link, by_urgency, count, link, number, sentence, shown},
};

/// The causes that are told in full.
const IN_FULL: usize = 3;

/// The causes that are named after those.
const IN_BRIEF: usize = 10;

/// Older causes are on the page of failures.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

/// The most credentials that are named.
const NAMED: usize = 5;

/// The height of the chart's bars.
const HEIGHT: u64 = 40;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    /// `fine`, `failing` or `over`.
    mood: &'static str,
    headline: String,
    line: String,
    findings: Vec<FindingView>,
    rest: Vec<FindingView>,
    more: usize,
    older: usize,
    hour: TallyView,
    day: TallyView,
    blames: Vec<BlameRow>,
    chart: Chart,
    standings: Vec<StandingRow>,
    named: Vec<NamedCredential>,
    gateway: Vec<GatewayFact>,
}

struct TallyView {
    requests: String,
    failed: String,
    share: String,
}

struct BlameRow {
    words: &'static str,
    hour: String,
    day: String,
}

struct StandingRow {
    words: &'static str,
    class: &'static str,
    count: usize,
}

struct NamedCredential {
    name: Link,
    words: &'static str,
    class: &'static str,
    why: String,
}

struct GatewayFact {
    class: &'static str,
    text: String,
}

/// Bars of the last 24 hours.
struct Chart {
    bars: Vec<Bar>,
    summary: String,
}

struct Bar {
    x: usize,
    fine_y: u64,
    fine: u64,
    failed_y: u64,
    failed: u64,
}

pub(crate) async fn show(State(console): State<Console>) -> Response {
    console.desk.page("overview".to_owned(), make).await
}

fn make(room: &mut Room) -> Page {
    let reading = room.reading();
    let survey = &reading.survey;
    let now = survey.now;
    let all = by_urgency(&survey.report);
    let worth = all.into_iter().filter(|finding| !finding.is_brief());
    let (recent, older): (Vec<_>, Vec<_>) =
        worth.partition(|finding| now.duration_since(finding.last) < RECENT);
    let (mood, headline, line) = headline(&recent, &survey.activity, &survey.report.verdict, now);
    let credentials = Health::read(&room.source.credentials());
    let Activity { hour, day, .. } = &survey.activity;
    Page::ok(&Overview {
        frame: Frame::new(room, "overview", "Overview").covering(&reading.coverage),
        mood,
        headline,
        line,
        findings: recent
            .iter()
            .take(IN_FULL)
            .map(|finding| FindingView::of(finding, now))
            .collect(),
        rest: recent
            .iter()
            .skip(IN_FULL)
            .take(IN_BRIEF)
            .map(|finding| FindingView::of(finding, now))
            .collect(),
        more: recent.len().saturating_sub(IN_FULL + IN_BRIEF),
        older: older.len(),
        blames: blames(hour, day),
        hour: tally(hour),
        day: tally(day),
        chart: chart(&survey.activity),
        standings: standings(&credentials),
        named: named(&credentials),
        gateway: gateway(&room.source.readiness()),
    })
}

/// How the morning is, in a few words and in one line.
fn headline(
    recent: &[&Finding],
    activity: &Activity,
    verdict: &str,
    now: Timestamp,
) -> (&'static str, String, String) {
    let going_on = recent.iter().filter(|finding| finding.ongoing).count();
    let causes = |number: usize| {
        let number = u64::try_from(number).unwrap_or(u64::MAX);
        count(
            number,
            "cause of failures goes on",
            "causes of failures go on",
        )
    };
    let latest = recent.iter().max_by_key(|finding| finding.last);
    let requests = count(activity.day.requests, "request", "requests");
    match latest {
        None if activity.day.requests == 0 => (
            "fine",
            "No request in the last 24 hours".to_owned(),
            "Nothing arrived at this gateway, so nothing failed here. If a job failed, look at its own log, its proxy variables and the network policy.".to_owned(),
        ),
        None if activity.day.failed() == 0 => (
            "fine",
            "All is fine".to_owned(),
            format!("Every one of the {requests} of the last 24 hours went through."),
        ),
        None => (
            "fine",
            "Nothing needs you".to_owned(),
            format!("{requests} in the last 24 hours; what failed was brief and is over. {}", sentence(verdict)),
        ),
        Some(latest) => {
            let ago = crate::view::When::of(latest.last, now).ago;
            let line = format!("The last failure was {ago}; {requests} in the last 24 hours.");
            if going_on == 0 {
                ("over", "What failed is over".to_owned(), line)
            } else {
                ("failing", causes(going_on), line)
            }
        }
    }
}

fn tally(tally: &Tally) -> TallyView {
    let tenths = (tally.failed() * 1000).checked_div(tally.requests);
    TallyView {
        requests: number(tally.requests),
        failed: number(tally.failed()),
        share: tenths.map_or_else(String::new, |tenths| {
            format!("{}.{} %", tenths / 10, tenths % 10)
        }),
    }
}

fn blames(hour: &Tally, day: &Tally) -> Vec<BlameRow> {
    let mut rows: Vec<_> = day.blamed.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let row = |(blame, in_day): (&countersign_insight::triage::Blame, &u64)| BlameRow {
        words: blame.words(),
        hour: number(hour.blamed.get(blame).copied().unwrap_or_default()),
        day: number(*in_day),
    };
    rows.into_iter().map(row).collect()
}

fn chart(activity: &Activity) -> Chart {
    let hours = &activity.hours;
    let most = hours
        .iter()
        .map(|hour| hour.went_through + hour.failed)
        .max();
    let most = most.unwrap_or_default().max(1);
    // Something that happened is to be seen.
    let height = |count: u64| match count {
        0 => 0,
        count => (count * HEIGHT / most).max(2),
    };
    let bars = hours.iter().enumerate().map(|(place, hour)| {
        let failed = height(hour.failed);
        let fine = height(hour.went_through).min(HEIGHT - failed);
        Bar {
            x: place * 10,
            fine_y: HEIGHT - fine,
            fine,
            failed_y: HEIGHT - fine - failed,
            failed,
        }
    });
    let busiest = number(most);
    Chart {
        bars: bars.collect(),
        summary: format!(
            "Requests in each of the last 24 hours, the latest at the right; at most {busiest} in an hour. {} went through, {} did not.",
            number(activity.day.went_through),
            number(activity.day.failed())
        ),
    }
}

pub(crate) fn class_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Failed => "bad",
        Standing::Doubtful => "warn",
        Standing::Good => "good",
        Standing::Unused => "quiet",
    }
}

fn standings(all: &[Health]) -> Vec<StandingRow> {
    let kinds = [
        Standing::Failed,
        Standing::Doubtful,
        Standing::Good,
        Standing::Unused,
    ];
    kinds
        .into_iter()
        .map(|standing| StandingRow {
            words: standing.words(),
            class: class_of(standing),
            count: all.iter().filter(|one| one.standing() == standing).count(),
        })
        .collect()
}

fn named(all: &[Health]) -> Vec<NamedCredential> {
    let worth = all
        .iter()
        .filter(|one| one.standing() <= Standing::Doubtful);
    worth
        .take(NAMED)
        .map(|one| NamedCredential {
            name: Link {
                text: shown(&one.name),
                href: link("credential", &[("name", &one.name)]),
            },
            words: one.standing().words(),
            class: class_of(one.standing()),
            why: shown(&one.facts().into_iter().next().unwrap_or_default()),
        })
        .collect()
}

/// What `/readyz` says of the gateway itself; what hinders it first.
fn gateway(readiness: &Value) -> Vec<GatewayFact> {
    let mut facts = Vec::new();
    let mut tell = |class, text: String| facts.push(GatewayFact { class, text });
    if readiness["draining"] == true {
        tell("warn", "It drains: it takes no new connections.".to_owned());
    } else if readiness["ready"] != true {
        tell("bad", "It is not ready.".to_owned());
    }
    let texts = |key: &str| {
        let list = readiness[key].as_array().into_iter().flatten();
        let texts = list.filter_map(Value::as_str).map(shown);
        texts.collect::<Vec<_>>()
    };
    for key in [
        "waiting_for",
        "resources_waiting_for",
        "certificates_waiting",
    ] {
        for why in texts(key) {
            tell("warn", format!("It waits: {why}"));
        }
    }
    for (key, what) in [
        ("reload_error", "New resources were not taken"),
        ("config_error", "The Gateway file cannot be used any more"),
    ] {
        if let Some(why) = readiness[key].as_str() {
            tell("bad", format!("{what}: {}", shown(why)));
        }
    }
    let restart = texts("restart_needed");
    if !restart.is_empty() {
        tell(
            "warn",
            format!("A restart is needed for {}.", restart.join(", ")),
        );
    }
    for one in readiness["certificates"].as_array().into_iter().flatten() {
        if let Some(state) = one["state"].as_str().filter(|state| *state != "valid") {
            let (name, end) = (one["name"].as_str(), one["not_after"].as_str());
            let (name, end) = (name.unwrap_or_default(), end.unwrap_or_default());
            let state = state.replace('_', " ");
            tell(
                "warn",
                shown(&format!("Certificate {name}: {state} (until {end})")),
            );
        }
    }
    if facts.is_empty() {
        facts.push(GatewayFact {
            class: "good",
            text: "It is ready, and nothing hinders it.".to_owned(),
        });
    }
    if let Some(revision) = readiness["revision"].as_str() {
        let text = format!("Revision {} is in force.", shown(revision));
        facts.push(GatewayFact {
            class: "plain",
            text,
        });
    }
    facts
}
