//! `countersign exec -- CMD`: runs one command with a local gateway, as some workload.
//!
//! The gateway runs in this process and listens on loopback. It trusts one issuer only, whose key is
//! made here and ends with the process. So its tokens are useless elsewhere, and a configured issuer's
//! tokens are useless here.

mod child;
mod decisions;
mod issuer;
mod local;

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use countersign_config::{
    load,
    model::{Gateway, ResourceSource},
};
use countersign_core::{
    clock::Clock,
    logging::{self, LogFormat, LoggingError},
    secret::Secret,
};
use countersign_gateway::{
    app::{self, StartError},
    ca::Ca,
    observe::DecisionLog,
};
use jiff::SignedDuration;
use tempfile::TempDir;
use tokio::sync::oneshot;

use self::{decisions::DecisionPrinter, issuer::LocalIssuer};
#[cfg(feature = "pkcs12")]
use super::{environment::TRUST_STORE_PASSWORD, trust_store};
use super::{
    environment::{self, TrustFiles},
    files::{found, load_gateway, unusable},
    report,
    subject::{self, Subject},
};

/// How long requests may continue after the command has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// Run one command under a local gateway, with proxy and CA variables set
#[derive(Debug, Args)]
pub(super) struct ExecCommand {
    /// The Gateway file: its upstream settings, limits, state and resources are used, its listeners,
    /// issuers and CA are not
    #[arg(long, value_name = "FILE", required_unless_present = "resources")]
    config: Option<PathBuf>,
    /// A directory of resources, instead of those in the Gateway file; may be repeated
    #[arg(long, value_name = "DIR")]
    resources: Vec<PathBuf>,
    /// The workload to run as: a workload's name, or namespace/service-account
    #[arg(long = "as", value_name = "NAMESPACE/NAME")]
    subject: String,
    /// How many hours the command's identity is valid
    #[arg(long, value_name = "HOURS", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=720))]
    hours: u16,
    /// Print a line for every decision, not only for refusals and failures
    #[arg(long, short)]
    verbose: bool,
    /// Append every decision record to this file
    #[arg(long, value_name = "FILE")]
    decisions: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<std::ffi::OsString>,
}

impl ExecCommand {
    /// Runs the command; the exit code is the command's.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let _log = match logging::init_quiet(LogFormat::Text) {
            Ok(log) => Some(log),
            // A program that embeds this command may have installed its own log.
            Err(LoggingError::Taken) => None,
            Err(error @ (LoggingError::Filter(_) | LoggingError::Thread(_))) => {
                return Err(error.into());
            }
        };
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<ExitCode> {
        let clock = Clock::system();
        let private = private_directory()?;
        let configured = self.config.as_deref().map(load_gateway).transpose()?;
        let resources = self.resource_directories(configured.as_ref())?;
        let subject = self.subject(&resources, configured.as_ref())?;

        let issuer = LocalIssuer::new()?;
        let life = SignedDuration::from_hours(self.hours.into());
        let token = issuer.token(&subject, clock.now(), life)?;
        let gateway = local::gateway(configured, &resources, private.path(), &subject, &issuer)?;
        let trust = write_trust(private.path(), &clock)?;
        let log = self.decision_log()?;
        let app = app::build_with_log(gateway, clock, log.clone())
            .await
            .map_err(|error| match error {
                StartError::Resources(problems) => unusable(&problems),
                other => anyhow::Error::new(other).context("the local gateway cannot be started"),
            })?;
        let address = app.addresses().first().map(|(_name, address)| *address);
        let address = address.context("the local gateway has no listener")?;

        let (ended, end) = oneshot::channel::<()>();
        // Also ends when `ended` is dropped, as on an early return.
        let serving = tokio::spawn(app.run(async move { drop(end.await) }));
        let variables = variables(address, &token, &trust);
        let status = child::run(&self.command, variables).await;
        drop(ended);
        if tokio::time::timeout(DRAIN * 2, serving).await.is_err() {
            tracing::warn!("the local gateway did not end in time");
        }
        if let Err(error) = log.shutdown(DRAIN).await {
            tracing::warn!(%error, "the last decisions may not have been shown");
        }
        status
    }

    /// The resource directories: as given, or from the Gateway file.
    fn resource_directories(&self, configured: Option<&Gateway>) -> anyhow::Result<Vec<PathBuf>> {
        match configured {
            Some(gateway) if self.resources.is_empty() => gateway
                .resources
                .iter()
                .map(|source| match source {
                    ResourceSource::Directory(directory) => Ok(directory.clone()),
                    ResourceSource::Kubernetes(_) => anyhow::bail!(
                        "the gateway reads its resources from Kubernetes, which exec does not support; give a directory with --resources"
                    ),
                })
                .collect(),
            Some(_) | None => Ok(self.resources.clone()),
        }
    }

    fn subject(
        &self,
        resources: &[PathBuf],
        configured: Option<&Gateway>,
    ) -> anyhow::Result<Subject> {
        let loaded = load::resources(resources).map_err(|problems| unusable(&problems))?;
        found(&loaded)?;
        let issuers: &[_] = configured.map_or(&[], |gateway| &gateway.issuers);
        let clusters = issuers.iter().map(|issuer| issuer.name.as_str());
        let subject = subject::resolve(&self.subject, loaded.policies.workloads(), clusters)?;
        if let Some(nobody) = subject::nobody(&self.subject, &subject, &loaded.policies) {
            report::warning(&nobody)?;
        }
        Ok(subject)
    }

    fn decision_log(&self) -> anyhow::Result<DecisionLog> {
        let copy = self.decisions.as_deref().map(append_to).transpose()?;
        let printer = DecisionPrinter::new(io::stderr(), self.verbose, copy);
        Ok(DecisionLog::to_writer(Box::new(printer))?)
    }
}

/// A private directory, removed at the end.
fn private_directory() -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("countersign-exec-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("a private temporary directory cannot be created")
}

fn append_to(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    let file = options.open(path);
    file.with_context(|| format!("{} cannot be opened", path.display()))
}

/// Makes the CA that the gateway will use, and writes the files that the command must trust.
fn write_trust(private: &Path, clock: &Clock) -> anyhow::Result<TrustFiles> {
    let ca = Ca::open_or_create(&local::ca_directory(private), clock.clone(), 0)?;
    let write = |name: &str, contents: &[u8]| -> anyhow::Result<String> {
        let path = private.join(name);
        fs::write(&path, contents)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let path = path.into_os_string().into_string();
        path.map_err(|path| anyhow::anyhow!("{} is not UTF-8; set TMPDIR", path.display()))
    };
    Ok(TrustFiles {
        bundle: write("bundle.pem", ca.bundle_pem()?.as_bytes())?,
        root: write("root.pem", ca.root_pem().as_bytes())?,
        #[cfg(feature = "pkcs12")]
        trust_store: Some(write(
            "trust.p12",
            &trust_store::pkcs12(&ca, TRUST_STORE_PASSWORD)?,
        )?),
        #[cfg(not(feature = "pkcs12"))]
        trust_store: None,
    })
}

/// The command's environment variables. They include the token: the command is the workload.
fn variables(
    address: SocketAddr,
    token: &Secret,
    trust: &TrustFiles,
) -> Vec<(&'static str, String)> {
    let url = format!("http://token:{}@{address}", token.expose());
    let java = std::env::var("JAVA_TOOL_OPTIONS").ok();
    let mut variables = environment::proxy(&url, &[]);
    variables.extend(environment::trust(trust, java.as_deref()));
    variables
}
