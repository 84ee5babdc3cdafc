//! `countersign doctor`: is everything in place?

use std::{
    collections::BTreeMap, fs, io::Write as _, net::ToSocketAddrs as _, path::PathBuf,
    process::ExitCode, time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use countersign_controller::doctor::{Question, TargetKind, Verdict, examine};
use countersign_core::{clock::Clock, destination::Authority};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{
    answer::{self, Format},
    output,
};

/// How long a place may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the kubelet reads a container's last words.
const LAST_WORDS: &str = "/dev/termination-log";

/// Looks at an installation, a namespace, a pod or a job: each line is a verdict and a remedy. Runs from an operator's
/// laptop with the kubeconfig that kubectl uses, or in the cluster. Exit code 0 if all works, 1 if something does not
/// or could not be looked at, 2 if the API server does not answer.
#[derive(Debug, Args)]
pub(super) struct DoctorCommand {
    /// A pod or what makes pods: `pod/NAME`, `job/NAME`, `cronjob/NAME`, `deployment/NAME`, `statefulset/NAME`,
    /// `daemonset/NAME`.
    #[arg(value_name = "KIND/NAME", value_parser = target, requires = "namespace")]
    target: Option<(TargetKind, String)>,
    /// The namespace whose pods are looked at.
    #[arg(short, long, value_name = "NAME", value_parser = name)]
    namespace: Option<String>,
    /// The namespace of the gateways. Default: found by itself.
    #[arg(long, value_name = "NAME", value_parser = name)]
    system_namespace: Option<String>,
    /// Run a pod in the namespace that tries which ways are open, and delete it again.
    #[arg(long, requires = "namespace")]
    probe: bool,
    /// The kubeconfig. Default: as kubectl, and in a pod its own service account.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Exit with 1 on warnings as well.
    #[arg(long)]
    strict: bool,
    /// The format of the output.
    #[arg(short, long, value_parser = answer::formats(&[]), default_value = "table")]
    output: Format,
    /// In the probe's pod: connect to these, and tell which can be reached.
    #[arg(long, value_name = "HOST:PORT", hide = true)]
    reach: Vec<String>,
}

impl DoctorCommand {
    pub(super) fn run(self) -> ExitCode {
        answer::or_failure(if self.reach.is_empty() {
            self.examine()
        } else {
            reach(&self.reach)
        })
    }

    fn examine(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let question = Question {
            system_namespace: self.system_namespace.clone(),
            namespace: self.namespace.clone(),
            target: self.target.clone(),
            probe: self.probe,
        };
        let report = runtime.block_on(async {
            let config = self.config().await?;
            let client = countersign_controller::connect(config).map_err(|_| {
                anyhow::anyhow!("the kubeconfig's credentials or roots cannot be used")
            })?;
            let report = examine(client, &question, &Clock::system()).await;
            report.map_err(|why| anyhow::anyhow!("{why}; {}", why.remedy()))
        })?;
        answer::print(
            self.output,
            || report.text(),
            || report.markdown(),
            || report.json(),
        )?;
        let warned = self.strict && report.count(Verdict::Warning) > 0;
        Ok(answer::findings(report.has_findings() || warned))
    }

    /// The kubeconfig that is named, or that of kubectl, or the pod's service account.
    async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let kubeconfig = match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file)
                .with_context(|| format!("cannot read the kubeconfig {}", file.display()))?,
            None => match (Kubeconfig::read(), Config::incluster()) {
                (Ok(kubeconfig), _) => kubeconfig,
                (Err(_), Ok(config)) if self.context.is_none() => return Ok(config),
                (Err(error), _) => {
                    return Err(error).context(
                        "there is no kubeconfig, and this is not a pod: name one with --kubeconfig or KUBECONFIG",
                    );
                }
            },
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        config.context("the kubeconfig's context cannot be used")
    }
}

/// A name as Kubernetes has it; it becomes part of a URL.
fn name(text: &str) -> anyhow::Result<String> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if text.is_empty() || text.len() > 253 || !text.bytes().all(allowed) || text.starts_with('.') {
        bail!("this is no name of an object: lower-case letters, digits, `-` and `.`");
    }
    Ok(text.to_owned())
}

fn target(text: &str) -> anyhow::Result<(TargetKind, String)> {
    let parts = text.split_once('/');
    let found = parts.and_then(|(kind, name)| Some((TargetKind::parse(kind)?, name)));
    let (kind, found) = found.context("write KIND/NAME, such as cronjob/nightly-dashboard")?;
    Ok((kind, name(found)?))
}

/// Tries each place, and tells the kubelet and whoever reads the log which answered.
fn reach(places: &[String]) -> anyhow::Result<ExitCode> {
    let mut reached = BTreeMap::new();
    for place in places {
        Authority::with_port(place).with_context(|| format!("{place} is not HOST:PORT"))?;
        let addresses = place.to_socket_addrs();
        let answers = addresses
            .into_iter()
            .flatten()
            .any(|address| std::net::TcpStream::connect_timeout(&address, CONNECT).is_ok());
        reached.insert(place, answers);
    }
    let told = serde_json::to_string(&reached)?;
    // Outside of a pod there is no such file.
    drop(
        fs::OpenOptions::new()
            .write(true)
            .open(LAST_WORDS)
            .and_then(|mut file| file.write_all(told.as_bytes())),
    );
    writeln!(output::stdout(), "{told}")?;
    Ok(ExitCode::SUCCESS)
}
