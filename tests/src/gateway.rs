//! A gateway in this process, on loopback, with its decision log in memory.

use std::{fs, net::SocketAddr};

use countersign_config::{load, model};
use countersign_gateway::{
    app::{self, Reloader},
    observe::{DecisionLog, MemoryLog},
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{client::Client, environment::Environment};

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    roots: String,
    decisions: MemoryLog,
    reloader: Reloader,
    stop: oneshot::Sender<()>,
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
        Ok(Self {
            address: *address,
            admin: app.admin_address(),
            roots: fs::read_to_string(env.ca_directory().join("root.pem"))?,
            decisions,
            reloader: app.reloader(),
            stop,
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
        Client::through(self.address, &self.roots).at(env.clock.clone())
    }

    /// Its decision records.
    pub fn decisions(&mut self) -> &mut MemoryLog {
        &mut self.decisions
    }

    /// What happened to the gateway itself, as the decision log says.
    pub fn events(&self) -> Vec<serde_json::Value> {
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
    pub async fn stop(self) -> anyhow::Result<Vec<serde_json::Value>> {
        // An error is a gateway that has stopped already, which the next line tells.
        let _ = self.stop.send(());
        self.running.await?;
        Ok(self.decisions.all())
    }
}
