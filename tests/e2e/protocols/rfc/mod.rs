//! What RFC 9110, 9112 and 9113 ask of an intermediary, paragraph by paragraph, against a real
//! gateway: raw bytes on the client's side, and an upstream that answers by script.
//!
//! A row either holds, or is a departure: its check then says what is done instead, and
//! `docs/http.md` says why.

mod again;
mod bench;
mod clear;
mod connect;
mod connections;
mod fields;
mod frames;
mod framing;
mod half_close;
mod http2;
mod large_heads;
mod messages;
mod responses;
mod scripted;
mod upgrades;

use std::{collections::BTreeSet, future::Future, pin::Pin};

use self::bench::Bench;

type Checked<'b> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'b>>;
type Check = Box<dyn for<'b> FnOnce(&'b mut Bench) -> Checked<'b> + Send>;

/// One duty, where it stands, and how it is tried.
struct Row {
    paragraph: &'static str,
    duty: &'static str,
    departs: bool,
    check: Check,
}

impl Row {
    fn new(
        paragraph: &'static str,
        duty: &'static str,
        check: impl for<'b> FnOnce(&'b mut Bench) -> Checked<'b> + Send + 'static,
    ) -> Self {
        Self {
            paragraph,
            duty,
            departs: false,
            check: Box::new(check),
        }
    }

    /// It does not hold, on purpose; the check is of what is done instead.
    fn departs(self) -> Self {
        Self {
            departs: true,
            ..self
        }
    }
}

/// A row whose check is an async closure's body.
macro_rules! row {
    ($paragraph:literal, $duty:literal, |$bench:ident| $check:block) => {
        $crate::protocols::rfc::Row::new($paragraph, $duty, |$bench| {
            Box::pin(async move {
                $check
                Ok(())
            })
        })
    };
}
use row;

fn rows() -> Vec<Row> {
    [
        messages::rows(),
        framing::rows(),
        connections::rows(),
        fields::rows(),
        responses::rows(),
        connect::rows(),
        http2::rows(),
        large_heads::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[tokio::test]
async fn every_duty_of_an_intermediary_holds_or_is_a_departure() -> anyhow::Result<()> {
    let mut bench = Bench::start().await?;
    let (mut held, mut departures, mut failed) = (0, 0, Vec::new());
    for row in rows() {
        let Row {
            paragraph,
            duty,
            departs,
            check,
        } = row;
        bench.forget();
        match check(&mut bench).await {
            Ok(()) if departs => departures += 1,
            Ok(()) => held += 1,
            Err(error) => failed.push(format!("{paragraph}, {duty}: {error:#}")),
        }
    }
    println!(
        "{} duties: {held} held, {departures} departures",
        held + departures + failed.len()
    );
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    Ok(())
}

/// The table in the documentation has exactly the rows that depart.
#[test]
fn the_documentation_lists_every_departure_and_no_other() {
    let text = include_str!("../../../../docs/http.md");
    let cells = |line: &str| {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        Some((cells.next()?.to_owned(), cells.next()?.to_owned()))
    };
    let documented: BTreeSet<_> = text
        .lines()
        .filter(|line| line.starts_with("| 9"))
        .filter_map(cells)
        .collect();
    let departing: BTreeSet<_> = rows()
        .into_iter()
        .filter(|row| row.departs)
        .map(|row| (row.paragraph.to_owned(), row.duty.to_owned()))
        .collect();
    assert_eq!(documented, departing);
}
