//! The cluster of whoever types a command.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// A client for the cluster of a kubeconfig's current context.
pub(super) async fn client_of(file: &Path) -> anyhow::Result<Client> {
    let named = ClusterArgs {
        kubeconfig: Some(file.to_owned()),
        context: None,
    };
    named.client().await
}

/// Which cluster.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// The kubeconfig. Default: as kubectl, and in a pod its own service account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl ClusterArgs {
    /// A client for it.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let config = self.config().await?;
        countersign_controller::connect(config)
            .map_err(|_| anyhow::anyhow!("the kubeconfig's credentials or roots cannot be used"))
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
