//! Connections that rest.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::task::JoinSet;

use super::as_float;
use crate::{
    client::{Connection, Protocol, Route},
    process::Process,
    upstream::drain,
};

/// What resting connections showed.
#[derive(Debug)]
pub(crate) struct IdleResult {
    pub(crate) connections: usize,
    pub(crate) before: u64,
    pub(crate) after: u64,
    pub(crate) cpu: Duration,
    pub(crate) watched: Duration,
}

impl IdleResult {
    /// By how many KiB resident memory grew for each.
    pub(crate) fn kibibytes_each(&self) -> f64 {
        let grown = as_float(self.after.saturating_sub(self.before)) / 1024.0;
        grown / as_float(u64::try_from(self.connections).unwrap_or(u64::MAX))
    }
}

/// Opens connections, sends one request on each, and lets them rest for `watched`.
pub(crate) async fn idle(
    route: &Route,
    protocol: Protocol,
    count: usize,
    watched: Duration,
    gateway: &Process,
) -> anyhow::Result<IdleResult> {
    let before = gateway.resident()?;
    let mut connections = Vec::with_capacity(count);
    open_up_to(count, &mut connections, route, protocol).await?;
    let cpu = gateway.cpu()?;
    tokio::time::sleep(watched).await;
    Ok(IdleResult {
        connections: count,
        before,
        after: gateway.resident()?,
        cpu: gateway.cpu()?.saturating_sub(cpu),
        watched,
    })
}

/// Resident memory in bytes, before there are connections and with each of these numbers of them, all
/// of which have sent one request over HTTP/1.1 and have rested since.
pub(crate) async fn resting(
    route: &Route,
    counts: &[usize],
    rest: Duration,
    gateway: &Process,
) -> anyhow::Result<Vec<(usize, u64)>> {
    // The first connection makes what all share.
    open_up_to(1, &mut Vec::new(), route, Protocol::H1).await?;
    let mut seen = vec![(0, gateway.resident()?)];
    let mut connections = Vec::new();
    for count in counts {
        open_up_to(*count, &mut connections, route, Protocol::H1).await?;
        tokio::time::sleep(rest).await;
        seen.push((*count, gateway.resident()?));
    }
    Ok(seen)
}

/// By how many KiB each connection made memory grow, from the first of [`resting`]'s to the last.
pub(crate) fn kibibytes_each(seen: &[(usize, u64)]) -> Option<f64> {
    let (&(_, before), &(count, after)) = (seen.first()?, seen.last()?);
    let grown = as_float(after.saturating_sub(before)) / 1024.0;
    Some(grown / as_float(u64::try_from(count).ok()?))
}

/// Opens connections until there are so many, and sends one request on each.
async fn open_up_to(
    count: usize,
    connections: &mut Vec<Connection>,
    route: &Route,
    protocol: Protocol,
) -> anyhow::Result<()> {
    let route = Arc::new(route.clone());
    while connections.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..(count - connections.len()).min(16) {
            let route = Arc::clone(&route);
            opening.spawn(async move {
                let mut connection = route.open(protocol).await?;
                let response = connection.get("/small").await?;
                drain(response.into_body()).await?;
                anyhow::Ok(connection)
            });
        }
        while let Some(connection) = opening.join_next().await {
            let opened = connections.len();
            connections.push(connection?.with_context(|| format!("connection {opened}"))?);
        }
    }
    Ok(())
}
