//! A gateway in this process, on loopback, with its decision log in memory.

use std::{collections::HashSet, fs, net::SocketAddr, time::Duration};

use countersign_config::{load, model};
use countersign_controller::{
    gateways,
    lease::Timing,
    pods, resources,
    status::{self, Pace},
};
use countersign_core::metrics::Metrics;
use countersign_gateway::{
    app::{self, Reloader},
    observe::{DecisionLog, MemoryLog},
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use crate::{
    client::{Client, Ledger},
    environment::Environment,
    provoked,
    sentences::is_told_in_sentences,
};

/// Statuses are written as soon as they are known.
const SOON: Pace = Pace {
    lease: Timing {
        duration: Duration::from_secs(3),
        renewal: Duration::from_millis(500),
    },
    writes: Duration::from_millis(1),
    look: Duration::from_millis(50),
    again: Duration::from_mins(10),
};

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    roots: String,
    decisions: MemoryLog,
    reloader: Reloader,
    metrics: Metrics,
    ledger: Ledger,
    stop: Option<oneshot::Sender<()>>,
    /// Of pods; they end with the gateway.
    _watches: JoinSet<()>,
    running: JoinHandle<()>,
}

impl Gateway {
    /// Starts the environment's gateway.
    pub async fn start(env: &Environment) -> anyhow::Result<Self> {
        Self::start_with(env, |_| {}).await
    }

    /// Starts the environment's gateway with changes to its configuration.
    pub async fn start_with(
        env: &Environment,
        change: impl FnOnce(&mut model::Gateway),
    ) -> anyhow::Result<Self> {
        let (mut gateway, _) =
            load::gateway(&env.gateway_yaml()).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        change(&mut gateway);
        let (log, decisions) = DecisionLog::memory();
        let app = app::build_with_log(gateway, env.clock.clone(), log)
            .await
            .map_err(|error| match error {
                app::StartError::Resources(problems) => anyhow::anyhow!("{problems}"),
                other => other.into(),
            })?;
        let addresses = app.addresses();
        let (_, address) = addresses
            .first()
            .ok_or_else(|| anyhow::anyhow!("no listener"))?;
        let (stop, stopped) = oneshot::channel();
        let mut watches = JoinSet::new();
        for (cluster, pods) in app.pods() {
            watches.spawn(pods::watch(cluster, pods));
        }
        if let (Some((cluster, objects, tell)), Some(reports)) = (app.resources(), app.reports()) {
            let source = status::Source {
                cluster: cluster.clone(),
                objects: objects.clone(),
                namespace: app.service_namespace(),
                reports,
                credentials: Box::new(app.credential_standings()),
                used: Box::new(app.used()),
                clock: env.clock.clone(),
                pace: SOON,
            };
            watches.spawn(status::write(source, std::future::pending()));
            watches.spawn(resources::watch(cluster, objects, tell));
        }
        if let Some((cluster, service, tell)) = app.replicas() {
            let model::ServiceName { namespace, name } = service;
            let watch = gateways::watch(cluster, namespace, name, tell);
            watches.spawn(watch);
        }
        Ok(Self {
            address: *address,
            admin: app.admin_address(),
            roots: fs::read_to_string(env.ca_directory().join("root.pem"))?,
            decisions,
            reloader: app.reloader(),
            metrics: app.metrics().clone(),
            ledger: Ledger::default(),
            stop: Some(stop),
            _watches: watches,
            // A test that drops its gateway stops it too.
            running: tokio::spawn(app.run(async move { drop(stopped.await) })),
        })
    }

    /// The address of its first listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of its admin endpoint.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Its root certificate, as PEM.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// A client that goes through it and trusts it, with no proof of who it is yet.
    pub fn client(&self, env: &Environment) -> Client {
        Client::through(self.address, &self.roots)
            .at(env.clock.clone())
            .counted_in(&self.ledger)
    }

    /// Its decision records.
    pub fn decisions(&mut self) -> &mut MemoryLog {
        &mut self.decisions
    }

    /// What happened to the gateway itself, as the decision log says.
    pub fn events(&self) -> Vec<Value> {
        self.decisions.events()
    }

    /// Takes new revisions on demand.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// Drains it and waits for its end; returns all its decision records.
    ///
    /// # Errors
    /// When the gateway panicked.
    pub async fn stop(mut self) -> anyhow::Result<Vec<Value>> {
        if let Some(stop) = self.stop.take() {
            // An error is a gateway that has stopped already, which the next line tells.
            let _ = stop.send(());
        }
        (&mut self.running).await?;
        Ok(self.decisions.all())
    }

    /// What the metrics count, and the records, once both agree; a request that ends at this moment is
    /// counted first.
    fn accounts(&self) -> (u64, Vec<Value>) {
        let mut found = (0, Vec::new());
        for _ in 0..10_000 {
            found = (finished(&self.metrics), self.decisions.all());
            if found.0 == found.1.len() as u64 {
                break;
            }
            std::thread::yield_now();
        }
        found
    }
}

/// One request, one record, and one count, all told in sentences: holds for every test with a gateway.
impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let (counted, records) = self.accounts();
        assert_eq!(counted, records.len() as u64, "metrics and records differ");
        provoked::note(&records);
        let events = self.events();
        records.iter().chain(&events).for_each(is_told_in_sentences);
        let ids: HashSet<_> = records.iter().map(|record| &record["id"]).collect();
        assert_eq!(ids.len(), records.len(), "an id is there twice");
        for (address, sent) in self.ledger.counts() {
            let address = address.to_string();
            let of = |record: &&Value| record["caller"]["client"] == address.as_str();
            let recorded: Vec<_> = records.iter().filter(of).collect();
            // Another connection may have the same port later.
            let together =
                recorded.chunk_by(|one, next| began(next) - ended(one) < SAME_CONNECTION);
            for records in together {
                let more = records.len().saturating_sub(sent);
                assert_eq!(more, 0, "{sent} requests, and more records: {records:#?}");
            }
        }
    }
}

/// The longest between two records of one connection, in microseconds; ports are not used again so soon.
const SAME_CONNECTION: i64 = 1_000_000;

/// When a record's request began, in microseconds.
fn began(record: &Value) -> i64 {
    let time: Option<Timestamp> = record["time"].as_str().and_then(|time| time.parse().ok());
    time.map_or(0, Timestamp::as_microsecond)
}

fn ended(record: &Value) -> i64 {
    began(record) + record["timing_us"]["total"].as_i64().unwrap_or(0)
}

/// How many requests the metrics count.
fn finished(metrics: &Metrics) -> u64 {
    let text = metrics.encode().expect("metrics are text");
    let count = |line: &str| -> Option<u64> {
        let line = line.strip_prefix("countersign_requests_total{")?;
        line.rsplit(' ').next()?.parse().ok()
    };
    text.lines().filter_map(count).sum()
}
