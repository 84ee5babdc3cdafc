//! Kept revisions for tests.

use std::io::Write as _;

use countersign_config::{
    history::{Head, KeptRevision},
    load::ResourceText,
};
use flate2::{Compression, write::GzEncoder};
use jiff::{SignedDuration, Timestamp};

use super::History;

/// Revisions by name and text, each a day after the one before, from 2026-11-20 on.
pub(crate) fn history(revisions: impl IntoIterator<Item = (&'static str, String)>) -> History {
    let mut since: Timestamp = "2026-11-20T00:00:00Z".parse().expect("a time");
    let mut documents = Vec::new();
    for (name, text) in revisions {
        let text = ResourceText {
            path: "/policy/qa.yaml".into(),
            text,
        };
        let kept = KeptRevision::new(name, since, [&text], str::to_owned);
        let (head, content) = kept.document();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&content).expect("it is memory");
        documents.push((head, packed.finish().expect("it is memory")));
        since += SignedDuration::from_hours(24);
    }
    let heads = documents.iter().map(|(head, _)| head.clone()).collect();
    History::new(heads, move |wanted: &Head| {
        let found = documents.iter().find(|(head, _)| head == wanted);
        Ok(found.expect("it is asked for what there is").1.clone())
    })
}
