//! What the attacks did, as Markdown.

use std::{fmt::Write, time::Duration};

use super::{Attack, honest::Watched, world::Probes};
use crate::files;

/// One attack.
pub(super) struct Row {
    pub(super) attack: Attack,
    pub(super) before: Watched,
    pub(super) during: Watched,
    /// Records of honest requests that were missing in the log.
    pub(super) records: u64,
    /// The gateway's most resident memory, in bytes.
    pub(super) peak: u64,
    pub(super) killed: bool,
    pub(super) probes: Probes,
    /// What was shed, evicted, dropped or refused, by reason.
    pub(super) shed: Vec<String>,
}

impl Row {
    /// Honest requests without an answer, and answered ones without a record.
    pub(super) fn lost(&self) -> u64 {
        self.during.sent - self.during.answered + self.records
    }

    fn ratio(&self) -> f64 {
        p99(&self.during) / p99(&self.before)
    }

    /// One line for whoever waits.
    pub(super) fn summary(&self) -> String {
        let (Self { during, peak, .. }, ratio) = (self, self.ratio());
        let mut text = format!(
            "{} of {} answered, {} records missing, p99 {:.1} ms ({ratio:.1} times), peak {} MiB, probes {}",
            during.answered,
            during.sent,
            self.records,
            p99(during),
            peak >> 20,
            self.probes,
        );
        if self.killed {
            text.push_str(", KILLED");
        }
        if let Some(error) = &during.first_error {
            text.push_str("; first error: ");
            text.push_str(error);
        }
        for shed in &self.shed {
            text.push_str("\n    ");
            text.push_str(shed);
        }
        text
    }
}

/// Prints everything to standard output.
pub(super) fn print(
    mebibytes: u64,
    watched: Duration,
    machine: &[String],
    rows: &[Row],
) -> anyhow::Result<()> {
    let mut text = String::new();
    for line in machine {
        writeln!(text, "{line}.  ")?;
    }
    writeln!(
        text,
        "Gateway in a cgroup of {mebibytes} MiB; each attack {} s at full speed on the same cores, beside 200 \
         honest requests a second from ten workloads.\n",
        watched.as_secs_f64()
    )?;
    text.push_str(
        "| attack | honest sent | answered | records missing | p99 ms before | during | times | memory peak, MiB | probes answered | shed |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n",
    );
    for row in rows {
        writeln!(
            text,
            "| {} | {} | {} | {} | {:.1} | {:.1} | {:.1} | {}{} | {} | {} |",
            row.attack.tell(),
            row.during.sent,
            row.during.answered,
            row.records,
            p99(&row.before),
            p99(&row.during),
            row.ratio(),
            row.peak >> 20,
            if row.killed { ", killed" } else { "" },
            row.probes,
            row.shed.join("<br>"),
        )?;
    }
    files::say(&text)?;
    Ok(())
}

fn p99(watched: &Watched) -> f64 {
    let micros = watched.latency.value_at_quantile(0.99);
    Duration::from_micros(micros).as_secs_f64() * 1e3
}
