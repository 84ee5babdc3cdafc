//! The access review, as `countersign review` tells it.

use askama::Template;
use axum::{extract::State, response::Response};
use countersign_insight::{
    review::{Review, SignOffs, Subject},
    usage::Usage,
};

use crate::{
    Console,
    page::{Frame, Page},
    reading::{Reading, Room},
};

/// A grant that was not used for so many days is a finding; the default of `countersign review`.
const UNUSED_DAYS: i64 = 90;

#[derive(Template)]
#[template(path = "review.html")]
struct ReviewPage {
    frame: Frame,
    /// From `countersign-insight`, which has escaped everything in it.
    part: String,
}

pub(crate) async fn show(State(console): State<Console>) -> Response {
    console.desk.page("review".to_owned(), make).await
}

fn make(room: &mut Room) -> Page {
    let review = reviewed(room);
    let reading = room.reading();
    Page::ok(&ReviewPage {
        frame: Frame::new(room, "review", "Access review").covering(&reading.coverage),
        part: review.html_part(),
    })
}

/// The review of the policies in force, with what was used. Sign-offs are in a file of the reviewers, which a gateway
/// does not have.
pub(crate) fn reviewed(room: &mut Room) -> Review {
    let reading = room.reading();
    let (now, governance) = (room.now(), room.source.governance());
    let kept = room.last_use();
    let usage = usage(&reading, kept.as_ref());
    let sign_offs = SignOffs::default();
    let mut review = None;
    room.source.policies(&mut |policies| {
        review = Some(Review::of(Subject {
            policies,
            governance: governance.as_ref(),
            usage: &usage,
            sign_offs: &sign_offs,
            now,
            unused_days: UNUSED_DAYS,
        }));
    });
    review.expect("the policies are shown once")
}

fn usage(reading: &Reading, kept: Option<&countersign_config::history::LastUse>) -> Usage {
    let mut usage = reading.survey.usage.clone();
    if let Some(kept) = kept {
        usage.add_kept(kept);
    }
    usage
}
