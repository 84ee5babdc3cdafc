//! The forms of well-known credentials, in one table. The process log and the records (`core::redact`)
//! use it to hide credentials, and so do the findings about a file.

/// The prefixes of tokens. The text after a prefix is the secret.
pub const TOKEN_PREFIXES: [&str; 23] = [
    // Slack: rotating tokens first, because they contain another prefix.
    "xoxe.xox",
    "xoxa-",
    "xoxb-",
    "xoxc-",
    "xoxd-",
    "xoxe-",
    "xoxo-",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "xwfp-",
    // GitHub.
    "github_pat_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    // GitLab, Vault, AWS.
    "glpat-",
    "hvs.",
    "hvb.",
    "hvr.",
    "AKIA",
];

/// The least number of characters after a prefix.
pub const LEAST_AFTER_PREFIX: usize = 8;

/// Slack's webhooks: the rest of the path is the secret.
pub const WEBHOOKS: [&str; 6] = [
    "hooks.slack.com/services/",
    "hooks.slack.com/workflows/",
    "hooks.slack.com/triggers/",
    "hooks.slack-gov.com/services/",
    "hooks.slack-gov.com/workflows/",
    "hooks.slack-gov.com/triggers/",
];

/// The beginning of a JWT: `{"` in base64url.
pub const JWT: &str = "eyJ";
