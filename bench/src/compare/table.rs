//! The comparison as Markdown.

use std::fmt::Write;

use super::{Compare, Contest, Shown, peers::Peer};

/// A figure of the table.
pub(super) struct Column {
    /// Its name in JSON.
    pub(super) key: &'static str,
    head: &'static str,
    of: fn(&Shown) -> Option<f64>,
    digits: usize,
}

const fn column(
    key: &'static str,
    head: &'static str,
    of: fn(&Shown) -> Option<f64>,
    digits: usize,
) -> Column {
    Column {
        key,
        head,
        of,
        digits,
    }
}

pub(super) const COLUMNS: [Column; 13] = [
    column("h1", "keep-alive h1, CPU us", |shown| shown.h1, 1),
    column("h1_rate", "its requests/s", |shown| shown.h1_rate, 0),
    column("h2", "h2 in the tunnel, CPU us", |shown| shown.h2, 1),
    column("new", "new connection each, CPU us", |shown| shown.new, 0),
    column("down", "a MiB down, CPU us", |shown| shown.down, 0),
    column("up", "a MiB up, CPU us", |shown| shown.up, 0),
    column("p50", "one at a time, p50 us", |shown| shown.at(0.5), 0),
    column("p99", "its p99 us", |shown| shown.at(0.99), 0),
    column(
        "paced_p50",
        "200 a second, p50 us",
        |shown| shown.paced_p50,
        0,
    ),
    column("paced_p99", "its p99 us", |shown| shown.paced_p99, 0),
    column(
        "unseen",
        "first to an unseen name, CPU us",
        |shown| shown.unseen,
        0,
    ),
    column("idle", "an idle connection, KiB", |shown| shown.idle, 1),
    column(
        "resident",
        "resident at start, MiB",
        |shown| shown.resident,
        1,
    ),
];

pub(super) fn markdown(
    machine: &[String],
    compare: &Compare,
    contests: &[Contest],
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for line in machine {
        writeln!(text, "{line}.  ")?;
    }
    let versions = contests.iter().map(|contest| {
        let version = contest.peer.version();
        let version = version.unwrap_or_else(|error| format!("unknown: {error:#}"));
        format!("{} {version}", contest.peer.name())
    });
    let versions: Vec<_> = versions.collect();
    writeln!(text, "Versions: {}.  ", versions.join(", "))?;
    writeln!(
        text,
        "Medians of {} interleaved rounds of {} s a load; one worker on cores of its own; 1 KiB \
         answers; TLS 1.3 on both sides; {} idle connections. In brackets: against hudsucker.\n",
        contests
            .iter()
            .map(|contest| contest.rounds.len())
            .max()
            .unwrap_or(0),
        compare.measured().as_secs_f64(),
        compare.idle(),
    )?;
    write!(text, "| |")?;
    for column in &COLUMNS {
        write!(text, " {} |", column.head)?;
    }
    writeln!(text, "\n|---|{}", "---:|".repeat(COLUMNS.len()))?;
    let yardstick = contests
        .iter()
        .find(|contest| contest.peer == Peer::Hudsucker);
    for contest in contests {
        write!(text, "| {} |", contest.peer.name())?;
        for column in &COLUMNS {
            let digits = column.digits;
            let own = column.median(contest);
            let bare = yardstick
                .filter(|bare| bare.peer != contest.peer)
                .and_then(|bare| column.median(bare));
            match (own, bare) {
                (None, _) => write!(text, " - |")?,
                (Some(own), Some(bare)) if bare > 0.0 => {
                    write!(text, " {own:.digits$} ({:.2}) |", own / bare)?;
                }
                (Some(own), _) => write!(text, " {own:.digits$} |")?,
            }
        }
        writeln!(text)?;
    }
    Ok(text)
}

impl Column {
    /// The median of the rounds that show it.
    pub(super) fn median(&self, contest: &Contest) -> Option<f64> {
        let mut all: Vec<f64> = contest.rounds.iter().filter_map(self.of).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        let upper = *all.get(middle)?;
        if all.len() % 2 == 1 {
            return Some(upper);
        }
        Some(f64::midpoint(*all.get(middle - 1)?, upper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contest(peer: Peer, figures: &[f64]) -> Contest {
        let shown = |h1: &f64| Shown {
            h1: Some(*h1),
            ..Shown::default()
        };
        Contest {
            peer,
            rounds: figures.iter().map(shown).collect(),
            memory: Vec::new(),
        }
    }

    #[test]
    fn medians_are_told_against_the_yardstick() {
        let compare = Compare {
            rounds: 4,
            seconds: 1.0,
            connections: 1,
            idle: 1,
            only: Vec::new(),
            json: None,
            minutes: 1.0,
        };
        let contests = [
            contest(Peer::Hudsucker, &[10.0, 30.0, 20.0]),
            contest(Peer::Countersign, &[40.0, 10.0, 20.0, 30.0]),
        ];
        let text = markdown(&[], &compare, &contests).unwrap();
        assert!(text.contains("| hudsucker | 20.0 | - |"), "{text}");
        assert!(text.contains("| countersign | 25.0 (1.25) | - |"), "{text}");
    }
}
