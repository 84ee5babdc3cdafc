//! How well-known credentials look: the one table of it. The process log and the records
//! (`core::redact`) hide by it, and so do the findings about a file.

/// How tokens begin. What follows is the secret.
pub const TOKEN_PREFIXES: [&str; 23] = [
    // Slack: rotating tokens first, of which another prefix is a part.
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

/// So many characters must follow a prefix.
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

/// How a JWT begins: `{"` in base64url.
pub const JWT: &str = "eyJ";
