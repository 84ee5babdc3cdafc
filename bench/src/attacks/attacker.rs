//! The attacker's process: one attack at full speed for a bounded time, on loopback alone.

mod forms;
mod heads;
mod strangers;
mod tls;
mod workload;

pub(crate) use forms::Endless;

use std::{
    fs,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::Context;
use clap::ValueEnum;
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};

use super::world::{ATTACKER, PLAN};

/// What one client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attack {
    /// Nothing: what the machine shows without any.
    Nothing,
    /// A process that turns on one core and asks nothing: what a neighbour costs.
    Neighbour,
    /// The same on every core.
    Neighbours,
    /// Two on every core, as many as an attacker and the gateway that answers it keep busy.
    Crowd,
    /// Client certificates whose chain is costly to build a path through.
    ClientChain,
    /// The same from an upstream of the attacker's.
    ServerChain,
    /// HTTP/1.1 heads that never end.
    Heads,
    /// HTTP/2 header blocks that never end.
    HeaderBlocks,
    /// Forms that never end, on 128 streams of each connection.
    Forms,
    /// Bodies that might be sent again, on as many.
    KeptBodies,
    /// Connections that are kept after a refused proof.
    Refused,
    /// Connections that say nothing.
    Silent,
    /// Requests without a proof, as many as there can be.
    Refusals,
    /// The same, while whoever collects the records takes 1 MiB a second.
    SlowCollector,
    /// Tokens whose signature is wrong.
    BadTokens,
    /// A path of one's own at which the API refuses the shared credential.
    Rejections,
    /// Silent connections to the admin endpoint.
    Admin,
    /// Downloads that nobody takes, on all upstream connections of a workload.
    Stalls,
    /// Acknowledgements of pings that nobody sent.
    PingAcks,
    /// TLS handshakes, one after the other.
    Handshakes,
    /// Permitted requests of one workload, as many as there can be.
    Flood,
}

impl Attack {
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// For the table: its own words.
    pub(super) fn tell(self) -> String {
        let help = self.to_possible_value();
        let help = help.and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_else(|| self.name())
    }
}

/// What an attacker knows.
struct Plan {
    proxy: SocketAddr,
    admin: SocketAddr,
    tls: SocketAddr,
    evil: SocketAddr,
    /// The token of a workload that is permitted what the honest ones are.
    token: String,
    directory: std::path::PathBuf,
    until: Instant,
}

/// Attacks until `stretch` is over.
pub(crate) async fn run(attack: Attack, directory: &Path, stretch: Duration) -> anyhow::Result<()> {
    let plan: &'static Plan = Box::leak(Box::new(Plan::read(directory, stretch)?));
    let attacking = async {
        match attack {
            Attack::Nothing => tokio::time::sleep(stretch).await,
            Attack::Neighbour => turn(plan),
            Attack::Neighbours => turn_on_every_core(plan, 1),
            Attack::Crowd => turn_on_every_core(plan, 2),
            Attack::ClientChain => tls::client_chains(plan).await?,
            Attack::ServerChain => tls::server_chains(plan).await?,
            Attack::Handshakes => tls::handshakes(plan).await?,
            Attack::Heads => heads::http1(plan).await,
            Attack::HeaderBlocks => heads::http2(plan).await?,
            Attack::PingAcks => heads::ping_acks(plan).await?,
            Attack::Forms => forms::run(plan, &forms::FORM).await?,
            Attack::KeptBodies => forms::run(plan, &forms::KEPT).await?,
            Attack::Refused => strangers::refused(plan).await,
            Attack::Silent => strangers::silent(plan, plan.proxy, 12_000).await,
            Attack::Admin => strangers::silent(plan, plan.admin, 1_000).await,
            Attack::Refusals | Attack::SlowCollector => strangers::refusals(plan, "").await,
            Attack::BadTokens => strangers::refusals(plan, &plan.forged()).await,
            Attack::Rejections => workload::rejections(plan).await,
            Attack::Stalls => workload::stalls(plan).await,
            Attack::Flood => workload::flood(plan).await,
        }
        anyhow::Ok(())
    };
    // It ends when its time is over, whatever it waits for.
    tokio::time::timeout_at(plan.until, attacking)
        .await
        .unwrap_or(Ok(()))
}

impl Plan {
    fn read(directory: &Path, stretch: Duration) -> anyhow::Result<Self> {
        let plan: Value = serde_json::from_str(&fs::read_to_string(directory.join(PLAN))?)?;
        let text = |key: &str| plan[key].as_str().context("the plan is not whole");
        Ok(Self {
            proxy: text("proxy")?.parse()?,
            admin: text("admin")?.parse()?,
            tls: text("tls")?.parse()?,
            evil: text("evil")?.parse()?,
            token: text("token")?.to_owned(),
            directory: directory.to_owned(),
            until: Instant::now() + stretch,
        })
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// The token with another signature.
    fn forged(&self) -> String {
        let (signed, signature) = self.token.rsplit_once('.').unwrap_or_default();
        let turned: String = signature.chars().rev().collect();
        format!("{signed}.{turned}")
    }
}

fn turn(plan: &Plan) {
    while !plan.is_over() {
        std::hint::spin_loop();
    }
}

fn turn_on_every_core(plan: &'static Plan, times: usize) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores * times {
            scope.spawn(|| turn(plan));
        }
    });
}

/// Does the same in so many tasks, each over and over until the time is over.
async fn side_by_side<F>(plan: &'static Plan, tasks: usize, of: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut set = JoinSet::new();
    for number in 0..tasks {
        set.spawn(of(number));
    }
    tokio::time::sleep_until(plan.until).await;
    set.shutdown().await;
}

/// A connection whose small pieces leave at once.
async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let own = Ipv4Addr::new(127, 0, 0, ATTACKER);
    socket.bind((own, 0).into())?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
