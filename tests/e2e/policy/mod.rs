//! What policy says is what happens: for each request, for what stays open, and whatever way around a
//! host's name is tried.

mod agreement;
mod conditions;
mod encoded_slashes;
mod examples;
mod governed_hosts;
mod not_intercepted;
mod own_ports;
mod rates;
pub(crate) mod reauthorization;
mod reload;
mod rewritten_requests;
mod wildcards;

use countersign_tests::client::{Ask, Failure};
use serde_json::Value;

use crate::harness::{TestBed, soon};

/// What the proxy answers to CONNECT, and the record.
async fn connect(bed: &mut TestBed, target: &str) -> anyhow::Result<(String, Value)> {
    let client = bed.client();
    let tunnel = client.tunnel(Ask::Http11, target, None);
    let answer = match soon("an answer", tunnel).await? {
        Ok(_) => "HTTP/1.1 200".to_owned(),
        Err(Failure::Connect(error)) => error.to_string(),
        Err(other) => anyhow::bail!("{other}"),
    };
    Ok((answer, bed.record().await?))
}

/// The next record tells a refusal with this reason; nothing was sent upstream.
async fn refused(bed: &mut TestBed, reason: &str) -> anyhow::Result<Value> {
    let record = bed.refused(reason).await?;
    assert_eq!(record["outcome"], "refused", "{record}");
    Ok(record)
}
