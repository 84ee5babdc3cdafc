//! The comparison as JSON, for plots.

use std::{fs, path::Path};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::{Contest, mebibytes, table::COLUMNS};

/// The quantiles of a distribution: each half as far from one as that before.
const HALVINGS: i32 = 10;

pub(super) fn write(path: &Path, machine: &[String], contests: &[Contest]) -> anyhow::Result<()> {
    let peers = contests.iter().map(peer).collect::<Result<Vec<_>, _>>()?;
    let text = serde_json::to_string_pretty(&json!({ "machine": machine, "peers": peers }))?;
    fs::write(path, text + "\n").with_context(|| path.display().to_string())
}

fn peer(contest: &Contest) -> anyhow::Result<Value> {
    let mut peer = Map::new();
    peer.insert("name".into(), contest.peer.name().into());
    for column in &COLUMNS {
        peer.insert(column.key.into(), column.median(contest).into());
    }
    peer.insert("latency".into(), latency(contest)?.into());
    let memory = contest.memory.iter();
    let memory: Vec<_> = memory
        .map(|(count, bytes)| json!([count, mebibytes(*bytes)]))
        .collect();
    peer.insert("memory".into(), memory.into());
    Ok(Value::Object(peer))
}

/// Quantiles of all rounds together, in microseconds.
fn latency(contest: &Contest) -> anyhow::Result<Vec<Value>> {
    let mut all = Histogram::<u64>::new(3)?;
    for latency in contest
        .rounds
        .iter()
        .filter_map(|shown| shown.latency.as_ref())
    {
        all.add(latency)?;
    }
    let quantiles = (1..=HALVINGS).map(|halving| 1.0 - 0.5_f64.powi(halving));
    Ok(quantiles
        .map(|quantile| json!([quantile, all.value_at_quantile(quantile)]))
        .collect())
}
