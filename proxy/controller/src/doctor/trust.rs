//! The roots that opted-in namespaces have: there, valid, the same as everywhere, and how old.

use countersign_core::{certificate::Validity, clock::in_words};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    api::{Api, Resource, Unread},
    install::Installation,
    report::Finding,
};
use crate::admission::names::{BUNDLE_FILE, ENABLED, INJECT, ROOT_FILE};

const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

/// When the controller wrote a bundle.
const PUBLISHED: &str = "countersign.dev/published-at";

/// The file with the CA of the gateways' certificates.
const GATEWAY_CA: &str = "ca.crt";

/// The most namespaces that are looked into.
const LOOKED_INTO: usize = 50;

/// The opted-in namespaces, by name.
pub(super) async fn opted_in(api: &Api) -> Result<Vec<String>, Unread> {
    let found = api
        .list(NAMESPACES, "", &format!("{INJECT}={ENABLED}"))
        .await?;
    let names = found
        .iter()
        .filter_map(|it| it["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

pub(super) async fn check(
    api: &Api,
    installation: &Installation,
    namespaces: &[String],
    now: Timestamp,
) -> Vec<Finding> {
    let settings = &installation.settings;
    let mut findings = Vec::new();
    for (map, files, what) in [
        (
            &settings.trust_config_map,
            &[ROOT_FILE, BUNDLE_FILE][..],
            "apps trust",
        ),
        (
            &settings.gateway_ca_config_map,
            &[GATEWAY_CA][..],
            "relays trust gateways by",
        ),
    ] {
        let own = api.get(CONFIG_MAPS, &installation.namespace, map).await;
        let own = own.ok().flatten().unwrap_or_default();
        let mut fine = Fine::default();
        for namespace in namespaces.iter().take(LOOKED_INTO) {
            match api.get(CONFIG_MAPS, namespace, map).await {
                Ok(Some(found)) => match problem(&found, &own, files, now) {
                    None => fine.add(&found, files[0]),
                    Some(problem) => findings.push(Finding::failed(
                        "trust",
                        format!("the ConfigMap {namespace}/{map}, whose roots {what}, {problem}"),
                        remedy(installation),
                    )),
                },
                Ok(None) => findings.push(Finding::failed(
                    "trust",
                    format!("the ConfigMap {namespace}/{map}, whose roots {what}, is not there, so pods of {namespace} do not start"),
                    remedy(installation),
                )),
                Err(why) => findings.push(Finding::unknown(
                    "trust",
                    &format!("the ConfigMap {namespace}/{map}"),
                    &why,
                )),
            }
        }
        if fine.count > 0 {
            findings.insert(0, fine.finding(map, now));
        }
    }
    if namespaces.len() > LOOKED_INTO {
        findings.push(Finding::warning(
            "trust",
            format!(
                "only {LOOKED_INTO} of {} opted-in namespaces were looked into",
                namespaces.len()
            ),
            "ask about another one with -n",
        ));
    }
    findings
}

fn remedy(installation: &Installation) -> String {
    format!(
        "the controller writes it: kubectl logs -n {} -l app.kubernetes.io/component=controller",
        installation.namespace
    )
}

/// What is wrong with a bundle. `own` is the one of the installation's namespace, null if it has none.
fn problem(found: &Value, own: &Value, files: &[&str], now: Timestamp) -> Option<String> {
    for file in files {
        let text = found["data"][*file].as_str();
        let Some(text) = text else {
            return Some(format!("has no {file}"));
        };
        let Some(validity) = Validity::of_roots(text.as_bytes()) else {
            return Some(format!("has no certificate in {file}"));
        };
        if !validity.standing(now).is_valid() {
            return Some(format!(
                "has a root in {file} that {}",
                validity.sentence(now)
            ));
        }
        let ours = own["data"][*file].as_str();
        if ours.is_some_and(|ours| ours != text) {
            return Some(format!(
                "has another {file} than the one in force, so what gateways show is not trusted"
            ));
        }
    }
    None
}

#[derive(Default)]
struct Fine {
    count: usize,
    ends: Option<Validity>,
    oldest: Option<Timestamp>,
}

impl Fine {
    fn add(&mut self, found: &Value, file: &str) {
        self.count += 1;
        let text = found["data"][file].as_str().unwrap_or_default();
        let validity = Validity::of_roots(text.as_bytes());
        if let Some(validity) = validity
            && self
                .ends
                .is_none_or(|ends| validity.not_after < ends.not_after)
        {
            self.ends = Some(validity);
        }
        let metadata = &found["metadata"];
        let written = metadata["annotations"][PUBLISHED].as_str();
        let written = written.or_else(|| metadata["creationTimestamp"].as_str());
        if let Some(written) = written.and_then(|it| it.parse::<Timestamp>().ok())
            && self.oldest.is_none_or(|oldest| written < oldest)
        {
            self.oldest = Some(written);
        }
    }

    fn finding(&self, map: &str, now: Timestamp) -> Finding {
        let namespaces = match self.count {
            1 => "1 namespace".to_owned(),
            more => format!("{more} namespaces"),
        };
        let age = self.oldest.and_then(|oldest| {
            // A clock that is behind has nothing to do with it.
            let age = now.duration_since(oldest).max(SignedDuration::ZERO);
            let age = std::time::Duration::try_from(age).ok()?;
            Some(format!(", written {} ago", in_words(age)))
        });
        let root = self.ends.map(|ends| ends.sentence(now)).unwrap_or_default();
        let text = format!(
            "{map} is in {namespaces}{}; its root {root}",
            age.unwrap_or_default()
        );
        let soon = self
            .ends
            .is_some_and(|it| it.standing(now).as_str() == "ends_soon");
        if soon {
            Finding::warning("trust", text, "countersign ca rotate")
        } else {
            Finding::fine("trust", text)
        }
    }
}
