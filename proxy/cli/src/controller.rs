//! `countersign controller`: what Countersign does in a cluster beside its gateways.

use std::{
    io::Write, net::SocketAddr, path::PathBuf, pin::Pin, process::ExitCode, sync::Arc,
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use countersign_controller::{
    admission::{
        Settings,
        certificate::ServingCertificate,
        events::Events,
        metrics::Metrics,
        namespaces::Namespaces,
        policy,
        server::{Check, Parts, Service},
        webhooks,
    },
    lease::Timing,
    ranges,
    trust::{self, Health, Trust, TrustParts, TrustSettings},
    uninjected,
};
use countersign_core::{
    clock::Clock,
    logging::{self, LogFormat},
    open_files, reaper,
};
use countersign_gateway::ca::system_roots;
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

use super::{cluster, output};

/// Where the webhook's certificate and key are without `--trust`.
const CERTIFICATE: &str = "/var/run/secrets/countersign/webhook/tls.crt";
const KEY: &str = "/var/run/secrets/countersign/webhook/tls.key";

/// How long the API server may take to tell the cluster's ranges, and how often it is asked.
const ASK: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 3;

/// How long the end may take.
const LAST: Duration = Duration::from_secs(3);

/// Runs the controller until SIGTERM or SIGINT: injects relays into the pods of opted-in namespaces, and keeps trust.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(super) struct ControllerCommand {
    #[command(subcommand)]
    print: Option<Print>,
    /// The settings of injection, YAML.
    #[arg(long, value_name = "FILE", required = true)]
    injection: Option<PathBuf>,
    /// The settings of trust, YAML: the controller makes the roots, signs what gateways need, and publishes what clients
    /// must trust.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Who injects: the controller's webhook, or the API server by policies (`countersign controller policy`).
    #[arg(long, value_enum, default_value_t = Engine::Webhook)]
    engine: Engine,
    /// The webhook's certificate, PEM, its CA's behind it; read again when it changes. Default: with --trust the
    /// controller makes it, else `/var/run/secrets/countersign/webhook/tls.crt`.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The webhook's key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Where the API server calls the webhook, over TLS: `/mutate` and `/validate`.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    webhook: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served in clear text.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9901")]
    admin: SocketAddr,
    /// How long a controller that leads keeps its Lease without renewing it, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..=300))]
    lease: u16,
    /// For a controller that runs outside of its cluster: the kubeconfig. Default: the pod's service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The process log's format, on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    log: LogFormat,
}

/// Who injects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "camelCase")]
enum Engine {
    /// The controller's webhook.
    Webhook,
    /// The API server.
    AdmissionPolicy,
}

/// What is printed rather than done.
#[derive(Debug, Subcommand)]
enum Print {
    /// Print the webhook configurations, as a JSON list.
    Webhooks {
        /// The settings of injection, YAML.
        #[arg(long, value_name = "FILE")]
        injection: PathBuf,
        /// The webhook's Service, in the controller's namespace.
        #[arg(long, value_name = "NAME", default_value = "countersign-controller")]
        service: String,
    },
    /// Print the policies by which an API server from 1.36 on injects without a webhook, as a JSON list.
    Policy {
        /// The settings of injection, YAML.
        #[arg(long, value_name = "FILE")]
        injection: PathBuf,
    },
}

impl ControllerCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(print) = self.print {
            return print.run();
        }
        let _log = logging::init(self.log)?;
        let file = self
            .injection
            .as_deref()
            .context("--injection is missing")?;
        let settings = Settings::read(file)?;
        let trust = match &self.trust {
            None => None,
            Some(file) => Some(TrustSettings::read(file, &settings)?),
        };
        open_files::raise_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            reaper::start();
            let admin = bound("admin", self.admin).await?;
            let webhook = match self.engine {
                Engine::AdmissionPolicy => None,
                Engine::Webhook => Some(bound("webhook", self.webhook).await?),
            };
            let certificate = match (self.certificate, self.key, &trust) {
                (Some(certificate), Some(key), _) => ServingCertificate::new(certificate, key),
                (_, _, Some(_)) => ServingCertificate::kept(),
                (_, _, None) => ServingCertificate::new(CERTIFICATE.into(), KEY.into()),
            };
            let controller = Controller {
                settings,
                trust,
                certificate: Arc::new(certificate),
                webhook,
                admin,
                timing: Timing::of_lease(Duration::from_secs(self.lease.into())),
            };
            let client = match self.kubeconfig {
                Some(file) => cluster::client_of(&file).await?,
                None => countersign_controller::connect(
                    Config::incluster().context("this runs in a cluster's pod")?,
                )
                .context("cannot set up the client of the API server")?,
            };
            Box::pin(controller.serve(client)).await
        })
    }
}

/// A controller whose addresses are bound.
struct Controller {
    settings: Settings,
    trust: Option<TrustSettings>,
    certificate: Arc<ServingCertificate>,
    webhook: Option<TcpListener>,
    admin: TcpListener,
    timing: Timing,
}

impl Controller {
    async fn serve(mut self, client: Client) -> anyhow::Result<ExitCode> {
        if self.webhook.is_some() && self.settings.cluster_ranges.is_empty() {
            self.settings.cluster_ranges = cluster_ranges(&client).await;
        }
        let clock = Clock::system();
        let mut registry = Registry::with_prefix("countersign");
        let metrics = Metrics::register(&mut registry);
        let (namespaces, watching) = Namespaces::watch(client.clone());
        let (events, writing) = Events::written(client.clone(), metrics.clone());
        let certificate = self.webhook.is_some().then_some(&self.certificate);
        let keeping = Keeping::new(self.trust, &client, certificate, &clock, &mut registry)?
            .with_timing(self.timing);
        let without_relay = uninjected::watch(
            client.clone(),
            self.settings.clone(),
            events.clone(),
            uninjected::Counters::register(&mut registry),
            keeping.leads(),
        );
        let parts = Parts {
            settings: self.settings,
            certificate: certificate.cloned(),
            namespaces,
            events,
            metrics,
            registry,
            checks: keeping.checks(),
        };
        let service = Arc::new(Service::new(parts, &clock));
        let webhook = Arc::clone(&service);
        let webhook = async move {
            match self.webhook {
                Some(listener) => webhook.serve_webhook(listener).await,
                None => std::future::pending().await,
            }
        };
        let (end, ended) = oneshot::channel();
        let mut keeping = std::pin::pin!(keeping.run(ended));
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        tokio::select! {
            () = self.certificate.follow(&clock) => {}
            () = watching => {}
            () = writing => {}
            () = without_relay => {}
            () = webhook => {}
            () = &mut keeping => return Ok(ExitCode::SUCCESS),
            () = service.serve_admin(self.admin) => {}
            _ = terminate.recv() => {}
            // Without a terminal there is no SIGINT to wait for.
            () = interrupted() => {}
        }
        // Another replica leads at once.
        drop(end);
        if timeout(LAST, keeping).await.is_err() {
            tracing::warn!("the Lease was not released in time; it ends by itself");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The part that keeps trust, if there is one.
struct Keeping {
    trust: Option<(Trust, Health)>,
    /// Shows the webhook's certificate that the leader makes.
    follow: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Keeping {
    fn new(
        settings: Option<TrustSettings>,
        client: &Client,
        certificate: Option<&Arc<ServingCertificate>>,
        clock: &Clock,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let Some(settings) = settings else {
            return Ok(Self {
                trust: None,
                follow: None,
            });
        };
        let kept = certificate.filter(|certificate| certificate.is_kept());
        let follow = kept.map(|certificate| {
            let (namespace, certificate) = (settings.namespace.clone(), Arc::clone(certificate));
            let follow =
                trust::follow_webhook(client.clone(), namespace, certificate, clock.clone());
            Box::pin(follow) as Pin<Box<dyn Future<Output = ()>>>
        });
        let health = Health::register(registry);
        let trust = Trust::new(TrustParts {
            client: client.clone(),
            settings,
            system: system_roots()?,
            clock: clock.clone(),
            health: health.clone(),
            webhook: kept.is_some(),
        });
        Ok(Self {
            trust: Some((trust, health)),
            follow,
        })
    }

    fn with_timing(mut self, timing: Timing) -> Self {
        let trust = self.trust.take();
        self.trust = trust.map(|(trust, health)| (trust.with_timing(timing), health));
        self
    }

    fn checks(&self) -> Vec<Check> {
        let health = self.trust.iter().map(|(_, health)| health.clone());
        health
            .map(|health| Box::new(move || health.readiness()) as Check)
            .collect()
    }

    /// Tells whether this controller leads; without trust each one does.
    fn leads(&self) -> impl Fn() -> bool + Send + use<> {
        let health = self.trust.as_ref().map(|(_, health)| health.clone());
        move || health.as_ref().is_none_or(Health::is_leading)
    }

    /// Until the sender is dropped.
    async fn run(self, ended: oneshot::Receiver<()>) {
        let follow = async {
            match self.follow {
                Some(follow) => follow.await,
                None => std::future::pending().await,
            }
        };
        let trust = async {
            match self.trust {
                Some((trust, _)) => Box::pin(trust.run(async { drop(ended.await) })).await,
                None => drop(ended.await),
            }
        };
        tokio::select! {
            () = follow => {}
            () = trust => {}
        }
    }
}

/// The ranges that pods reach without the relay. Without them a pod that calls another by its address gets a refusal
/// that says so, so the controller does not wait for long.
async fn cluster_ranges(client: &Client) -> Vec<ipnet::IpNet> {
    for _ in 0..ATTEMPTS {
        match timeout(ASK, ranges::find(client)).await {
            Ok(Ok(found)) => {
                tracing::info!(ranges = ?found, "pods reach the cluster's own addresses directly");
                return found;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the cluster's ranges cannot be found"),
            Err(_) => tracing::warn!("the API server does not tell the cluster's ranges"),
        }
        tokio::time::sleep(ASK).await;
    }
    Vec::new()
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn bound(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    tracing::info!(listener = name, %address, "listening");
    Ok(listener)
}

impl Print {
    fn run(self) -> anyhow::Result<ExitCode> {
        let items = match self {
            Self::Webhooks { injection, service } => {
                let settings = Settings::read(&injection)?;
                webhooks::configurations(&settings, &service, "").to_vec()
            }
            Self::Policy { injection } => policy::objects(&Settings::read(&injection)?).to_vec(),
        };
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
        writeln!(output::stdout(), "{}", serde_json::to_string_pretty(&list)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
