//! The claims of a projected service-account token, each checked for its exact type.
//!
//! The library's own checks are not used: they read the machine's clock, treat `exp` and `nbf` as
//! missing when they are strings (CVE-2026-25537), and allow a minute of leeway for the expiry too.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    IdentifyError, SignedClaims,
    nearest::{difference, listed, with_nearest},
    unproven::kept,
};

/// How far `nbf` and `iat` may be in the future: a minute, as for the API server itself, because the issuer's clock
/// may be a little fast and a token is used immediately. `exp` has no leeway: the kubelet replaces a token when a
/// fifth of its lifetime is left.
pub(super) const LEEWAY: Duration = Duration::from_mins(1);

/// The most audiences that are shown.
const SHOWN_AUDIENCES: usize = 4;

/// The claims as they are in the token: only duplicate names were checked.
#[derive(Deserialize)]
pub(super) struct RawClaims {
    #[serde(default, deserialize_with = "present")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    sub: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    iat: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    jti: Option<Value>,
    #[serde(default, rename = "kubernetes.io", deserialize_with = "present")]
    kubernetes: Option<Value>,
}

/// What the claims of one issuer's tokens must be.
#[derive(Debug)]
pub(super) struct ClaimRequirements {
    /// The exact `iss`.
    pub(super) issuer: String,
    /// What `aud` must contain.
    pub(super) audience: Arc<str>,
    /// The longest time from `iat` to `exp`.
    pub(super) max_life: Duration,
}

/// The pod's name and uid.
type PodClaims = (Option<Arc<str>>, Option<Arc<str>>);

/// Checked claims.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) subject: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) service_account: Arc<str>,
    pub(super) pod: Option<Arc<str>>,
    pub(super) pod_uid: Option<Arc<str>>,
    pub(super) token_id: Option<Arc<str>>,
    pub(super) expires_at: Timestamp,
}

/// An explicit `null` has the wrong type; it is not an absent claim.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl RawClaims {
    /// The issuer that the token names. Use it only to choose the keys for the signature check.
    pub(super) fn unverified_issuer(&self) -> Result<&str, IdentifyError> {
        let issuer = self.iss.as_ref().and_then(Value::as_str);
        issuer.ok_or(IdentifyError::BadClaims("`iss` must be a string"))
    }

    /// Checks every claim. To be called after the signature was verified.
    pub(super) fn check(
        &self,
        requirements: &ClaimRequirements,
        now: Timestamp,
    ) -> Result<Claims, IdentifyError> {
        let issuer = self.unverified_issuer()?;
        if issuer != requirements.issuer {
            let named = with_nearest(issuer, [requirements.issuer.as_str()].into_iter());
            return Err(IdentifyError::UnknownIssuer(named.into()));
        }
        self.check_audience(&requirements.audience)?;
        let expires_at = self.check_times(now)?;
        self.check_life(expires_at, requirements.max_life)?;
        let subject = string(self.sub.as_ref(), "`sub` must be a string")?;
        let (namespace, service_account) = service_account(subject)?;
        let (pod, pod_uid) = self.check_kubernetes(namespace, service_account)?;
        let token_id = match &self.jti {
            None => None,
            jti => Some(string(jti.as_ref(), "`jti` must be a string")?.into()),
        };
        Ok(Claims {
            subject: subject.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
            pod,
            pod_uid,
            token_id,
            expires_at,
        })
    }

    /// What they say for people, whether or not it is what is required. To be called after the signature was
    /// verified.
    pub(super) fn signed(&self) -> SignedClaims {
        let subject = self.sub.as_ref().and_then(Value::as_str);
        let named = subject.and_then(|subject| service_account(subject).ok());
        let pod = self
            .kubernetes
            .as_ref()
            .and_then(|claim| claim["pod"]["name"].as_str());
        let audiences = match &self.aud {
            Some(Value::Array(audiences)) => audiences.as_slice(),
            other => other.as_slice(),
        };
        SignedClaims {
            subject: subject.map(kept),
            namespace: named.map(|(namespace, _)| kept(namespace)),
            service_account: named.map(|(_, name)| kept(name)),
            pod: pod.map(kept),
            token_id: self.jti.as_ref().and_then(Value::as_str).map(kept),
            ..SignedClaims::default()
        }
        .for_audiences(audiences.iter().filter_map(Value::as_str))
    }

    /// RFC 7519, section 4.1.3: one string, or an array of strings that must contain ours.
    fn check_audience(&self, ours: &Arc<str>) -> Result<(), IdentifyError> {
        const TYPE: IdentifyError =
            IdentifyError::BadClaims("`aud` must be a string or an array of strings");
        let audiences = match &self.aud {
            Some(audience @ Value::String(_)) => std::slice::from_ref(audience),
            Some(Value::Array(audiences)) => audiences,
            None | Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                return Err(TYPE);
            }
        };
        let texts = || audiences.iter().filter_map(Value::as_str);
        if texts().count() != audiences.len() {
            return Err(TYPE);
        }
        if texts().any(|audience| *audience == **ours) {
            return Ok(());
        }
        let differences = texts().map(|audience| difference(audience, ours));
        Err(IdentifyError::WrongAudience {
            named: match audiences.len() {
                0 => "no audience".into(),
                _ => format!("the audience {}", listed(texts(), SHOWN_AUDIENCES)).into(),
            },
            difference: differences
                .max_by_key(|text| text.len())
                .unwrap_or_default(),
            expected: Arc::clone(ours),
        })
    }

    fn check_times(&self, now: Timestamp) -> Result<Timestamp, IdentifyError> {
        const EXP: &str = "`exp` must be a number of seconds";
        let expires_at = moment(self.exp.as_ref(), EXP)?;
        if expires_at <= now {
            return Err(IdentifyError::expired(expires_at, now));
        }
        let latest = now.saturating_add(LEEWAY).unwrap_or(Timestamp::MAX);
        for (claim, name, complaint) in [
            (&self.nbf, "nbf", "`nbf` must be a number of seconds"),
            (&self.iat, "iat", "`iat` must be a number of seconds"),
        ] {
            if claim.is_none() {
                continue;
            }
            let begin = moment(claim.as_ref(), complaint)?;
            if begin > latest {
                return Err(IdentifyError::NotYetValid {
                    claim: name,
                    begin,
                    ahead: begin.duration_since(now).unsigned_abs(),
                    accepted: LEEWAY,
                });
            }
        }
        Ok(expires_at)
    }

    /// Tokens are meant to be replaced often. A leaked token that never expires, or hardly ever, would
    /// stay valid for whoever has it.
    fn check_life(&self, expires_at: Timestamp, longest: Duration) -> Result<(), IdentifyError> {
        const BEGIN: &str = "`iat`, or else `nbf`, must say when the token began";
        let begun_at = moment(self.iat.as_ref().or(self.nbf.as_ref()), BEGIN)?;
        let life = expires_at.duration_since(begun_at);
        if life <= SignedDuration::try_from(longest).unwrap_or(SignedDuration::MAX) {
            return Ok(());
        }
        Err(IdentifyError::LivesTooLong {
            life: life.unsigned_abs(),
            longest,
        })
    }

    /// The `kubernetes.io` claim must agree with the subject. Returns the pod's name and uid.
    fn check_kubernetes(
        &self,
        namespace: &str,
        service_account: &str,
    ) -> Result<PodClaims, IdentifyError> {
        let Some(kubernetes) = &self.kubernetes else {
            return Ok((None, None));
        };
        if kubernetes["namespace"].as_str() != Some(namespace)
            || kubernetes["serviceaccount"]["name"].as_str() != Some(service_account)
        {
            return Err(IdentifyError::BadClaims(
                "`kubernetes.io` must name the same service account as `sub`",
            ));
        }
        let Some(pod) = kubernetes.get("pod") else {
            return Ok((None, None));
        };
        match pod["name"].as_str() {
            Some(name) if is_dns_subdomain(name) => {
                let uid = pod["uid"].as_str().map(Arc::from);
                Ok((Some(name.into()), uid))
            }
            Some(_) | None => Err(IdentifyError::BadClaims(
                "`kubernetes.io` must give its pod a valid name",
            )),
        }
    }
}

fn string<'a>(claim: Option<&'a Value>, complaint: &'static str) -> Result<&'a str, IdentifyError> {
    claim
        .and_then(Value::as_str)
        .ok_or(IdentifyError::BadClaims(complaint))
}

/// RFC 7519's `NumericDate`: a JSON number of seconds, which may have a fraction.
fn moment(claim: Option<&Value>, complaint: &'static str) -> Result<Timestamp, IdentifyError> {
    let parse = |number: &serde_json::Number| match number.as_i64() {
        Some(seconds) => Timestamp::from_second(seconds).ok(),
        None => SignedDuration::try_from_secs_f64(number.as_f64()?)
            .ok()
            .and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok()),
    };
    // A conversion error means that the number is not a time.
    claim
        .and_then(Value::as_number)
        .and_then(parse)
        .ok_or(IdentifyError::BadClaims(complaint))
}

/// Splits `system:serviceaccount:NAMESPACE:NAME`.
fn service_account(subject: &str) -> Result<(&str, &str), IdentifyError> {
    subject
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .filter(|(namespace, name)| is_dns_label(namespace) && is_dns_subdomain(name))
        .ok_or(IdentifyError::BadClaims(
            "`sub` must be system:serviceaccount:NAMESPACE:NAME",
        ))
}

/// RFC 1123 labels, the form of Kubernetes namespaces.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_ldh(text)
}

/// RFC 1123 subdomains, the form of Kubernetes pods and service accounts: at most 253 bytes, with no
/// limit per label.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_ldh)
}

/// Lower-case letters, digits and inner hyphens; not empty.
fn is_ldh(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
