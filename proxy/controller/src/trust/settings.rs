//! What an operator sets for trust: one file, which the chart writes.

use std::path::Path;

use countersign_config::{host::HostPattern, shown::escaped};
use countersign_pki::{Names, Subtree};
use jiff::SignedDuration;
use serde::Deserialize;

use crate::admission::Settings;

/// The word for every public name, in `intercepts`.
const EVERY: &str = "**";

/// The shortest and the longest life of what is signed for a gateway.
const SHORTEST: SignedDuration = SignedDuration::from_hours(1);
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Keys as they are written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    gateways: Vec<WrittenAccount>,
    root_secret: String,
    webhook_service: String,
    intermediate_life: String,
    serving_life: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WrittenAccount {
    service_account: String,
    namespace: String,
    serves: Vec<String>,
    intercepts: Vec<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            gateways: vec![WrittenAccount::default()],
            root_secret: String::new(),
            webhook_service: "countersign-controller".to_owned(),
            intermediate_life: "12h".to_owned(),
            serving_life: "24h".to_owned(),
        }
    }
}

/// The settings of trust.
#[derive(Debug, Clone)]
pub struct TrustSettings {
    /// Who may ask for certificates.
    pub gateways: Vec<GatewayAccount>,
    /// A Secret with the interception root, of an operator or of cert-manager; `None` makes one.
    pub root_secret: Option<String>,
    /// The Service by which the API server calls the webhook.
    pub webhook_service: String,
    /// How long an intermediate is valid, at most.
    pub intermediate_life: SignedDuration,
    /// How long a serving certificate is valid, at most; the webhook's own, too.
    pub serving_life: SignedDuration,
    /// The controller's namespace.
    pub namespace: String,
    /// The `ConfigMap` with the roots that apps trust.
    pub trust_config_map: String,
    /// The `ConfigMap` with the CA of the gateways' certificates.
    pub gateway_ca_config_map: String,
    /// The cluster's domain, whose names are never intercepted.
    pub cluster_domain: String,
}

/// A service account of gateways, and what it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The names of its serving certificates.
    pub serves: Vec<String>,
    /// The hosts that its intermediates may name; `None` is every public name.
    pub intercepts: Option<Vec<HostPattern>>,
}

/// Why settings cannot be used; one part for each mistake.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TrustSettingsError(String);

impl TrustSettings {
    /// Reads the file, YAML or JSON; what both need is in the settings of injection.
    ///
    /// # Errors
    /// When it cannot be read, has an unknown key, or a value that cannot be meant.
    pub fn read(file: &Path, injection: &Settings) -> Result<Self, TrustSettingsError> {
        let shown = file.display();
        let text = countersign_core::files::read_now(file).map_err(|error| {
            let reason = countersign_core::files::reason(&error);
            TrustSettingsError(format!("cannot read the settings in {shown}: {reason}"))
        })?;
        let text = String::from_utf8(text)
            .map_err(|_| TrustSettingsError(format!("the settings in {shown} are not UTF-8")))?;
        Self::parse(&text, injection)
            .map_err(|error| TrustSettingsError(format!("in {shown}: {error}")))
    }

    /// Reads the text of the file. An empty one has all defaults.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn parse(text: &str, injection: &Settings) -> Result<Self, TrustSettingsError> {
        let written = if text.trim().is_empty() {
            Written::default()
        } else {
            serde_saphyr::from_str(text)
                .map_err(|error| TrustSettingsError(escaped(&error.to_string()).into_owned()))?
        };
        let mut wrong = Vec::new();
        let settings = written.check(injection, &mut wrong);
        match settings {
            Some(settings) if wrong.is_empty() => Ok(settings),
            Some(_) | None => Err(TrustSettingsError(wrong.join("; "))),
        }
    }

    /// The gateways' account of this user of the API server, if it is one.
    pub fn account(&self, user: &str) -> Option<&GatewayAccount> {
        self.gateways.iter().find(|it| it.user() == user)
    }
}

impl Written {
    fn check(self, injection: &Settings, wrong: &mut Vec<String>) -> Option<TrustSettings> {
        let intermediate_life = life("intermediateLife", &self.intermediate_life, wrong);
        let serving_life = life("servingLife", &self.serving_life, wrong);
        if self.gateways.is_empty() {
            wrong.push("`gateways` is empty: no gateway could have a certificate".to_owned());
        }
        if self.webhook_service.trim().is_empty() {
            wrong.push("`webhookService` is empty".to_owned());
        }
        let gateways = self.gateways.into_iter();
        let gateways = gateways
            .map(|account| account.check(injection, wrong))
            .collect();
        Some(TrustSettings {
            gateways,
            root_secret: Some(self.root_secret).filter(|name| !name.is_empty()),
            webhook_service: self.webhook_service,
            intermediate_life: intermediate_life?,
            serving_life: serving_life?,
            namespace: injection.own_namespace.clone(),
            trust_config_map: injection.trust_config_map.clone(),
            gateway_ca_config_map: injection.gateway_ca_config_map.clone(),
            cluster_domain: injection.cluster_domain.clone(),
        })
    }
}

impl WrittenAccount {
    fn check(self, injection: &Settings, wrong: &mut Vec<String>) -> GatewayAccount {
        let or = |text: String, default: &str| {
            if text.is_empty() {
                default.to_owned()
            } else {
                text
            }
        };
        let mut patterns = Vec::new();
        for host in self.intercepts.iter().filter(|host| *host != EVERY) {
            match HostPattern::parse(host) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => wrong.push(format!("`intercepts`: `{}`: {error}", escaped(host))),
            }
        }
        let every = self.intercepts.is_empty() || self.intercepts.iter().any(|it| it == EVERY);
        let serves = if self.serves.is_empty() {
            let hosts = injection.gateways.iter();
            let hosts = hosts.filter_map(|gateway| gateway.rsplit_once(':'));
            hosts
                .map(|(host, _)| host.trim_matches(['[', ']']).to_ascii_lowercase())
                .collect()
        } else {
            self.serves
        };
        GatewayAccount {
            namespace: or(self.namespace, &injection.own_namespace),
            name: or(self.service_account, "countersign"),
            serves,
            intercepts: (!every).then_some(patterns),
        }
    }
}

fn life(key: &str, text: &str, wrong: &mut Vec<String>) -> Option<SignedDuration> {
    let parsed: Option<SignedDuration> = text.parse().ok();
    let fits = parsed.filter(|life| (SHORTEST..=LONGEST).contains(life));
    if fits.is_none() {
        wrong.push(format!(
            "`{key}` is `{}`: write a time from 1h to 168h, such as `12h`",
            escaped(text)
        ));
    }
    fits
}

impl GatewayAccount {
    /// The user that it is for the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// The first name that its serving certificate may not have.
    pub(super) fn refused_to_serve<'n>(&self, names: &'n Names) -> Option<&'n Subtree> {
        names
            .iter()
            .find(|name| !self.serves.contains(&shown(name)))
    }

    /// The first name that its intermediate may not issue for.
    pub(super) fn refused_to_intercept<'n>(
        &self,
        names: &'n Names,
        cluster_domain: &str,
    ) -> Option<&'n Subtree> {
        names.iter().find(|name| match &self.intercepts {
            None => !is_public(name, cluster_domain),
            Some(patterns) => !patterns.iter().any(|pattern| covers(pattern, name)),
        })
    }
}

/// A name as people write it.
pub(super) fn shown(name: &Subtree) -> String {
    match name {
        Subtree::Dns(name) => name.clone(),
        Subtree::Ip(ip) => ip.to_string(),
    }
}

/// Not a whole top-level domain, and not the cluster itself: nobody else serves these.
fn is_public(name: &Subtree, cluster_domain: &str) -> bool {
    match name {
        Subtree::Ip(ip) => !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast(),
        Subtree::Dns(name) => {
            let below = |domain: &str| {
                name == domain
                    || name
                        .strip_suffix(domain)
                        .is_some_and(|rest| rest.ends_with('.'))
            };
            name.contains('.') && !below("svc") && !below(cluster_domain) && !below("localhost")
        }
    }
}

/// Whether a pattern of the settings permits all that the name stands for.
fn covers(pattern: &HostPattern, name: &Subtree) -> bool {
    use countersign_config::host::Host;
    match (pattern.exact(), pattern.suffix(), name) {
        (Some(Host::Ip(permitted)), _, Subtree::Ip(ip)) => permitted == ip,
        // X.509 says `slack.com` for `slack.com` and for `wss*.slack.com`.
        (Some(Host::Name(permitted)), _, Subtree::Dns(name)) => permitted.as_str() == name,
        (None, Some(suffix), Subtree::Dns(name)) => {
            name == suffix
                || name
                    .strip_suffix(suffix)
                    .is_some_and(|rest| rest.ends_with('.'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn injection() -> Settings {
        Settings::parse("gateways: [\"countersign.countersign.svc:3128\"]").unwrap()
    }

    fn names(names: &[&str]) -> Names {
        let each = names.iter().map(|name| match name.parse() {
            Ok(ip) => Subtree::Ip(ip),
            Err(_) => Subtree::Dns((*name).to_owned()),
        });
        each.collect()
    }

    #[test]
    fn an_empty_file_has_the_defaults() {
        let settings = TrustSettings::parse("", &injection()).unwrap();
        let account = settings.account("system:serviceaccount:countersign:countersign");
        let account = account.unwrap();
        assert_eq!(account.serves, ["countersign.countersign.svc"]);
        assert_eq!(account.intercepts, None);
        assert_eq!(settings.intermediate_life, SignedDuration::from_hours(12));
        assert!(
            settings
                .account("system:serviceaccount:qa:countersign")
                .is_none()
        );
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = "{gateways: [], webhookService: '', intermediateLife: soon, servingLife: 1000h}";
        let error = TrustSettings::parse(text, &injection()).unwrap_err();
        for part in [
            "`gateways`",
            "`webhookService`",
            "`intermediateLife`",
            "`servingLife`",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
        let error = TrustSettings::parse("rootSecrets: a", &injection()).unwrap_err();
        assert!(error.to_string().contains("rootSecrets"), "{error}");
        let text = "gateways: [{intercepts: ['a..b']}]";
        let error = TrustSettings::parse(text, &injection()).unwrap_err();
        assert!(error.to_string().contains("a..b"), "{error}");
    }

    #[rstest]
    #[case::public(&["**"], "slack.com", true)]
    #[case::a_top_level_domain(&["**"], "com", false)]
    #[case::the_cluster(&["**"], "kubernetes.default.svc", false)]
    #[case::the_cluster_in_full(&["**"], "api.qa.svc.cluster.local", false)]
    #[case::what_ends_alike(&["**"], "notsvc.test", true)]
    #[case::everything(&["**"], "0.0.0.0", false)]
    #[case::named(&["slack.com"], "slack.com", true)]
    #[case::near(&["slack.com"], "notslack.com", false)]
    #[case::parent(&["api.qase.io"], "qase.io", false)]
    #[case::below_an_exact_name(&["slack.com"], "files.slack.com", false)]
    #[case::wildcard(&["*.slack.com"], "files.slack.com", true)]
    #[case::the_suffix_of_a_wildcard(&["wss*.slack.com"], "slack.com", true)]
    #[case::address(&["192.0.2.7"], "192.0.2.7", true)]
    #[case::another_address(&["192.0.2.7"], "192.0.2.8", false)]
    fn an_account_may_intercept_what_it_is_permitted(
        #[case] intercepts: &[&str],
        #[case] asked: &str,
        #[case] expected: bool,
    ) {
        let text = serde_json::json!({"gateways": [{"intercepts": intercepts}]}).to_string();
        let settings = TrustSettings::parse(&text, &injection()).unwrap();
        let asked = names(&[asked]);
        let refused = settings.gateways[0].refused_to_intercept(&asked, "cluster.local");
        assert_eq!(refused.is_none(), expected);
    }

    #[test]
    fn an_account_serves_exactly_its_names() {
        let settings = TrustSettings::parse("", &injection()).unwrap();
        let account = &settings.gateways[0];
        let refused = |name| account.refused_to_serve(&names(&[name])).is_some();
        assert!(!refused("countersign.countersign.svc"));
        assert!(refused("kubernetes.default.svc"));
        assert!(refused("a.countersign.countersign.svc"));
    }
}
