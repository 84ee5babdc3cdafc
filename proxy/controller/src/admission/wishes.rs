//! What a pod's annotations ask of injection, and its namespace's for all its pods.

use serde_json::Value;

use super::{
    names::{DISABLED, DUMMY_ENV, ENABLED, INJECT, KEEP_ENV, MODE, POSITION},
    outcome::Refusal,
    settings::{Mode, NamespaceFacts, Settings},
    variables::{self, Variables},
};

/// The most variables that one annotation may name.
const MOST_VARIABLES: usize = 64;

/// Where the relay stands among the init containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    /// Before all others.
    First,
    /// After all others.
    Last,
    /// After the one of this name.
    After(String),
}

/// What a pod wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    /// It wants to be left alone.
    pub(super) out: bool,
    /// Its mode.
    pub(super) mode: Mode,
    /// Why.
    pub(super) because: String,
    /// Variables with a value that only looks like a token.
    pub(super) dummies: Vec<(String, String)>,
    /// Variables that injection leaves alone.
    pub(super) kept: Vec<String>,
    /// Where the relay stands.
    pub(super) position: Position,
}

impl Wishes {
    /// Reads the annotations; `refusals` gets all that is wrong with them.
    pub(super) fn read(
        pod: &Value,
        namespace: &NamespaceFacts,
        settings: &Settings,
        refusals: &mut Vec<Refusal>,
    ) -> Self {
        let own = |name: &str| pod["metadata"]["annotations"][name].as_str();
        let inherited =
            |name: &str| own(name).or_else(|| namespace.annotations.get(name).map(String::as_str));
        let out = out(own(INJECT), refusals);
        let (mode, because) = mode(own(MODE), namespace, settings, refusals);
        let dummies = list(DUMMY_ENV, inherited(DUMMY_ENV), refusals);
        let kept = list(KEEP_ENV, own(KEEP_ENV), refusals);
        let all = Variables::of(settings);
        for name in &dummies {
            if all.sets(name) || kept.contains(name) {
                refusals.push(invalid(
                    DUMMY_ENV,
                    &format!(
                        "`{name}` is a variable that injection sets, or that {KEEP_ENV} keeps: remove it from this annotation"
                    ),
                ));
            }
        }
        let dummies = dummies.into_iter().map(|name| {
            let value = variables::dummy(&name).to_owned();
            (name, value)
        });
        Self {
            out,
            mode,
            because,
            dummies: dummies.collect(),
            kept,
            position: position(own(POSITION), refusals),
        }
    }
}

/// The field of an annotation in messages.
fn field(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

fn invalid(name: &str, message: &str) -> Refusal {
    Refusal::new("annotation_invalid", field(name), message)
}

fn shown(value: &str) -> String {
    let short: String = value.chars().take(64).collect();
    countersign_config::shown::escaped(&short).into_owned()
}

fn out(value: Option<&str>, refusals: &mut Vec<Refusal>) -> bool {
    match value {
        None | Some(ENABLED) => false,
        Some(DISABLED) => true,
        Some(other) => {
            let message = format!(
                "`{}` means nothing here: a pod may say `disabled`; the namespace's label says `enabled`",
                shown(other)
            );
            refusals.push(invalid(INJECT, &message));
            false
        }
    }
}

/// The pod's mode and why it has it. A mode that Pod Security forbids is refused here, where a remedy can be told.
fn mode(
    own: Option<&str>,
    namespace: &NamespaceFacts,
    settings: &Settings,
    refusals: &mut Vec<Refusal>,
) -> (Mode, String) {
    let strict = namespace.strict_pod_security();
    let of_namespace = namespace.annotations.get(MODE).map(String::as_str);
    let (text, whose) = match (own, of_namespace) {
        (Some(text), _) => (text, "the pod's"),
        (None, Some(text)) => (text, "the namespace's"),
        (None, None) => return default_mode(strict, settings),
    };
    let mode = match text {
        "proxy" => Mode::Proxy,
        "redirect" => Mode::Redirect,
        other => {
            let message = format!("`{}` is no mode: write proxy or redirect", shown(other));
            refusals.push(invalid(MODE, &message));
            return default_mode(strict, settings);
        }
    };
    if let (Mode::Redirect, Some(level)) = (mode, strict) {
        let message = format!(
            "the namespace enforces Pod Security `{level}`, which forbids the init container that redirects: \
             use the mode proxy, or run the pod in a namespace that enforces `privileged`"
        );
        refusals.push(Refusal::new("mode_forbidden", field(MODE), message));
    }
    (mode, format!("{whose} annotation {MODE} says so"))
}

fn default_mode(strict: Option<&str>, settings: &Settings) -> (Mode, String) {
    match (strict, settings.default_mode) {
        (Some(level), _) => (
            Mode::Proxy,
            format!(
                "the namespace enforces Pod Security {level}, which forbids the init container that redirects"
            ),
        ),
        (None, Some(mode)) => (mode, "it is the installation's default".to_owned()),
        (None, None) => (
            Mode::Redirect,
            "the namespace enforces neither Pod Security restricted nor baseline".to_owned(),
        ),
    }
}

/// The names in a list with commas.
fn list(annotation: &str, value: Option<&str>, refusals: &mut Vec<Refusal>) -> Vec<String> {
    let names: Vec<_> = value
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    if names.len() > MOST_VARIABLES {
        let message = format!("it names more than {MOST_VARIABLES} variables");
        refusals.push(invalid(annotation, &message));
        return Vec::new();
    }
    let usual = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if let Some(wrong) = names.iter().find(|name| !name.chars().all(usual)) {
        let message = format!(
            "`{}` is no name of a variable: write names with commas between them, without values",
            shown(wrong)
        );
        refusals.push(invalid(annotation, &message));
    }
    names
}

fn position(value: Option<&str>, refusals: &mut Vec<Refusal>) -> Position {
    match value {
        None | Some("first") => Position::First,
        Some("last") => Position::Last,
        Some(text) => {
            if let Some(name) = text.strip_prefix("after:").filter(|name| !name.is_empty()) {
                return Position::After(name.to_owned());
            }
            let message = format!(
                "`{}` is no position: write first, last, or after: and the name of an init container",
                shown(text)
            );
            refusals.push(invalid(POSITION, &message));
            Position::First
        }
    }
}
