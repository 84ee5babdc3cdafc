//! Replicas that are killed (SIGKILL) amid refreshes: the workspace is never lost where Slack lets it
//! be kept, and no more is refreshed than must be.
//!
//! The replicas are processes with the product's own credential room in them; the product knows
//! nothing of being tested. Kills come at random moments around a refresh, and besides at the two
//! that matter most: Slack has the request and did nothing, and Slack did it and has not answered.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use countersign_core::clock::Clock;
use countersign_tests::{client::Client, environment::Environment, fake::Moment, gateway::Gateway};
use http::{Request, header};
use http_body_util::Full;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::credentials::rotation::rotating_environment;

/// The longest that an answer may take: Slack's grace period here is ten seconds.
const PATIENCE: Duration = Duration::from_secs(25);

/// The longest that a replica may give a dead token: far less than until it may renew one once more.
const REPLACED_WITHIN: Duration = Duration::from_secs(10);

/// How many are killed at random moments, over each store and with each number of replicas.
pub(crate) const KILLS: usize = 200;

/// A process that holds the credential.
struct Replica {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// The token it gave last.
    held: String,
}

impl Replica {
    fn start(gateway_yaml: &Path) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_replica"))
            .arg(gateway_yaml)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("piped")?;
        let stdout = child.stdout.take().context("piped")?;
        Ok(Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
            held: String::new(),
        })
    }

    async fn ask(&mut self, line: &str) -> anyhow::Result<()> {
        Ok(self.stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// The token that it answers with; an error of the gateway's is the loss we look for.
    async fn answer(&mut self) -> anyhow::Result<Result<(), String>> {
        let line = timeout(PATIENCE, self.lines.next_line()).await??;
        let line = line.context("the replica ended")?;
        match line.split_once(' ') {
            Some(("token", token)) => {
                token.clone_into(&mut self.held);
                Ok(Ok(()))
            }
            Some(("error", error)) => Ok(Err(error.to_owned())),
            _ => bail!("unexpected: {line:.20}"),
        }
    }

    /// Asks until there is a token: what may pass is waited for, what may not is a loss.
    async fn settle(&mut self, mut line: String) -> anyhow::Result<Result<(), String>> {
        let began = Instant::now();
        loop {
            self.ask(&line).await?;
            match self.answer().await? {
                Ok(()) => return Ok(Ok(())),
                Err(error) if error.contains("Reinstall") => return Ok(Err(error)),
                Err(error) => ensure!(began.elapsed() < PATIENCE, "{error}"),
            }
            "get".clone_into(&mut line);
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// What became of it.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    kills: usize,
    refreshes: usize,
    /// Kills after which a further refresh was needed: Slack had acted, and nothing was stored.
    repeated: usize,
    losses: usize,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.refreshes += other.refreshes;
        self.repeated += other.repeated;
        self.losses += other.losses;
    }
}

/// One workspace and its replicas.
struct Chain {
    env: Environment,
    replicas: Vec<Replica>,
    /// How long a refresh takes here when nobody disturbs it.
    usual: Duration,
    tally: Tally,
}

/// When the victim is killed.
#[derive(Debug, Clone, Copy)]
enum When {
    Random,
    Held(Moment),
}

impl Chain {
    async fn start(
        replicas: usize,
        adjust: &impl Fn(&Environment) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let env = rotating_environment(Clock::system()).await?;
        adjust(&env)?;
        let yaml = env.gateway_yaml();
        let mut started = Vec::new();
        for _ in 0..replicas {
            let mut replica = Replica::start(&yaml)?;
            let settled = replica.settle("get".to_owned()).await?;
            settled.map_err(anyhow::Error::msg)?;
            started.push(replica);
        }
        let mut chain = Self {
            env,
            replicas: started,
            usual: Duration::ZERO,
            tally: Tally::default(),
        };
        let began = Instant::now();
        chain.refresh_all().await?;
        chain.usual = began.elapsed();
        Ok(chain)
    }

    /// Everyone is told that the token is bad, and everyone gets the same new one.
    async fn refresh_all(&mut self) -> anyhow::Result<()> {
        for replica in &mut self.replicas {
            let line = format!("bad {}", replica.held);
            replica.ask(&line).await?;
        }
        for replica in &mut self.replicas {
            replica.answer().await?.map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }

    async fn kill_one(&mut self, when: When, random: &mut Random) -> anyhow::Result<()> {
        let before = self.env.slack.refreshes();
        let victim = match when {
            When::Random => random.below(self.replicas.len()),
            When::Held(_) => 0,
        };
        let hold = match when {
            When::Random => None,
            When::Held(moment) => Some(self.env.slack.hold_refresh(moment)),
        };
        let mut victim = self.replicas.swap_remove(victim);
        let line = format!("bad {}", victim.held);
        victim.ask(&line).await?;
        if let Some(hold) = &hold {
            // The victim is the only one that was told, and so it is the one that is held.
            timeout(PATIENCE, hold.reached()).await?;
        }
        for replica in &mut self.replicas {
            let line = format!("bad {}", replica.held);
            replica.ask(&line).await?;
        }
        if hold.is_none() {
            sleep(self.usual.mul_f64(1.4 * random.fraction())).await;
        }
        victim.kill().await?;
        self.tally.kills += 1;
        let newcomer = Replica::start(&self.env.gateway_yaml())?;
        self.replicas.push(newcomer);
        self.recover().await?;
        let refreshes = self.env.slack.refreshes() - before;
        ensure!(refreshes <= 2, "{refreshes} refreshes for one, {when:?}");
        self.tally.refreshes += refreshes;
        self.tally.repeated += usize::from(refreshes == 2);
        Ok(())
    }

    /// Everyone that lives gets a token that Slack accepts, or the workspace is lost.
    async fn recover(&mut self) -> anyhow::Result<()> {
        let count = self.replicas.len();
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            // The others were asked before the kill.
            let settled = if at + 1 == count {
                replica.settle("get".to_owned()).await?
            } else {
                match replica.answer().await? {
                    Ok(()) => Ok(()),
                    Err(_) => replica.settle("get".to_owned()).await?,
                }
            };
            if let Err(error) = settled {
                self.tally.losses += 1;
                bail!("the workspace is lost: {error}");
            }
        }
        let env = &self.env;
        for replica in &mut self.replicas {
            let began = Instant::now();
            // It had the old one when two new ones were made; an API would now reject it. Who has had
            // many rejected looks for another's once a second.
            while !accepted(env, &replica.held).await? {
                ensure!(began.elapsed() < REPLACED_WITHIN, "a dead token");
                let line = format!("bad {}", replica.held);
                let settled = replica.settle(line).await?;
                ensure!(settled.is_ok(), "a dead token");
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

async fn accepted(env: &Environment, token: &str) -> anyhow::Result<bool> {
    let client = Client::direct(env.slack.address(), env.slack.ca_pem());
    let request = Request::post("https://slack.com/api/auth.test")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Full::default())?;
    Ok(client.send(request).await?.json()["ok"] == true)
}

/// Numbers that look random; a failure tells the seed that repeats them.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

/// Kills `kills` replicas at random moments, and besides at the two held ones, over `chains`
/// workspaces at a time.
pub(crate) async fn kill(
    store: &str,
    replicas: usize,
    chains: usize,
    kills: usize,
    adjust: impl Fn(&Environment) -> anyhow::Result<()> + Clone + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let seed = u64::from(std::process::id()) << 20 | 0x5_1ac4;
    let mut running = JoinSet::new();
    for number in 0..chains {
        let adjust = adjust.clone();
        running.spawn(async move {
            let mut random = Random(
                seed.wrapping_add(number as u64)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15),
            );
            let mut chain = Chain::start(replicas, &adjust).await?;
            for moment in [Moment::BeforeActing, Moment::AfterActing] {
                chain.kill_one(When::Held(moment), &mut random).await?;
            }
            for _ in 0..kills / chains {
                chain.kill_one(When::Random, &mut random).await?;
            }
            anyhow::Ok(chain.tally)
        });
    }
    let mut total = Tally::default();
    while let Some(done) = running.join_next().await {
        total.add(done?.with_context(|| format!("seed {seed}"))?);
    }
    let Tally {
        kills,
        refreshes,
        repeated,
        losses,
    } = total;
    countersign_tests::shown(&format!(
        "| store | replicas | kills | refreshes | of them repeated | losses |\n\
         | {store} | {replicas} | {kills} | {refreshes} | {repeated} | {losses} |"
    ));
    assert_eq!(losses, 0);
    // At least one of each chain: killed after Slack had acted and before it had answered.
    assert!(repeated >= chains, "{repeated} of {chains}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_over_a_directory_is_killed_two_hundred_times() -> anyhow::Result<()> {
    kill("directory", 1, 4, KILLS, |_| Ok(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_replicas_over_a_directory_is_killed_two_hundred_times() -> anyhow::Result<()>
{
    kill("directory", 3, 4, KILLS, |_| Ok(())).await
}

#[tokio::test]
async fn a_token_that_died_by_others_rotations_is_replaced_however_often() -> anyhow::Result<()> {
    let env = rotating_environment(Clock::system()).await?;
    let mut one = Replica::start(&env.gateway_yaml())?;
    assert_eq!(one.settle("get".to_owned()).await?, Ok(()));
    for round in 1..=10 {
        // Two rotations by another, and what this one holds is dead.
        let mut other = Replica::start(&env.gateway_yaml())?;
        assert_eq!(other.settle("get".to_owned()).await?, Ok(()));
        for _ in 0..2 {
            let line = format!("bad {}", other.held);
            assert_eq!(other.settle(line).await?, Ok(()));
        }
        other.kill().await?;
        assert!(!accepted(&env, &one.held).await?, "round {round}");
        let line = format!("bad {}", one.held);
        assert_eq!(one.settle(line).await?, Ok(()));
        assert!(accepted(&env, &one.held).await?, "round {round}");
        assert_eq!(env.slack.refreshes(), 1 + 2 * round, "it only took over");
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_that_starts_goes_on_with_a_refresh_that_was_cut_off() -> anyhow::Result<()> {
    let env = rotating_environment(Clock::default()).await?;
    let hold = env.slack.hold_refresh(Moment::AfterActing);
    let mut replica = Replica::start(&env.gateway_yaml())?;
    replica.ask("get").await?;
    timeout(PATIENCE, hold.reached()).await?;
    replica.kill().await?;
    assert_eq!(env.slack.refreshes(), 1);
    // No request comes, and none is needed.
    let _gateway = Gateway::start(&env).await?;
    assert!(
        env.slack.received().wait_for(2, PATIENCE).await,
        "nothing was done"
    );
    let mut next = Replica::start(&env.gateway_yaml())?;
    let settled = next.settle("get".to_owned()).await?;
    assert_eq!(settled, Ok(()));
    assert!(accepted(&env, &next.held).await?);
    assert_eq!(env.slack.refreshes(), 2);
    Ok(())
}
