//! What one client can take from everybody: each attack at full speed beside honest requests, against
//! the shipped binary in a memory cgroup, on cores that it shares with the attacker as with another pod.
//!
//! Ten workloads send 200 requests a second together, most on open connections and some on new ones.
//! Each attack runs in a process of its own and stops by itself. Everything stays on loopback.

mod attacker;
mod cgroup;
mod chains;
mod honest;
mod http2;
mod seen;
mod table;
mod world;

pub(crate) use attacker::{Attack, Endless, run as run_attacker};

use std::{path::Path, time::Duration};

use anyhow::ensure;

use crate::{affinity::Cores, scenario::progress};
use honest::Honest;
use table::Row;
use world::World;

/// How long honest requests go on before anything is measured.
const WARM: Duration = Duration::from_secs(1);

/// Which attacks, and how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Attacks {
    /// How long each attack is watched, in seconds.
    #[arg(long, default_value_t = 8.0, value_name = "SECONDS")]
    seconds: f64,
    /// The gateway's memory limit. Its cgroup needs root; without it the limit is not enforced.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    memory: u64,
    /// Only these, comma-separated.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Attack>,
    /// Print the gateway's process log and metrics after each attack.
    #[arg(long)]
    verbose: bool,
}

impl Attacks {
    fn watched(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(1.0, 60.0))
    }

    fn chosen(&self) -> Vec<Attack> {
        if self.only.is_empty() {
            return <Attack as clap::ValueEnum>::value_variants().to_vec();
        }
        self.only.clone()
    }
}

/// Runs every attack against a gateway of its own and prints the table.
pub(crate) async fn run(
    options: &Attacks,
    binary: &Path,
    cores: &Cores,
    machine: &[String],
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for attack in options.chosen() {
        progress(&format!("{attack:?}"))?;
        let row = one(options, attack, binary, &cores.shared()).await?;
        progress(&format!("  {}", row.summary()))?;
        rows.push(row);
    }
    table::print(options.memory, options.watched(), machine, &rows)?;
    let lost: u64 = rows.iter().map(Row::lost).sum();
    ensure!(
        lost == 0,
        "{lost} honest requests or their records were lost"
    );
    ensure!(!rows.iter().any(|row| row.killed), "the gateway was killed");
    Ok(())
}

async fn one(
    options: &Attacks,
    attack: Attack,
    binary: &Path,
    cores: &Cores,
) -> anyhow::Result<Row> {
    let mut world = World::start(binary, cores, attack, options.memory).await?;
    let honest = Honest::start(&world).await?;
    // What all share is made by the first requests: leaf certificates, connections upstream.
    let warm = honest.watch(WARM).await?;
    // The same requests without the attack: on this machine, in this minute.
    let before = honest.watch(options.watched() / 2).await?;
    world.forget_peak()?;
    let attacker = world.attack(attack, options.watched())?;
    let during = honest.watch(options.watched()).await?;
    let probes = world.probes();
    drop(attacker);
    honest.stop().await;
    let killed = world.killed();
    if options.verbose || killed {
        progress(&world.process_log())?;
    }
    let metrics = world.metrics().await;
    let records = world
        .records(warm.answered + before.answered + during.answered)
        .await;
    Ok(Row {
        attack,
        before,
        during,
        records,
        peak: world.peak(),
        killed,
        probes,
        shed: metrics,
    })
}
