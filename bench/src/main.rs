//! The load generator: what the gateway costs, beside the same load without it, in one run.
//!
//! Three processes on loopback: this one makes the load, a stand-in API answers over TLS and
//! refuses everything but the real credential, and between them runs the very binary that is
//! shipped. Each load is sent direct (holding the credential) and through the gateway (holding
//! nothing but a service account's token), one after the other, so that a slow machine is slow
//! for both.
//!
//! ```text
//! cargo run --release -p countersign-bench            the whole table, about two minutes
//! cargo run --release -p countersign-bench -- --help
//! ```

mod affinity;
mod attacks;
mod client;
mod cluster;
mod compare;
mod files;
mod load;
mod machine;
mod process;
mod relay;
mod relay_memory;
mod report;
mod scenario;
mod upstream;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Measures the gateway beside the same load without it.
#[derive(Debug, Parser)]
struct Options {
    /// The gateway's binary; built beforehand, in release, unless given.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// How long each load is measured, in seconds, after a warm-up of a quarter of that.
    #[arg(long, default_value_t = 8.0, value_name = "SECONDS")]
    seconds: f64,
    /// Concurrent connections of the loads that have several.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// The size of a large body.
    #[arg(long, default_value_t = 128, value_name = "MIB")]
    body: u64,
    /// How many connections rest in the memory measurement.
    #[arg(long, default_value_t = 1000)]
    idle: usize,
    /// Do not pin the gateway and the load to cores of their own.
    #[arg(long)]
    unpinned: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The stand-in API; the bench starts it by itself.
    #[command(hide = true)]
    Upstream {
        /// Where the certificate, its key and the credential are.
        directory: PathBuf,
    },
    /// A relay that understands nothing; `compare` starts it by itself.
    #[command(hide = true)]
    Relay {
        /// Where it listens.
        listen: std::net::SocketAddr,
        /// Where all goes.
        upstream: std::net::SocketAddr,
    },
    /// The product beside its peers; bench/compare installs them.
    Compare(compare::Compare),
    /// What the relay costs a pod; bench/relay builds it.
    RelayMemory(relay_memory::RelayMemory),
    /// What a cluster's objects and pods cost the gateway and its API server.
    Cluster(cluster::Cluster),
    /// Attacks beside honest requests, in a memory cgroup.
    Attacks(attacks::Attacks),
    /// One attacker; `attacks` starts it by itself.
    #[command(hide = true)]
    Attacker {
        /// What it does.
        attack: attacks::Attack,
        /// Where its plan is.
        directory: PathBuf,
        /// For how many seconds.
        seconds: f64,
    },
}

impl Options {
    fn measured(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.1, 600.0))
    }

    fn body_bytes(&self) -> u64 {
        self.body.clamp(1, 16 * 1024) * 1024 * 1024
    }
}

fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another crypto provider is installed"))?;
    let options = Options::parse();
    if let Some(Command::Upstream { directory }) = &options.command {
        return runtime()?.block_on(upstream::run(directory));
    }
    if let Some(Command::Relay { listen, upstream }) = &options.command {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        return runtime.block_on(relay::run(*listen, *upstream));
    }
    if let Some(Command::Attacker {
        attack,
        directory,
        seconds,
    }) = &options.command
    {
        machine::raise_file_limit();
        let stretch = Duration::from_secs_f64(seconds.clamp(0.0, 60.0));
        let runtime = runtime()?;
        let attacked = runtime.block_on(attacks::run_attacker(*attack, directory, stretch));
        // Its connections need no farewell.
        runtime.shutdown_background();
        return attacked;
    }
    if let Some(Command::RelayMemory(relay)) = &options.command {
        let cores = affinity::Cores::split(options.unpinned)?;
        machine::raise_file_limit();
        cores.take_load()?;
        let machine = machine::describe(&cores);
        return runtime()?.block_on(relay_memory::run(relay, &cores, &machine));
    }
    let gateway = match &options.gateway {
        Some(path) => path.clone(),
        None => process::build_gateway()?,
    };
    let cores = affinity::Cores::split(options.unpinned)?;
    machine::raise_file_limit();
    // Before the runtime starts its threads, which inherit it.
    if !matches!(options.command, Some(Command::Attacks(_))) {
        cores.take_load()?;
    }
    let machine = machine::describe(&cores);
    runtime()?.block_on(async {
        if let Some(Command::Compare(compare)) = &options.command {
            return compare::run(compare, &gateway, &cores, &machine).await;
        }
        if let Some(Command::Attacks(attacks)) = &options.command {
            return attacks::run(attacks, &gateway, &cores, &machine).await;
        }
        if let Some(Command::Cluster(cluster)) = &options.command {
            return cluster.run(&gateway, &machine).await;
        }
        let results = scenario::run_all(&options, &gateway, &cores).await?;
        report::print(&options, &machine, &results)?;
        anyhow::ensure!(
            results.errors() == 0,
            "{} requests failed",
            results.errors()
        );
        Ok(())
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
