//! What the API server itself refuses: bounds, and rules in CEL.
//!
//! A rule says at once what the reader would find later. The API server estimates the cost of each before it
//! accepts a definition, and takes a list or a text without a bound for as long as a request can be (3 MiB). So
//! what is within a list is bounded here, with room for more than anybody writes.

use countersign_config::resource::Kind;
use serde_json::{Value, json};

/// A rule of a type, wherever it is used.
struct Rule {
    /// The name of the Rust type.
    of: &'static str,
    cel: &'static str,
    message: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        of: "SelectorSpec",
        cel: "has(self.serviceAccount) || has(self.spiffeId)",
        message: "this entry has no identity that can be proven; add serviceAccount or spiffeId",
    },
    Rule {
        of: "AccessPolicySpec",
        cel: "!(has(self.credential) && has(self.credentials))",
        message: "credential and credentials cannot be used together; keep credentials, with one entry per slot",
    },
    Rule {
        of: "CredentialSpec",
        cel: "[has(self.static), has(self.basic), has(self.slackRotation), has(self.oauth2ClientCredentials), has(self.tokenExchange), has(self.jwt)].exists_one(given, given)",
        message: "a credential is obtained in exactly one way; give one of static, basic, slackRotation, oauth2ClientCredentials, tokenExchange or jwt",
    },
    Rule {
        of: "SecretReference",
        cel: "[has(self.file), has(self.kubernetesSecret), has(self.vault), has(self.exec)].exists_one(given, given)",
        message: "a secret is in exactly one place; give one of file, kubernetesSecret, vault or exec",
    },
    Rule {
        of: "SlackRotationSpec",
        cel: "has(self.refreshToken) != has(self.longLivedToken)",
        message: "rotation starts with exactly one token; give refreshToken, or longLivedToken for a token that does not rotate yet",
    },
    Rule {
        of: "OauthClientSpec",
        cel: "has(self.secret) != has(self.key)",
        message: "a client authenticates in exactly one way; give secret or key",
    },
    Rule {
        of: "JwtSpec",
        cel: "!(has(self.grant) && has(self.installation))",
        message: "a minted token can be exchanged at only one place; keep one of grant and installation",
    },
    Rule {
        of: "TargetServiceSpec",
        cel: "has(self.extends) || (has(self.hosts) && self.hosts.size() > 0)",
        message: "the target has no hosts; add hosts, or name a target of the catalog with extends",
    },
    Rule {
        of: "TargetServiceSpec",
        cel: "has(self.extends) || !has(self.domains)",
        message: "domains needs a target to extend; name it with extends",
    },
    Rule {
        of: "RouteSpec",
        cel: "!(has(self.deny) && has(self.attach))",
        message: "a route cannot both deny and attach",
    },
    Rule {
        of: "AttachSpec",
        cel: "[has(self.header), has(self.query), has(self.path)].exists_one(given, given) && !(has(self.path) && has(self.value))",
        message: "a credential goes to exactly one place; give header and value, or query and value, or path alone",
    },
    Rule {
        of: "ProbeSpec",
        cel: "has(self.url) != has(self.path)",
        message: "a probe goes to one place; give one of url and path",
    },
];

/// A bound of one value of a kind, by its path from `spec`; `[]` is each entry of a list.
type Bound = (Kind, &'static [&'static str], &'static str, u64);

const BOUNDS: &[Bound] = &[
    (Kind::Workload, &["owner"], "minLength", 1),
    (Kind::Workload, &["match"], "minItems", 1),
    (Kind::Workload, &["match"], "maxItems", 1_000),
    (Kind::AccessPolicy, &["owner"], "minLength", 1),
    (Kind::AccessPolicy, &["workloads"], "minItems", 1),
    (Kind::AccessPolicy, &["allow"], "minItems", 1),
    (Kind::Credential, &["allowedNamespaces"], "minItems", 1),
    // The bounds of the reader.
    (Kind::TargetService, &["hosts"], "maxItems", 1_024),
    (Kind::TargetService, &["ports"], "minItems", 1),
    (Kind::TargetService, &["ports"], "maxItems", 256),
    (Kind::TargetService, &["ports", "[]"], "minimum", 1),
    (Kind::TargetService, &["slots", "names"], "maxItems", 256),
    (Kind::TargetService, &["routes"], "maxItems", 1_000),
];

/// Adds the rules of a type to its schema.
pub(super) fn of_type(name: &str, schema: &mut Value) {
    let rules: Vec<Value> = RULES
        .iter()
        .filter(|rule| rule.of == name)
        .map(|rule| json!({ "rule": rule.cel, "message": rule.message }))
        .collect();
    if !rules.is_empty() {
        schema["x-kubernetes-validations"] = Value::Array(rules);
    }
}

/// Adds the bounds of a kind to the schema of its spec.
pub(super) fn bound(kind: Kind, spec: &mut Value) {
    for (_, path, keyword, value) in BOUNDS.iter().filter(|(of, ..)| *of == kind) {
        let bounded = path
            .iter()
            .try_fold(&mut *spec, |schema, step| match *step {
                "[]" => schema.get_mut("items"),
                key => schema.get_mut("properties")?.get_mut(key),
            });
        if let Some(Value::Object(bounded)) = bounded {
            bounded.insert((*keyword).to_owned(), json!(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd;

    /// The value at a path of [`BOUNDS`].
    fn at<'s>(spec: &'s Value, path: &[&str]) -> &'s Value {
        path.iter().fold(spec, |schema, step| match *step {
            "[]" => &schema["items"],
            key => &schema["properties"][key],
        })
    }

    #[test]
    fn every_bound_and_every_rule_is_in_a_definition() {
        let mut text = String::new();
        for (kind, path, keyword, value) in BOUNDS {
            let definition = crd::definition(*kind).unwrap();
            text.push_str(&definition.to_string());
            let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let found = &at(&schema["properties"]["spec"], path)[keyword];
            assert_eq!(*found, json!(value), "{kind} {path:?} {keyword}");
        }
        for rule in RULES {
            let rule = json!(rule.cel).to_string();
            assert!(text.contains(&rule), "{rule}");
        }
    }
}
