//! `countersign run`: the gateway.

mod console;
mod signing;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use countersign_config::{load, model::ServiceName};
use countersign_controller::{
    gateways, pods, resources,
    status::{self, Pace},
};
use countersign_core::{
    clock::Clock,
    logging::{self, LogFormat},
    open_files, reaper,
};
use countersign_gateway::app::{self, App, StartError};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::report;

/// How long threads that are blocked on a disk or a name may delay the exit.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// How long a gateway that ends tries to leave its Lease to another.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// How many tasks a worker runs before it asks the kernel what else is ready. With tokio's 61 a flood of small
/// tasks keeps whoever has just sent something waiting longer (docs/attacks.md).
const TASKS_BETWEEN_LOOKS: u32 = 8;

/// Runs a gateway until SIGTERM or SIGINT; SIGHUP reloads the resources.
#[derive(Debug, Args)]
pub(super) struct RunCommand {
    /// The Gateway file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The process log's format, on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    log: LogFormat,
    /// Number of worker threads. Default: one per core.
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
}

impl RunCommand {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let _log = logging::init(self.log)?;
        let text = load::gateway_text(&self.config);
        let (gateway, warnings) = match load::gateway_here(&self.config) {
            Ok(loaded) => loaded,
            Err(problems) => return report::problems(&problems),
        };
        report::to_stderr(&warnings)?;
        let wanted = console::Wanted::of(&gateway);
        open_files::raise_limit();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Some(threads) = self.threads {
            builder.worker_threads(threads.max(1));
        }
        let runtime = builder
            .event_interval(TASKS_BETWEEN_LOOKS)
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let ended = runtime.block_on(async {
            reaper::start();
            let app = match app::build(gateway, Clock::system()).await {
                Ok(app) => app,
                Err(StartError::Resources(problems)) => return report::problems(&problems),
                Err(error) => return Err(error.into()),
            };
            app.watch_config(self.config.clone(), text);
            let writing = watch_cluster(&app);
            if let Some(wanted) = wanted {
                wanted.add_to(&app);
            }
            if let Some(signing) = app.signing() {
                tokio::spawn(signing::keep(signing));
            }
            for (name, address) in app.addresses() {
                tracing::info!(listener = %name, %address, "listening");
            }
            if let Some(address) = app.admin_address() {
                tracing::info!(%address, "admin endpoint");
            }
            let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
            app.run(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    // Without a terminal there is no SIGINT to wait for.
                    result = tokio::signal::ctrl_c() => if result.is_err() { std::future::pending().await },
                }
            })
            .await;
            if let Some(writing) = writing {
                writing.end().await;
            }
            Ok(ExitCode::SUCCESS)
        });
        // A file on a disk that does not respond must not keep the process alive.
        runtime.shutdown_timeout(LAST_THREADS);
        ended
    }
}

/// The writing of statuses, by one of the gateways.
struct StatusWriter {
    task: JoinHandle<()>,
    end: oneshot::Sender<()>,
}

impl StatusWriter {
    /// Leaves the Lease to another gateway, which need not wait until it has ended.
    async fn end(self) {
        drop(self.end);
        if timeout(LAST_WRITE, self.task).await.is_err() {
            tracing::info!("the Lease was not released in time; it ends by itself");
        }
    }
}

/// Connects the gateway with the API server of its cluster, as far as its configuration asks for it.
fn watch_cluster(app: &App) -> Option<StatusWriter> {
    for (cluster, pods) in app.pods() {
        tokio::spawn(pods::watch(cluster, pods));
    }
    if let Some((cluster, service, tell)) = app.replicas() {
        let ServiceName { namespace, name } = service;
        tokio::spawn(gateways::watch(cluster, namespace, name, tell));
    }
    let ((cluster, objects, tell), reports) = (app.resources()?, app.reports()?);
    let source = status::Source {
        cluster: cluster.clone(),
        objects: objects.clone(),
        namespace: app.service_namespace(),
        reports,
        credentials: Box::new(app.credential_standings()),
        used: Box::new(app.used()),
        clock: Clock::system(),
        pace: Pace::default(),
    };
    let (end, ended) = oneshot::channel();
    let task = tokio::spawn(status::write(source, async { drop(ended.await) }));
    tokio::spawn(resources::watch(cluster, objects, tell));
    Some(StatusWriter { task, end })
}
