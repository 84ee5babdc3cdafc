//! The issuers and trust domains of callers.

use std::{path::PathBuf, time::Duration};

use super::super::fields::{duration, each, non_blank, safe_url};
use crate::{
    model::{BundleSource, Cluster, IN_CLUSTER, Issuer, JwksSource, TokenReview, TrustDomain},
    resource::{
        BundleSpec, ClusterSpec, IdentitySpec, IssuerSpec, JwksSpec, TokenReviewSpec,
        TrustDomainSpec,
    },
    spiffe::TrustDomainName,
    yaml::{Findings, Location},
};

const AUDIENCE: &str = "countersign";
const CACHE_FOR: Duration = Duration::from_secs(10);
/// A deleted pod keeps its access for as long as a positive review is cached.
const LONGEST_CACHE: Duration = Duration::from_mins(5);

const MAX_TOKEN_LIFE: Duration = Duration::from_hours(24);
/// Kubernetes issues no token with a shorter lifetime.
const SHORTEST_LIFE: Duration = Duration::from_mins(10);
/// A leaked token can be used until it expires.
const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);

pub(super) struct Identity {
    pub(super) issuers: Vec<Issuer>,
    pub(super) trust_domains: Vec<TrustDomain>,
}

pub(super) fn identity(
    spec: Option<&IdentitySpec>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Identity> {
    let Some(spec) = spec else {
        return Some(Identity {
            issuers: vec![own_cluster()],
            trust_domains: Vec::new(),
        });
    };
    if spec.issuers.is_empty() && spec.trust_domains.is_empty() {
        findings.error(
            location,
            "empty-list",
            "no issuer or trust domain is configured, so every caller would be refused",
            "add `issuers:` or `trustDomains:`, or remove `identity` to use the gateway's own cluster",
        );
        return None;
    }
    let issuers = each(&spec.issuers, &location.key("issuers"), |spec, location| {
        issuer(spec, location, findings)
    });
    let trust_domains = trust_domains(&spec.trust_domains, &location.key("trustDomains"), findings);
    let (issuers, trust_domains) = (issuers?, trust_domains?);
    let mut sound = true;
    for (index, issuer) in issuers.iter().enumerate() {
        // One token must not be checked in two ways.
        if issuers[..index]
            .iter()
            .any(|other| other.name == issuer.name || other.issuer == issuer.issuer)
        {
            sound = false;
            findings.error(
                &location.key("issuers").index(index),
                "duplicate-issuer",
                "another issuer has this name or `iss` claim",
                "give each a name and an issuer of its own",
            );
        }
    }
    sound.then_some(Identity {
        issuers,
        trust_domains,
    })
}

fn trust_domains(
    specs: &[TrustDomainSpec],
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Vec<TrustDomain>> {
    let domains = each(specs, location, |spec, location| {
        let name = TrustDomainName::parse(&spec.name).inspect_err(|error| {
            findings.error(
                &location.key("name"),
                "bad-trust-domain",
                error.to_string(),
                "write only the name, as in `prod.example.com`, without `spiffe://`",
            );
        });
        let bundle = bundle(&spec.bundle, &location.key("bundle"), findings);
        Some(TrustDomain {
            name: name.ok()?,
            bundle: bundle?,
        })
    })?;
    let mut sound = true;
    for (index, domain) in domains.iter().enumerate() {
        // One certificate must not be checked in two ways.
        if domains[..index]
            .iter()
            .any(|other| other.name == domain.name)
        {
            sound = false;
            findings.error(
                &location.index(index).key("name"),
                "duplicate-trust-domain",
                "another trust domain has this name",
                "put all its roots into one bundle",
            );
        }
    }
    sound.then_some(domains)
}

fn bundle(spec: &BundleSpec, location: &Location<'_>, findings: &Findings) -> Option<BundleSource> {
    match (&spec.file, &spec.workload_api) {
        (Some(file), None) => {
            let file = non_blank(file, &location.key("file"), findings)?;
            Some(BundleSource::File(PathBuf::from(file)))
        }
        (None, Some(address)) => {
            let socket = address.strip_prefix("unix://").map(PathBuf::from);
            let socket = socket.filter(|socket| socket.is_absolute());
            if socket.is_none() {
                findings.error(
                    &location.key("workloadApi"),
                    "bad-socket",
                    "this is not the address of a Unix socket",
                    "write an absolute path, as in `unix:///run/spire/agent.sock`; the agent must be on this machine",
                );
            }
            socket.map(BundleSource::WorkloadApi)
        }
        (None, None) | (Some(_), Some(_)) => {
            findings.error(
                location,
                "conflicting-keys",
                "a bundle comes from exactly one place",
                "give `file` or `workloadApi`",
            );
            None
        }
    }
}

/// The cluster in which the gateway runs, for a gateway without an `identity` key.
fn own_cluster() -> Issuer {
    Issuer {
        name: IN_CLUSTER.to_owned(),
        issuer: IN_CLUSTER.to_owned(),
        audience: AUDIENCE.to_owned(),
        max_token_life: MAX_TOKEN_LIFE,
        jwks: own_keys(),
        token_review: Some(own_review()),
        pod_facts: Some(Cluster::in_cluster()),
    }
}

/// The keys of the gateway's own cluster.
fn own_keys() -> JwksSource {
    let cluster = Cluster::in_cluster();
    JwksSource::Url {
        url: format!("{}/openid/v1/jwks", cluster.url),
        ca_file: cluster.ca_file,
    }
}

fn own_review() -> TokenReview {
    TokenReview {
        cluster: Cluster::in_cluster(),
        cache_for: CACHE_FOR,
    }
}

fn issuer(spec: &IssuerSpec, location: &Location<'_>, findings: &Findings) -> Option<Issuer> {
    let name = non_blank(&spec.name, &location.key("name"), findings);
    let issuer = non_blank(&spec.issuer, &location.key("issuer"), findings);
    let audience = match &spec.audience {
        Some(audience) => non_blank(audience, &location.key("audience"), findings),
        None => Some(AUDIENCE.to_owned()),
    };
    let max_token_life = max_token_life(spec, location, findings);
    let in_cluster = issuer.as_deref() == Some(IN_CLUSTER);
    let jwks = match &spec.jwks {
        Some(spec) => jwks(spec, &location.key("jwks"), findings),
        None if in_cluster => Some(own_keys()),
        None => {
            findings.error(
                location,
                "missing-key",
                "where the issuer's public keys come from is not known",
                "add `jwks` with `url`, optionally with `caFile`, or with `file`",
            );
            None
        }
    };
    let token_review = match &spec.token_review {
        Some(review) => token_review(review, &location.key("tokenReview"), findings).map(Some),
        None => Some(in_cluster.then(own_review)),
    };
    let pod_facts = pod_facts(spec, token_review.as_ref(), location, findings);
    Some(Issuer {
        name: name?,
        issuer: issuer?,
        audience: audience?,
        max_token_life: max_token_life?,
        jwks: jwks?,
        token_review: token_review?,
        pod_facts: pod_facts?,
    })
}

/// The API server that is asked about pods: it is the one that reviews tokens.
#[expect(
    clippy::option_option,
    reason = "wrong, not asked for, or a cluster: as with the other keys"
)]
fn pod_facts(
    spec: &IssuerSpec,
    token_review: Option<&Option<TokenReview>>,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Option<Cluster>> {
    if spec.pod_facts != Some(true) {
        return Some(None);
    }
    match token_review {
        // What is wrong with it was said.
        None => None,
        Some(Some(review)) => Some(Some(review.cluster.clone())),
        Some(None) => {
            findings.error(
                &location.key("podFacts"),
                "missing-key",
                "which API server is asked about pods is not known without `tokenReview`",
                "add `tokenReview` with its `cluster`",
            );
            None
        }
    }
}

fn max_token_life(
    spec: &IssuerSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Duration> {
    let Some(text) = &spec.max_token_life else {
        return Some(MAX_TOKEN_LIFE);
    };
    let location = location.key("maxTokenLife");
    let life = duration(text, &location, findings)?;
    if (SHORTEST_LIFE..=LONGEST_LIFE).contains(&life) {
        return Some(life);
    }
    let problem = if life < SHORTEST_LIFE {
        "Kubernetes issues no token for less than 10 minutes, so every token would be refused"
    } else {
        "a leaked token would be valid for longer than 30 days"
    };
    let remedy = "write 10 minutes (`10m`) to 30 days (`720h`); `24h` is the default";
    findings.error(&location, "bad-duration", problem, remedy);
    None
}

fn jwks(spec: &JwksSpec, location: &Location<'_>, findings: &Findings) -> Option<JwksSource> {
    match (&spec.url, &spec.file, &spec.ca_file) {
        (Some(url), None, ca_file) => {
            safe_url(url, &location.key("url"), findings).then(|| JwksSource::Url {
                url: url.clone(),
                ca_file: ca_file.as_ref().map(PathBuf::from),
            })
        }
        (None, Some(file), None) => non_blank(file, &location.key("file"), findings)
            .map(|file| JwksSource::File(file.into())),
        (None | Some(_), _, _) => {
            findings.error(
                location,
                "conflicting-keys",
                "the keys come from exactly one place",
                "give `url`, optionally with `caFile`, or `file` alone",
            );
            None
        }
    }
}

fn token_review(
    spec: &TokenReviewSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<TokenReview> {
    let cache_for = match &spec.cache_for {
        Some(text) => duration(text, &location.key("cacheFor"), findings)?,
        None => CACHE_FOR,
    };
    if cache_for > LONGEST_CACHE {
        findings.error(
            &location.key("cacheFor"),
            "bad-duration",
            "a deleted pod would keep its access for longer than 5 minutes",
            "write at most `5m`",
        );
        return None;
    }
    Some(TokenReview {
        cluster: cluster(&spec.cluster, &location.key("cluster"), findings)?,
        cache_for,
    })
}

pub(super) fn cluster(
    spec: &ClusterSpec,
    location: &Location<'_>,
    findings: &Findings,
) -> Option<Cluster> {
    let api = match spec {
        ClusterSpec::InCluster => return Some(Cluster::in_cluster()),
        ClusterSpec::Api(api) => api,
    };
    let token_file = non_blank(&api.token_file, &location.key("tokenFile"), findings);
    safe_url(&api.url, &location.key("url"), findings).then_some(Cluster {
        url: api.url.trim_end_matches('/').to_owned(),
        ca_file: api.ca_file.as_ref().map(PathBuf::from),
        token_file: PathBuf::from(token_file?),
    })
}
