//! What an operator sets for injection: one file, which the chart writes.

use std::{collections::BTreeMap, fmt, path::Path};

use countersign_config::shown::escaped;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::names;

/// How a pod's connections come to its relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// By the proxy variables that its runtimes read.
    Proxy,
    /// By rules of the kernel, which an init container sets.
    Redirect,
}

impl Mode {
    /// Its name in annotations, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Redirect => "redirect",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The relay's ports in a pod; the first two are on loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ports {
    /// The HTTP proxy.
    pub http: u16,
    /// Where redirected connections arrive.
    pub redirected: u16,
    /// The kubelet's probes.
    pub health: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            http: 3128,
            redirected: 15001,
            health: 15021,
        }
    }
}

/// The settings of injection. Keys that are missing have the default that is given here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// The gateways, `host:port`, in the relay's order. At least one.
    pub gateways: Vec<String>,
    /// The relay's image.
    pub relay_image: String,
    /// The image of the init container that redirects.
    pub redirect_image: String,
    /// `imagePullPolicy` of both; empty is Kubernetes' default.
    pub image_pull_policy: String,
    /// The audience of the pod's token.
    pub audience: String,
    /// The relay's uid, which nothing else may have.
    pub relay_uid: u32,
    /// The relay's gid, which nothing else may have.
    pub relay_gid: u32,
    /// The relay's ports.
    pub ports: Ports,
    /// The `ConfigMap` with the roots that apps trust: `bundle.pem`, `root.pem`, `trust.p12`.
    pub trust_config_map: String,
    /// The `ConfigMap` with the CA of the gateways' certificates: `ca.crt`.
    pub gateway_ca_config_map: String,
    /// The namespace of the controller, whose pods are never injected.
    pub own_namespace: String,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// The ranges of the cluster's Services and pods, which pods reach directly.
    pub cluster_ranges: Vec<ipnet::IpNet>,
    /// The mode of pods that name none; without it, it follows the namespace's Pod Security.
    pub default_mode: Option<Mode>,
    /// The `resources` of the relay.
    pub relay_resources: Value,
    /// The `resources` of the init container that redirects.
    pub redirect_resources: Value,
}

impl Default for Settings {
    fn default() -> Self {
        let resources =
            json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}});
        Self {
            gateways: Vec::new(),
            relay_image: format!("countersign-relay:{}", env!("CARGO_PKG_VERSION")),
            redirect_image: format!("countersign-redirect:{}", env!("CARGO_PKG_VERSION")),
            image_pull_policy: String::new(),
            audience: "countersign".to_owned(),
            relay_uid: 1337,
            relay_gid: 1337,
            ports: Ports::default(),
            trust_config_map: names::CA_VOLUME.to_owned(),
            gateway_ca_config_map: names::GATEWAY_CA_VOLUME.to_owned(),
            own_namespace: "countersign".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_ranges: Vec::new(),
            default_mode: None,
            relay_resources: resources.clone(),
            redirect_resources: resources,
        }
    }
}

/// Why settings cannot be used; one line for each mistake.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

impl Settings {
    /// Reads the file, YAML or JSON.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or a value that cannot be meant.
    pub fn read(file: &Path) -> Result<Self, SettingsError> {
        let shown = file.display();
        let text = countersign_core::files::read_now(file).map_err(|error| {
            let reason = countersign_core::files::reason(&error);
            SettingsError(format!("cannot read the settings in {shown}: {reason}"))
        })?;
        let text = String::from_utf8(text)
            .map_err(|_| SettingsError(format!("the settings in {shown} are not UTF-8")))?;
        Self::parse(&text).map_err(|error| SettingsError(format!("in {shown}: {error}")))
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = serde_saphyr::from_str(text)
            .map_err(|error| SettingsError(escaped(&error.to_string()).into_owned()))?;
        settings.check().map(|()| settings)
    }

    /// All mistakes at once.
    fn check(&self) -> Result<(), SettingsError> {
        let mut wrong = Vec::new();
        if self.gateways.is_empty() {
            wrong.push("`gateways` is empty: name at least one gateway, as host:port".to_owned());
        }
        for gateway in &self.gateways {
            if let Err(error) = countersign_core::destination::Authority::with_port(gateway) {
                wrong.push(format!("`gateways`: `{}`: {error}", escaped(gateway)));
            }
        }
        let names = [
            ("relayImage", &self.relay_image),
            ("redirectImage", &self.redirect_image),
            ("audience", &self.audience),
            ("trustConfigMap", &self.trust_config_map),
            ("gatewayCaConfigMap", &self.gateway_ca_config_map),
            ("ownNamespace", &self.own_namespace),
            ("clusterDomain", &self.cluster_domain),
        ];
        let empty = names.iter().filter(|(_, value)| value.trim().is_empty());
        wrong.extend(empty.map(|(key, _)| format!("`{key}` is empty")));
        if self.relay_uid == 0 || self.relay_gid == 0 {
            wrong.push(
                "`relayUid` and `relayGid` must not be 0: every root would pass the redirection"
                    .to_owned(),
            );
        }
        let Ports {
            http,
            redirected,
            health,
        } = self.ports;
        if http == redirected
            || http == health
            || redirected == health
            || http.min(redirected).min(health) == 0
        {
            wrong.push("`ports` must be three different ports".to_owned());
        }
        if !["", "Always", "IfNotPresent", "Never"].contains(&self.image_pull_policy.as_str()) {
            wrong.push("`imagePullPolicy` is Always, IfNotPresent or Never".to_owned());
        }
        for (key, value) in [
            ("relayResources", &self.relay_resources),
            ("redirectResources", &self.redirect_resources),
        ] {
            let typed = serde_json::from_value::<k8s_openapi::api::core::v1::ResourceRequirements>(
                value.clone(),
            );
            if let Err(error) = typed {
                wrong.push(format!("`{key}` are no resources of a container: {error}"));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(SettingsError(wrong.join("; ")))
        }
    }

    /// Hosts that pods reach without the proxy, besides themselves: the cluster.
    pub fn beside(&self) -> Vec<String> {
        let mut beside = vec![".svc".to_owned(), format!(".{}", self.cluster_domain)];
        beside.extend(self.cluster_ranges.iter().map(ToString::to_string));
        beside
    }
}

/// What injection knows of a pod's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl NamespaceFacts {
    /// Whether its pods are injected.
    pub fn is_opted_in(&self) -> bool {
        self.has(names::INJECT, names::ENABLED)
    }

    /// Whether its pods may ask to be left alone.
    pub fn allows_opt_out(&self) -> bool {
        self.has(names::OPT_OUT, names::ALLOWED)
    }

    /// The level of Pod Security that it enforces, if it forbids the init container that redirects.
    pub fn strict_pod_security(&self) -> Option<&str> {
        let level = self.labels.get(names::POD_SECURITY).map(String::as_str);
        level.filter(|level| ["restricted", "baseline"].contains(level))
    }

    fn has(&self, label: &str, value: &str) -> bool {
        self.labels.get(label).is_some_and(|found| found == value)
    }
}
