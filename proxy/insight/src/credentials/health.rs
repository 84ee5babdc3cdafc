//! How each credential stands, from the answer of a gateway's `/credentials`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// How a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It cannot be used.
    Failed,
    /// It is used, and something about it needs a look.
    Doubtful,
    /// Nothing is wrong.
    Good,
    /// Nobody has asked for it yet, or for long.
    Unused,
}

impl Standing {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Failed => "failing",
            Self::Doubtful => "needs a look",
            Self::Good => "good",
            Self::Unused => "not in use",
        }
    }
}

/// One credential, or one caller's value of it; never the value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Health {
    /// `NAMESPACE/NAME`.
    pub name: String,
    /// How it is obtained.
    pub provider: String,
    /// Where its secrets are kept, and who issues it.
    pub sources: Vec<String>,
    /// Whose value it is, if each caller has its own.
    pub caller: Option<String>,
    /// `unused`, `good`, `stale`, `failed` or `idle`.
    pub state: String,
    /// Counts the values since the gateway started.
    pub generation: Option<u64>,
    /// Seconds since the value was obtained.
    pub age_s: Option<u64>,
    /// Seconds until it expires.
    pub expires_in_s: Option<u64>,
    /// Seconds since a request last asked for it.
    pub last_use_s: Option<u64>,
    /// Why its source failed last, or that the API rejects it.
    pub last_error: Option<String>,
    /// Seconds since then.
    pub last_error_s: Option<u64>,
    /// A setting of its resource that has no effect.
    pub unheeded: Option<String>,
    #[serde(rename = "health")]
    at_its_api: Option<AtItsApi>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct AtItsApi {
    rejected: Option<String>,
    held_back: BTreeMap<String, String>,
    not_probed: Option<String>,
    probe: Option<Probe>,
    scopes: Option<Scopes>,
    limited: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Probe {
    finding: String,
    #[serde(default)]
    detail: Option<String>,
    at: Timestamp,
    #[serde(default)]
    outdated: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Scopes {
    granted: Vec<String>,
    unused: Vec<String>,
    lacking: Vec<String>,
}

impl Health {
    /// All credentials of a gateway's answer, the worst first; what cannot be read or has no name is left out.
    pub fn read(answer: &Value) -> Vec<Self> {
        let all = answer["credentials"].as_array().into_iter().flatten();
        let read = all.filter_map(|one| Self::deserialize(one).ok());
        let mut all: Vec<Self> = read.filter(|one| !one.name.is_empty()).collect();
        all.sort_by(|one, other| {
            let key = |one: &Self| (one.standing(), one.name.clone(), one.caller.clone());
            key(one).cmp(&key(other))
        });
        all
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let lacks = self
            .scopes()
            .is_some_and(|scopes| !scopes.lacking.is_empty());
        match self.state.as_str() {
            "failed" => Standing::Failed,
            "stale" => Standing::Doubtful,
            _ if lacks || self.unheeded.is_some() || self.is_held_back() => Standing::Doubtful,
            "unused" | "idle" => Standing::Unused,
            _ => Standing::Good,
        }
    }

    /// What is known of it, a sentence for each fact; the most urgent first.
    pub fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        if let Some(error) = &self.last_error {
            let ago = self
                .last_error_s
                .map(|ago| format!(" ({} ago)", length(ago)));
            facts.push(format!("{error}{}", ago.unwrap_or_default()));
        }
        facts.extend(self.unheeded.clone());
        let Some(health) = &self.at_its_api else {
            return facts;
        };
        facts.extend(health.rejected.clone());
        let held_back = health.held_back.iter();
        facts.extend(held_back.map(|(whose, why)| format!("{whose}: {why}")));
        if let Some(scopes) = self.scopes() {
            let mut tell = |what: &str, scopes: &[String]| {
                if !scopes.is_empty() {
                    facts.push(format!("{what} {}", scopes.join(", ")));
                }
            };
            tell("lacks the scope", &scopes.lacking);
            tell("has the scopes", &scopes.granted);
            tell("never needed", &scopes.unused);
        }
        for (what, seconds) in &health.limited {
            let what = if what.is_empty() { "all" } else { what };
            facts.push(format!("rate limit of {what} for {}", length(*seconds)));
        }
        if let Some(probe) = &health.probe {
            let detail = probe.detail.as_ref().map(|detail| format!(" ({detail})"));
            let later = if probe.outdated {
                "; rejected since then"
            } else {
                ""
            };
            facts.push(format!(
                "probed at {}: {}{}{later}",
                probe.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
                probe.finding,
                detail.unwrap_or_default()
            ));
        }
        let not_probed = health.not_probed.as_ref();
        facts.extend(not_probed.map(|why| format!("not probed: {why}")));
        facts
    }

    fn scopes(&self) -> Option<&Scopes> {
        self.at_its_api.as_ref()?.scopes.as_ref()
    }

    fn is_held_back(&self) -> bool {
        let health = self.at_its_api.as_ref();
        health.is_some_and(|health| !health.held_back.is_empty())
    }
}

/// `59 s`, `3 min`, `2 h 5 min`, `3 d 4 h`.
pub fn length(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_worst_comes_first_and_says_why() {
        let answer = json!({"omitted": 0, "credentials": [
            {"name": "qa/good", "provider": "static", "state": "good", "health": null},
            {"name": "qa/unused", "provider": "static", "state": "unused"},
            {"name": "qa/lacks", "provider": "static", "state": "good", "health": {
                "scopes": {"granted": ["channels:read"], "unused": [], "lacking": ["chat:write"]},
                "limited": {"": 7_500}}},
            {"name": "qa/dead", "provider": "slackRotation", "state": "failed",
             "last_error": "the refresh token is spent", "last_error_s": 61},
            {"no": "credential"},
        ]});
        let all = Health::read(&answer);
        let standings: Vec<_> = all.iter().map(|one| (&*one.name, one.standing())).collect();
        assert_eq!(
            standings,
            [
                ("qa/dead", Standing::Failed),
                ("qa/lacks", Standing::Doubtful),
                ("qa/good", Standing::Good),
                ("qa/unused", Standing::Unused),
            ]
        );
        assert_eq!(all[0].facts(), ["the refresh token is spent (1 min ago)"]);
        assert_eq!(
            all[1].facts(),
            [
                "lacks the scope chat:write",
                "has the scopes channels:read",
                "rate limit of all for 2 h 5 min"
            ]
        );
    }
}
