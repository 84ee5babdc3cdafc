//! The environment of an app's container: what injection sets, merged with what is there.

use countersign_core::environment::{self, JAVA_OPTIONS, NO_PROXY_NAMES, TrustFiles};
use serde_json::{Value, json};

use super::{
    names::{BUNDLE_FILE, CA_PATH, OWN_PREFIX, ROOT_FILE, TRUST_STORE_FILE},
    settings::Settings,
};

/// What injection sets in each container of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variables {
    /// Variables whose value replaces one that is there, in the order in which they are added.
    pub(super) fixed: Vec<(String, String)>,
    /// The entries of `NO_PROXY`, which are added to those that are there.
    pub(super) no_proxy: Vec<String>,
    /// Java's options, which are added to those that are there.
    pub(super) java: String,
}

impl Variables {
    /// Those of every pod, without dummies.
    pub(super) fn of(settings: &Settings) -> Self {
        let port = settings.ports.http;
        let beside = settings.beside();
        let files = TrustFiles {
            bundle: format!("{CA_PATH}/{BUNDLE_FILE}"),
            root: format!("{CA_PATH}/{ROOT_FILE}"),
            trust_store: None,
        };
        let (no_proxy, proxy): (Vec<_>, Vec<_>) =
            environment::proxy(&format!("http://127.0.0.1:{port}"), &beside)
                .into_iter()
                .partition(|(name, _)| NO_PROXY_NAMES.contains(name));
        let fixed = proxy.into_iter().chain(environment::trust_files(&files));
        let no_proxy = no_proxy.first().map_or("", |(_, value)| value);
        let trust_store = environment::java_options(&format!("{CA_PATH}/{TRUST_STORE_FILE}"));
        Self {
            fixed: fixed
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            no_proxy: no_proxy.split(',').map(str::to_owned).collect(),
            java: format!(
                "{trust_store} {}",
                environment::java_proxy("127.0.0.1", port, &beside)
            ),
        }
    }

    /// Whether it is one of these.
    pub(super) fn sets(&self, name: &str) -> bool {
        let fixed = self.fixed.iter().any(|(fixed, _)| fixed == name);
        fixed || NO_PROXY_NAMES.contains(&name) || name == JAVA_OPTIONS
    }

    /// All names, in the order in which they are added, with the value for containers that have none of their own.
    pub(super) fn defaults(&self) -> Vec<(String, String)> {
        let merged = Self::merged(&[]).map(|name| (name.to_owned(), self.added(name, "")));
        self.fixed.iter().cloned().chain(merged).collect()
    }

    /// The same without variables that a pod keeps for itself, and with dummies.
    #[must_use]
    pub(super) fn with(mut self, kept: &[String], dummies: &[(String, String)]) -> Self {
        self.fixed.extend(dummies.iter().cloned());
        self.fixed.retain(|(name, _)| !kept.contains(name));
        self
    }

    /// Names that are merged rather than replaced, without those that a pod keeps.
    fn merged(kept: &[String]) -> impl Iterator<Item = &'static str> {
        let names = NO_PROXY_NAMES.into_iter().chain([JAVA_OPTIONS]);
        names.filter(|name| !kept.iter().any(|kept| kept == name))
    }

    /// The value of a merged variable, added to what is there.
    fn added(&self, name: &str, present: &str) -> String {
        if name == JAVA_OPTIONS {
            return match present.trim() {
                "" => self.java.clone(),
                present if present.contains(&self.java) => present.to_owned(),
                // Later options win.
                present => format!("{present} {}", self.java),
            };
        }
        let mut entries: Vec<_> = present
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .collect();
        for entry in &self.no_proxy {
            if !entries.contains(&entry.as_str()) {
                entries.push(entry);
            }
        }
        entries.join(",")
    }

    /// Sets all in a container. The names of variables of its own whose value was replaced are returned.
    ///
    /// A variable stays where it is, since `$(NAME)` in later ones refers to it. One that takes its value from
    /// elsewhere and is merged gets another name, and its old name refers to it.
    pub(super) fn set(&self, container: &mut Value, kept: &[String]) -> Vec<String> {
        let own = container["env"].as_array().cloned().unwrap_or_default();
        let merged: Vec<_> = Self::merged(kept).collect();
        let mut replaced = Vec::new();
        let mut sources = Vec::new();
        let mut env = Vec::with_capacity(own.len() + self.fixed.len() + merged.len());
        for entry in own {
            let name = entry["name"].as_str().unwrap_or_default().to_owned();
            if let Some((_, value)) = self.fixed.iter().find(|(fixed, _)| *fixed == name) {
                if entry["value"] != json!(value) {
                    replaced.push(name.clone());
                }
                env.push(json!({"name": name, "value": value}));
            } else if merged.contains(&name.as_str()) {
                let mut present = entry["value"].as_str().unwrap_or_default().to_owned();
                if !entry["valueFrom"].is_null() {
                    let renamed = format!("{OWN_PREFIX}{name}");
                    present = format!("$({renamed})");
                    let mut entry = entry;
                    entry["name"] = json!(renamed);
                    // A value can only refer to what is before it.
                    sources.push(entry);
                }
                env.push(json!({"name": name, "value": self.added(&name, &present)}));
            } else {
                env.push(entry);
            }
        }
        let has = |env: &[Value], name: &str| env.iter().any(|entry| entry["name"] == name);
        for (name, value) in &self.fixed {
            if !has(&env, name) {
                env.push(json!({"name": name, "value": value}));
            }
        }
        for name in merged {
            if !has(&env, name) {
                env.push(json!({"name": name, "value": self.added(name, "")}));
            }
        }
        sources.append(&mut env);
        container["env"] = Value::Array(sources);
        replaced
    }
}

/// What looks like a token of the API whose variable this is. SDKs refuse to start without one, and some look at
/// its form; the gateway puts the real one in its place.
pub(super) fn dummy(name: &str) -> &'static str {
    let name = name.to_ascii_uppercase();
    let has = |part| name.contains(part);
    if has("QASE") {
        "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"
    } else if has("SLACK") && has("APP") {
        "xapp-1-A0000000000-0000000000000-c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"
    } else if has("SLACK") && has("USER") {
        "xoxp-000000000000-000000000000-000000000000-countersigncountersigncountersi"
    } else if has("SLACK") {
        "xoxb-000000000000-0000000000000-countersigncountersign00"
    } else {
        "countersign-dummy"
    }
}
