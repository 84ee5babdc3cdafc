//! `countersign doctor`: is everything in place, for this installation, namespace, pod or job? Each line is a verdict
//! and a remedy. It changes nothing; a probe, if it is asked for, is a pod that it deletes again.

mod admission;
mod api;
mod cluster;
mod definitions;
mod gateways;
mod install;
mod namespace;
mod network;
mod objects;
mod report;
pub mod rights;
mod trust;

use countersign_core::clock::Clock;
use kube::Client;

use self::{api::Api, install::Installation};
pub use self::{
    api::Unread,
    namespace::TargetKind,
    report::{Finding, Report, Section, Verdict},
};

/// What is asked about.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The namespace of the gateways; found by itself if there is one.
    pub system_namespace: Option<String>,
    /// A namespace of pods.
    pub namespace: Option<String>,
    /// A pod, or what makes pods, in this namespace.
    pub target: Option<(TargetKind, String)>,
    /// Whether a pod is run that tries the network.
    pub probe: bool,
}

/// Looks at everything, in the order in which things depend on each other.
///
/// # Errors
/// When the API server does not answer at all: then nothing is known.
pub async fn examine(client: Client, question: &Question, clock: &Clock) -> Result<Report, Unread> {
    let api = Api::new(client);
    let version = api.path("/version").await?;
    let now = clock.now();
    // Whatever this machine's clock says, certificates are judged by the cluster's time.
    let server = version.date.unwrap_or(now);
    let mut report = Report::default();
    let mut cluster = vec![cluster::version(&version)];
    cluster.push(cluster::own_clock(server, now));
    cluster.extend(cluster::node_clocks(&api, server).await);
    report.add("Cluster", cluster);

    let (installation, findings) =
        Installation::find(&api, question.system_namespace.as_deref()).await;
    report.add("Installation", findings);
    report.add("Custom resources", definitions::check(&api).await);
    if !installation.gateway.is_null() || !installation.controller.is_null() {
        of_installation(&api, &installation, &mut report).await;
    }
    of_namespaces(&api, &installation, question, server, &mut report).await;
    Ok(report)
}

async fn of_installation(api: &Api, installation: &Installation, report: &mut Report) {
    let mut gateways = gateways::ready(api, installation).await;
    gateways.extend(gateways::issuer(api, installation).await);
    report.add("Gateways and controller", gateways);
    report.add("Rights", rights::check(api, installation).await);
}

async fn of_namespaces(
    api: &Api,
    installation: &Installation,
    question: &Question,
    now: jiff::Timestamp,
    report: &mut Report,
) {
    report.add("Injection", admission::check(api, installation, now).await);
    let opted_in = match &question.namespace {
        Some(namespace) => Ok(vec![namespace.clone()]),
        None => trust::opted_in(api).await,
    };
    let trust = match opted_in {
        Ok(namespaces) if namespaces.is_empty() => vec![Finding::warning(
            "opted_in",
            "no namespace has opted in, so no pod gets a relay",
            "kubectl label namespace NAME countersign.dev/inject=enabled",
        )],
        Ok(namespaces) => trust::check(api, installation, &namespaces, now).await,
        Err(why) => vec![Finding::unknown(
            "opted_in",
            "which namespaces have opted in",
            &why,
        )],
    };
    report.add("Trust", trust);
    let namespace = question.namespace.as_deref();
    let mut network = network::check(api, installation, namespace).await;
    if let Some(namespace) = namespace.filter(|_| question.probe) {
        network.extend(network::probe(api, installation, namespace).await);
    }
    report.add("Network", network);
    let Some(namespace) = namespace else { return };
    report.add(
        format!("Namespace {namespace}"),
        namespace::check(api, installation, namespace).await,
    );
    if let Some((kind, name)) = &question.target {
        report.add(
            format!("{name} in {namespace}"),
            namespace::target(api, namespace, *kind, name).await,
        );
    }
}
