//! The main job on one screen: the nightly dashboard, call by call, through a gateway on loopback.
//!
//! The job holds no token of Slack or Qase, only its own service-account token, as a pod would.
//! For every call this prints side by side what the job sent, what the API received, and what was
//! decided; then two calls that policy refuses, and why.
//!
//! The policy is that of `examples/nightly-dashboard/policy`, to the letter but for where the secrets
//! are. Since it permits the job at six in the morning on working days, it is ten past six
//! on such a day for everyone here.

mod job;
mod show;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Parser;
use countersign_config::{load, model::Gateway};
use countersign_core::clock::Clock;
use countersign_gateway::{
    app::{self, StartError},
    observe::DecisionLog,
};
use countersign_tests::{
    client::{Answer, Client},
    environment::{DASHBOARD_FILE, Environment, Options},
    fake::Received,
};
use http::Request;
use http_body_util::Full;
use jiff::{ToSpan, Zoned, civil::Weekday, tz::TimeZone};
use job::{Api, Call, Job};
use show::Arrival;

const POLICY: [(&str, &str); 3] = [
    (
        "access.yaml",
        include_str!("../nightly-dashboard/policy/access.yaml"),
    ),
    (
        "credentials.yaml",
        include_str!("../nightly-dashboard/policy/credentials.yaml"),
    ),
    (
        "workload.yaml",
        include_str!("../nightly-dashboard/policy/workload.yaml"),
    ),
];

/// Runs the nightly dashboard through a gateway on loopback.
#[derive(Debug, Parser)]
struct Arguments {
    /// A file with a Slack bot token (chat:write, files:write): the real Slack is called.
    #[arg(long, value_name = "FILE")]
    slack_token_file: Option<PathBuf>,
    /// A file with a Qase API token: the real Qase is called.
    #[arg(long, value_name = "FILE")]
    qase_token_file: Option<PathBuf>,
    /// The channel to post to.
    #[arg(long, value_name = "ID", default_value = "C0123456789")]
    slack_channel: String,
    /// The project to read from.
    #[arg(long, value_name = "CODE", default_value = "DEMO")]
    qase_project: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let clock = Clock::manual(ten_past_six()?.timestamp());
    let env = Environment::with(Options {
        clock: clock.clone(),
        ..Options::default()
    })
    .await?;
    write_policy(&env, &arguments)?;
    let gateway = gateway(&env, &arguments)?;

    let (log, mut decisions) = DecisionLog::memory();
    let app = match app::build_with_log(gateway, clock.clone(), log).await {
        Ok(app) => app,
        Err(StartError::Resources(problems)) => bail!("{problems}"),
        Err(error) => return Err(error.into()),
    };
    let (_, address) = app.addresses().into_iter().next().context("no listener")?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async { stopped.await.unwrap_or_default() }));

    let roots = fs::read_to_string(env.ca_directory().join("root.pem"))?;
    let token = env.token("qa", "nightly-dashboard");
    let client = Client::through(address, &roots)
        .bearer(&token)
        .at(clock.clone());
    show::opening(address, &clock);

    let mut job = Job::new(&arguments.qase_project, &arguments.slack_channel);
    let mut failed = 0;
    for number in 1.. {
        let Some(call) = job.next() else { break };
        let (answer, received) = make(&env, &client, &call).await?;
        let decision = decisions.next().await;
        let real = arguments.is_real(call.api);
        let arrival = match received {
            _ if real => Arrival::Unseen,
            None => Arrival::None,
            Some(received) => Arrival::Received(received),
        };
        let as_expected = show::call(number, &call, &arrival, &env, &answer, &decision);
        failed += usize::from(!as_expected);
        job.answered(&call, &answer);
    }
    // The receiver is there until the gateway has stopped.
    stop.send(())
        .ok()
        .context("the gateway stopped by itself")?;
    running.await?;
    show::closing(failed);
    if failed > 0 {
        bail!("{failed} calls did not go as the policy says");
    }
    Ok(())
}

/// Makes one call, on a connection of its own as a job's SDK would. With it comes what the stand-in
/// received, if anything.
async fn make(
    env: &Environment,
    client: &Client,
    call: &Call,
) -> anyhow::Result<(Answer, Option<Arc<Received>>)> {
    let memory = match call.api {
        Api::Qase => env.qase.received(),
        Api::Slack => env.slack.received(),
    };
    let before = memory.of_pods().len();
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(&call.url);
    for (name, value) in &call.headers {
        request = request.header(*name, value);
    }
    let request = request.body(Full::new(Bytes::from(call.body.clone())))?;
    let answer = client.send(request).await?;
    let received = memory.of_pods().into_iter().nth(before);
    Ok((answer, received))
}

/// The example's policy, its secrets where this environment keeps them.
fn write_policy(env: &Environment, arguments: &Arguments) -> anyhow::Result<()> {
    env.remove_policy(DASHBOARD_FILE)?;
    let secrets = env.secret_directory();
    let slack = arguments.slack_token_file.clone();
    let qase = arguments.qase_token_file.clone();
    let slack = slack.unwrap_or_else(|| secrets.join("slack-bot"));
    let qase = qase.unwrap_or_else(|| secrets.join("qase"));
    for (name, yaml) in POLICY {
        let yaml = yaml
            .replace(&in_cluster("slack-token"), &on_disk(&slack))
            .replace(&in_cluster("qase-token"), &on_disk(&qase));
        env.write_yaml(name, &yaml)?;
    }
    Ok(())
}

/// A Secret as the policy refers to it.
fn in_cluster(name: &str) -> String {
    format!("kubernetesSecret: {{ name: {name}, key: token }}")
}

/// The same without a cluster.
fn on_disk(file: &Path) -> String {
    format!("file: \"{}\"", file.display())
}

/// The environment's gateway; the names of APIs that are called for real are not redirected.
fn gateway(env: &Environment, arguments: &Arguments) -> anyhow::Result<Gateway> {
    let (mut gateway, _) =
        load::gateway(&env.gateway_yaml()).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    gateway.upstream.resolve.retain(|(host, _), _| {
        let host = host.to_string();
        let api = if host.ends_with("qase.io") {
            Api::Qase
        } else {
            Api::Slack
        };
        !arguments.is_real(api)
    });
    Ok(gateway)
}

impl Arguments {
    fn is_real(&self, api: Api) -> bool {
        match api {
            Api::Slack => self.slack_token_file.is_some(),
            Api::Qase => self.qase_token_file.is_some(),
        }
    }
}

/// Ten past six in Berlin, today or on the last working day.
#[expect(
    clippy::disallowed_methods,
    reason = "the demonstration is about today"
)]
fn ten_past_six() -> anyhow::Result<Zoned> {
    let berlin = TimeZone::get("Europe/Berlin")?;
    let mut moment = Zoned::now()
        .with_time_zone(berlin)
        .with()
        .hour(6)
        .minute(10)
        .build()?;
    while matches!(moment.weekday(), Weekday::Saturday | Weekday::Sunday) {
        moment = moment.checked_sub(1.day())?;
    }
    Ok(moment)
}
