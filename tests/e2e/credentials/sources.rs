//! Secrets that lie elsewhere than in the gateway's own files: their changes are noticed without a
//! restart, their source's outage is bridged and recorded, and what was withdrawn is not used.

mod kubernetes;
mod leases;
mod vault;

use std::fs;

use countersign_core::clock::Clock;
use countersign_tests::{
    environment::{DASHBOARD_FILE, Environment, Options},
    resources::Resource,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{TestBed, list_runs, soon};

/// An environment by a clock that stands still.
async fn environment() -> anyhow::Result<Environment> {
    let options = Options {
        clock: Clock::manual(Clock::system().now()),
        ..Options::default()
    };
    Ok(Environment::with(options).await?)
}

/// The dashboard's token for Qase has another source.
fn lies_in(env: &Environment, source: &Value) -> anyhow::Result<()> {
    edit_credential(env, |credential| {
        credential["static"]["token"] = source.clone();
    })
}

/// Changes the dashboard's credential for Qase.
fn edit_credential(env: &Environment, edit: impl FnOnce(&mut Resource)) -> anyhow::Result<()> {
    let policy = env.edit_policy(DASHBOARD_FILE, |policy| {
        edit(policy.credential("qase-reader"));
    });
    Ok(policy?)
}

impl TestBed {
    /// A gateway in an environment whose sources are set up.
    async fn over(env: Environment) -> anyhow::Result<Self> {
        Self::builder().within(env).start().await
    }

    /// Reads runs of Qase, and the record of it.
    async fn read_runs(&mut self) -> anyhow::Result<(StatusCode, Value)> {
        let answer = self.client().send(list_runs()).await?;
        Ok((answer.status, self.record().await?))
    }

    /// Reads runs of Qase, and there is nothing to complain of.
    async fn reads_runs(&mut self) -> anyhow::Result<Value> {
        let (status, record) = self.read_runs().await?;
        anyhow::ensure!(status == StatusCode::OK, "{status}: {record}");
        Ok(record)
    }

    /// Reads runs until the record is as wanted: nothing tells when the gateway has noticed.
    async fn reads_until(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let reading = async {
            loop {
                let (_, record) = self.read_runs().await?;
                if wanted(&record) {
                    return anyhow::Ok(record);
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        soon("a record as wanted", reading).await?
    }
}

fn is_good(record: &Value) -> bool {
    record["outcome"] == "permitted" && record["credential"]["stale"].is_null()
}

fn is_stale(record: &Value) -> bool {
    record["outcome"] == "permitted" && record["credential"]["stale"] == true
}

fn has_reason(reason: &str) -> impl Fn(&Value) -> bool {
    move |record| record["reason"] == reason
}

fn detail(record: &Value) -> &str {
    record["detail"].as_str().unwrap_or_default()
}
