//! Secrets that lie elsewhere than in the gateway's own files: their changes are noticed without a
//! restart, their source's outage is bridged and recorded, and what was withdrawn is not used.

mod kubernetes;
mod leases;
mod vault;

use std::{fs, time::Duration};

use bytes::Bytes;
use countersign_core::clock::Clock;
use countersign_tests::{
    gateway::Gateway,
    world::{Options, World},
};
use http::{Request, StatusCode};
use http_body_util::Full;
use serde_json::Value;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A world whose Qase token lies elsewhere, and its gateway.
struct Stage {
    world: World,
    gateway: Gateway,
    token: String,
}

/// A world by a clock that stands still.
async fn world() -> anyhow::Result<World> {
    let clock = Clock::manual(Clock::system().now());
    Ok(World::with(Options {
        clock,
        ..Options::default()
    })
    .await?)
}

/// Writes the dashboard's credential for Qase with another source, and what else its spec has.
fn lies_in(world: &World, source: &str, further: &str) -> anyhow::Result<()> {
    let path = world.policy_directory().join("nightly-dashboard.yaml");
    let policy = fs::read_to_string(path)?;
    let file = format!(
        "token: {{ file: {}/qase }}",
        world.secret_directory().display()
    );
    anyhow::ensure!(policy.contains(&file), "the world's policy has changed");
    let changed = policy.replace(&file, &format!("token: {source}\n{further}"));
    Ok(world.write_policy("nightly-dashboard.yaml", &changed)?)
}

/// Adds to the gateway's spec.
fn knows(world: &World, lines: &str) -> anyhow::Result<()> {
    let yaml = fs::read_to_string(world.gateway_yaml())?;
    Ok(fs::write(world.gateway_yaml(), format!("{yaml}{lines}\n"))?)
}

impl Stage {
    async fn start(world: World) -> anyhow::Result<Self> {
        let gateway = Gateway::start(&world).await?;
        let token = world.token("qa", "nightly-dashboard");
        Ok(Self {
            world,
            gateway,
            token,
        })
    }

    /// Reads a run, and the record of it.
    async fn ask(&mut self) -> anyhow::Result<(StatusCode, Value)> {
        let client = self.gateway.client(&self.world).bearer(&self.token);
        let request = Request::get("https://api.qase.io/v1/run/DEMO?limit=1");
        let answer = client.send(request.body(Full::<Bytes>::default())?).await?;
        Ok((answer.status, self.gateway.decisions().next().await))
    }

    /// Reads a run, and there is nothing to complain of.
    async fn works(&mut self) -> anyhow::Result<Value> {
        let (status, record) = self.ask().await?;
        anyhow::ensure!(status == StatusCode::OK, "{status}: {record}");
        Ok(record)
    }

    /// Reads runs until the record is as wanted: nothing tells when the gateway has noticed.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let waiting = tokio::time::timeout(PATIENCE, async {
            loop {
                let (_, record) = self.ask().await?;
                if wanted(&record) {
                    return anyhow::Ok(record);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        waiting.await?
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

/// Lets time pass by tokio's clock, which runs on afterwards: other processes take real time.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
