//! `countersign controller`: what Countersign does in a cluster beside its gateways.

use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Args, Subcommand};
use countersign_controller::admission::{
    Settings,
    certificate::ServingCertificate,
    events::Events,
    metrics::Metrics,
    namespaces::Namespaces,
    policy,
    server::{Parts, Service},
    webhooks,
};
use countersign_core::{
    clock::Clock,
    logging::{self, LogFormat},
    open_files, reaper,
};
use kube::Config;
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use super::output;

/// Runs the controller until SIGTERM or SIGINT: injects relays into the pods of opted-in namespaces.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub(super) struct ControllerCommand {
    #[command(subcommand)]
    print: Option<Print>,
    /// The settings of injection, YAML.
    #[arg(long, value_name = "FILE", required = true)]
    injection: Option<PathBuf>,
    /// The webhook's certificate, PEM, its CA's behind it; read again when it changes.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/countersign/webhook/tls.crt"
    )]
    certificate: PathBuf,
    /// The webhook's key, PEM.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/countersign/webhook/tls.key"
    )]
    key: PathBuf,
    /// Where the API server calls the webhook, over TLS: `/mutate` and `/validate`.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    webhook: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served in clear text.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9901")]
    admin: SocketAddr,
    /// The process log's format, on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    log: LogFormat,
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
        open_files::raise_limit();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(async {
            reaper::start();
            let certificate = ServingCertificate::new(self.certificate, self.key);
            let webhook = bound(self.webhook).await?;
            let admin = bound(self.admin).await?;
            serve(settings, Arc::new(certificate), webhook, admin).await
        })
    }
}

async fn serve(
    settings: Settings,
    certificate: Arc<ServingCertificate>,
    webhook: TcpListener,
    admin: TcpListener,
) -> anyhow::Result<ExitCode> {
    let config = Config::incluster().context("this runs in a cluster's pod")?;
    let client = countersign_controller::connect(config)
        .context("cannot set up the client of the API server")?;
    let clock = Clock::system();
    let mut registry = Registry::with_prefix("countersign");
    let metrics = Metrics::register(&mut registry);
    let (namespaces, watching) = Namespaces::watch(client.clone());
    let (events, writing) = Events::written(client, metrics.clone());
    let parts = Parts {
        settings,
        certificate: Arc::clone(&certificate),
        namespaces,
        events,
        metrics,
        registry,
        checks: Vec::new(),
    };
    let service = Arc::new(Service::new(parts, &clock));
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        () = certificate.follow(&clock) => {}
        () = watching => {}
        () = writing => {}
        () = Arc::clone(&service).serve_webhook(webhook) => {}
        () = service.serve_admin(admin) => {}
        _ = terminate.recv() => {}
        // Without a terminal there is no SIGINT to wait for.
        () = interrupted() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn bound(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "listening");
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
