//! `countersign ca rotate`: the four steps by which another root takes the place of one in a cluster. The controller
//! takes them, and keeps how far it is; here they are only asked for.

use std::{io::Write, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use countersign_config::shown::escaped;
use countersign_controller::trust::{
    Asked, AuthorityName, Position, PublicState, Step,
    names::{ROTATE, STATE_CONFIG_MAP, STATE_KEY},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use tokio::time::{Instant, sleep};

use crate::{cluster::ClusterArgs, output};

/// How often it looks whether the controller has answered, and how long it waits for that.
const LOOK: Duration = Duration::from_millis(250);
const ANSWERED_WITHIN: Duration = Duration::from_secs(90);

/// How long it waits before it asks again for a step whose check does not pass yet.
const AGAIN: Duration = Duration::from_secs(5);

/// Rotates the root of a cluster in four steps, each checked before the next: add, distribute, reissue, remove. Without
/// a step it shows how far the rotation is. Whatever stops, the same command goes on
#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The step to take; `all` takes those that are left
    #[arg(value_enum)]
    step: Option<Steps>,
    /// Whose root
    #[arg(long, value_enum, default_value_t = Whose::Interception)]
    ca: Whose,
    /// The controller's namespace
    #[arg(long, value_name = "NAME", default_value = "countersign")]
    namespace: String,
    /// Reissue although pods run that trust the old root alone: their requests fail until they restart
    #[arg(long)]
    force: bool,
    /// How long to wait for the check of a step to pass, such as `90m`. Default: it is made once
    #[arg(long, value_name = "TIME", value_parser = wait, default_value = "0s")]
    wait: Duration,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Steps {
    /// Make a second root
    Add,
    /// Check that both roots are published everywhere
    Distribute,
    /// Let the new root sign, once no pod trusts the old one alone
    Reissue,
    /// Distrust the old root, once no gateway shows a certificate below it
    Remove,
    /// All that are left
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// The root that apps trust
    Interception,
    /// The root that relays and the API server trust
    Gateways,
}

impl Whose {
    const fn name(self) -> AuthorityName {
        match self {
            Self::Interception => AuthorityName::Interception,
            Self::Gateways => AuthorityName::Gateways,
        }
    }
}

impl Rotate {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        runtime.block_on(self.rotate())
    }

    async fn rotate(self) -> anyhow::Result<ExitCode> {
        let api: Api<ConfigMap> = Api::namespaced(self.cluster.client().await?, &self.namespace);
        let mut out = output::stdout();
        let state = self.state(&api).await?;
        let steps = match self.step {
            None => {
                self.show(&state, &mut out)?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(Steps::All) => left(self.position(&state)),
            Some(Steps::Add) => vec![Step::Add],
            Some(Steps::Distribute) => vec![Step::Distribute],
            Some(Steps::Reissue) => vec![Step::Reissue],
            Some(Steps::Remove) => vec![Step::Remove],
        };
        for step in steps {
            let (done, told) = self.until_done(&api, step).await?;
            let word = if done { "done" } else { "not done" };
            writeln!(out, "{:<10} {word}: {}", step.as_str(), escaped(&told))?;
            out.flush()?;
            if !done {
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn position(&self, state: &PublicState) -> Position {
        let public = state.authorities.get(self.ca.name().as_str());
        public.map(|public| public.position).unwrap_or_default()
    }

    fn show(&self, state: &PublicState, out: &mut impl Write) -> anyhow::Result<()> {
        let name = self.ca.name();
        let public = state.authorities.get(name.as_str());
        let public = public.context("the controller has not written its state yet")?;
        writeln!(out, "signs      {}", escaped(&public.signs))?;
        writeln!(out, "until      {:.0}", public.ends)?;
        for trusted in public.trusted.iter().skip(1) {
            writeln!(out, "trusted    {}", escaped(trusted))?;
        }
        let old = public.holders.values().filter(|it| it.root != public.signs);
        writeln!(
            out,
            "gateways   {} have a certificate, {} of them below another root",
            public.holders.len(),
            old.count()
        )?;
        let position = public.position;
        writeln!(out, "rotation   {}", position.sentence())?;
        writeln!(
            out,
            "next       countersign ca rotate {} --ca {name}",
            position.next().as_str()
        )?;
        Ok(())
    }

    /// Asks until the step is done, or the time is over.
    async fn until_done(&self, api: &Api<ConfigMap>, step: Step) -> anyhow::Result<(bool, String)> {
        let end = Instant::now() + self.wait;
        loop {
            let (done, told) = self.ask(api, step).await?;
            if done || Instant::now() + AGAIN > end {
                return Ok((done, told));
            }
            sleep(AGAIN).await;
        }
    }

    /// Asks the controller for one step, and waits for its answer.
    async fn ask(&self, api: &Api<ConfigMap>, step: Step) -> anyhow::Result<(bool, String)> {
        let asked = Asked {
            authority: self.ca.name(),
            step,
            force: self.force,
            id: uuid::Uuid::new_v4().simple().to_string(),
        };
        let patch = serde_json::json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"annotations": {ROTATE: asked.to_annotation()}},
        });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&patch));
        let patched = api.patch(STATE_CONFIG_MAP, &params, &patch).await;
        patched.map_err(|error| self.explained(&error))?;
        let end = Instant::now() + ANSWERED_WITHIN;
        while Instant::now() < end {
            let state = self.state(api).await?;
            if let Some(answer) = state.answer.filter(|answer| answer.id == asked.id) {
                return Ok((answer.done, answer.told));
            }
            sleep(LOOK).await;
        }
        bail!(
            "the controller did not answer within {} s: is it running, with --trust, and does one lead? The step may still be taken: ask again",
            ANSWERED_WITHIN.as_secs()
        )
    }

    async fn state(&self, api: &Api<ConfigMap>) -> anyhow::Result<PublicState> {
        let found = api.get(STATE_CONFIG_MAP).await;
        let found = found.map_err(|error| self.explained(&error))?;
        let text = found.data.and_then(|mut data| data.remove(STATE_KEY));
        let text = text.context("the controller has not written its state yet")?;
        serde_json::from_str(&text).context("the controller's state cannot be read")
    }

    fn explained(&self, error: &kube::Error) -> anyhow::Error {
        let place = format!(
            "the ConfigMap {STATE_CONFIG_MAP} in the namespace {}",
            self.namespace
        );
        match error {
            kube::Error::Api(status) if status.code == 404 => anyhow::anyhow!(
                "there is no {}: is that the controller's namespace (--namespace), and does it run with --trust?",
                place.trim_start_matches("the ")
            ),
            kube::Error::Api(status) if status.code == 403 => {
                anyhow::anyhow!("{place} cannot be used: a role must grant you to get and patch it")
            }
            kube::Error::Api(status) => {
                anyhow::anyhow!(
                    "{place} cannot be used: the API server answers {}",
                    status.code
                )
            }
            _ => anyhow::anyhow!("the API server cannot be reached"),
        }
    }
}

/// The steps of a rotation that are left; all, if there is none.
fn left(position: Position) -> Vec<Step> {
    let next = position.next();
    Step::ALL.into_iter().filter(|step| *step >= next).collect()
}

fn wait(text: &str) -> anyhow::Result<Duration> {
    let parsed: jiff::SignedDuration = text.parse()?;
    Ok(Duration::try_from(parsed)?)
}
