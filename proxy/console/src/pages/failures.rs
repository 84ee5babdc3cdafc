//! Why requests failed: every cause, as `countersign triage` groups them.

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    Console,
    page::{Frame, Page},
    reading::Room,
    view::{FindingView, by_urgency, sentence, shown},
};

/// The most causes of a kind on the page.
const MOST: usize = 60;

#[derive(Template)]
#[template(path = "failures.html")]
struct Failures {
    frame: Frame,
    verdict: String,
    causes: Vec<FindingView>,
    brief: Vec<FindingView>,
    answers: Vec<FindingView>,
    left_out: usize,
    notes: Vec<String>,
}

pub(crate) async fn show(State(console): State<Console>) -> Response {
    console.desk.page("failures".to_owned(), make).await
}

fn make(room: &mut Room) -> Page {
    let reading = room.reading();
    let survey = &reading.survey;
    let view = |finding| FindingView::of(finding, survey.now);
    let all = by_urgency(&survey.report);
    let (brief, causes): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.is_brief());
    let mut answers: Vec<_> = survey.report.api_errors.iter().collect();
    answers.sort_by_key(|finding| (!finding.ongoing, std::cmp::Reverse(finding.last)));
    let lists = [&causes, &brief, &answers];
    let left_out = lists.iter().map(|list| list.len().saturating_sub(MOST));
    Page::ok(&Failures {
        frame: Frame::new(room, "failures", "Failures by cause").covering(&reading.coverage),
        verdict: sentence(&survey.report.verdict),
        left_out: left_out.sum(),
        causes: causes.into_iter().take(MOST).map(view).collect(),
        brief: brief.into_iter().take(MOST).map(view).collect(),
        answers: answers.into_iter().take(MOST).map(view).collect(),
        notes: survey.report.notes.iter().map(|note| shown(note)).collect(),
    })
}
