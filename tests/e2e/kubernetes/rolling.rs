//! A gateway leaves, and a rolling upgrade: no request fails.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign_config::host::Host;
use countersign_tests::{
    client::Client, environment::Environment, fake::Protocol, gateway::Gateway, shown,
};
use http::{StatusCode, header::CONNECTION};
use rstest::rstest;
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::harness::{HOST, TestBed, get, until};

/// Clients, each of which sends ten requests a second on a connection that it keeps.
const CLIENTS: usize = 20;
const EVERY: Duration = Duration::from_millis(100);

/// The ready endpoints of a Service, as kube-proxy knows them.
#[derive(Clone, Default)]
struct Service(Arc<Mutex<Vec<SocketAddr>>>);

impl Service {
    fn add(&self, address: SocketAddr) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(address);
    }

    fn remove(&self, address: SocketAddr) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known| *known != address);
    }

    fn choose(&self, number: usize) -> SocketAddr {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known[number % known.len()]
    }
}

#[derive(Default)]
struct Counts {
    sent: AtomicUsize,
    connections: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// A running load.
struct Load {
    service: Service,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(bed: &TestBed, protocol: Protocol) -> Self {
        let service = Service::default();
        service.add(bed.gateway.address());
        let mut load = Self {
            service,
            counts: Arc::default(),
            stop: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..CLIENTS {
            let client = OneClient {
                number,
                service: load.service.clone(),
                roots: bed.gateway.roots().to_owned(),
                token: bed.token.clone(),
                protocol,
                counts: Arc::clone(&load.counts),
                stop: Arc::clone(&load.stop),
            };
            load.clients.spawn(client.run());
        }
        load
    }

    /// Waits until so many more requests were sent.
    async fn sends(&self, more: usize) -> anyhow::Result<()> {
        let before = self.counts.sent.load(Ordering::Relaxed);
        until("the load", async || {
            self.counts.sent.load(Ordering::Relaxed) >= before + more
        })
        .await
    }

    async fn end(mut self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        let failures = self
            .counts
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let sent = self.counts.sent.load(Ordering::Relaxed);
        let connections = self.counts.connections.load(Ordering::Relaxed);
        shown(&format!(
            "{what}: {sent} requests at 200 a second on {connections} connections, {} failed",
            failures.len()
        ));
        assert!(failures.is_empty(), "{failures:?}");
    }
}

struct OneClient {
    number: usize,
    service: Service,
    roots: String,
    token: String,
    protocol: Protocol,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
}

impl OneClient {
    /// As an HTTP client with a pool: it keeps a connection until it is told that an answer was the last, or sees
    /// that it was closed. It sends nothing twice.
    async fn run(self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = None;
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            let mut open = match session.take() {
                Some(open) => open,
                None => match self.open().await {
                    Ok(open) => open,
                    Err(error) => {
                        self.failed(format!("connecting: {error}"));
                        continue;
                    }
                },
            };
            if !open.is_open().await {
                match self.open().await {
                    Ok(another) => open = another,
                    Err(error) => {
                        self.failed(format!("connecting: {error}"));
                        continue;
                    }
                }
            }
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
            match open.send(get("/load")).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    let last = answer
                        .headers
                        .get(CONNECTION)
                        .is_some_and(|value| value == "close");
                    session = (!last).then_some(open);
                }
                Ok(answer) => self.failed(format!("answered {}", answer.status)),
                Err(error) => self.failed(error.to_string()),
            }
        }
    }

    async fn open(&self) -> Result<countersign_tests::client::Session, String> {
        let connection = self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let address = self.service.choose(self.number + connection);
        let client = Client::through(address, &self.roots).bearer(&self.token);
        let opened = client.over(self.protocol).open(HOST).await;
        opened.map_err(|error| error.to_string())
    }

    fn failed(&self, why: String) {
        self.counts
            .failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(why);
    }
}

/// Another gateway of the environment, for the API at this address.
async fn another(env: &Environment, api: SocketAddr) -> anyhow::Result<Gateway> {
    Gateway::start_with(env, |gateway| {
        let host = Host::parse(HOST).expect("a host");
        gateway.upstream.resolve.insert((host, 443), api);
    })
    .await
}

async fn bed() -> anyhow::Result<TestBed> {
    TestBed::builder()
        .within(Environment::start().await?)
        .start()
        .await
}

#[rstest]
#[case::http1(Protocol::Http1)]
#[case::http2(Protocol::Http2)]
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_leaves_fails_no_request(#[case] protocol: Protocol) -> anyhow::Result<()> {
    let bed = bed().await?;
    let other = another(&bed.env, bed.api.address()).await?;
    let load = Load::start(&bed, protocol);
    load.service.add(other.address());
    load.sends(400).await?;
    load.service.remove(bed.gateway.address());
    let leaving = bed.gateway;
    leaving.stop().await?;
    load.sends(400).await?;
    load.end(&format!("one of two gateways leaves, {protocol:?}"))
        .await;
    other.stop().await?;
    Ok(())
}

/// As `maxSurge: 1, maxUnavailable: 0`: a new one is there before an old one goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_upgrade_fails_no_request() -> anyhow::Result<()> {
    let bed = bed().await?;
    let load = Load::start(&bed, Protocol::Http1);
    let second = another(&bed.env, bed.api.address()).await?;
    load.service.add(second.address());
    load.sends(200).await?;
    let TestBed {
        env, api, gateway, ..
    } = bed;
    let mut new = Vec::new();
    for leaving in [gateway, second] {
        let started = another(&env, api.address()).await?;
        load.service.add(started.address());
        new.push(started);
        load.service.remove(leaving.address());
        leaving.stop().await?;
        load.sends(400).await?;
    }
    load.end("a rolling upgrade of two gateways").await;
    for gateway in new {
        gateway.stop().await?;
    }
    Ok(())
}
