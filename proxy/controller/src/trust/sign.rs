//! Approves and signs gateways' requests for certificates: of the service accounts of the settings, for the names that
//! they may have, and of no one else. Whatever is refused says why on the request.

use std::sync::Arc;

use countersign_pki::{
    Names, PkiError, Request, RequestError, Subtree, Validity, fingerprint, pem,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};

use super::{
    authority::{Authorities, Authority},
    error::explained,
    names::{AuthorityName, GATEWAY_SIGNER, INTERCEPTION_SIGNER, POD},
    settings::{GatewayAccount, TrustSettings, shown},
    state::Holder,
};

/// The most names in one certificate: it must stay below what TLS stacks take.
const MOST_NAMES: usize = 1000;

/// Where the API server says in which pod the account was used.
const POD_OF_USER: &str = "authentication.kubernetes.io/pod-name";

/// What a request's signer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An intermediate for interception.
    Intermediate,
    /// A serving certificate.
    Serving,
}

impl Purpose {
    /// By the signer's name.
    pub(super) fn of_signer(signer: &str) -> Option<Self> {
        match signer {
            INTERCEPTION_SIGNER => Some(Self::Intermediate),
            GATEWAY_SIGNER => Some(Self::Serving),
            _ => None,
        }
    }

    pub(super) const fn authority(self) -> AuthorityName {
        match self {
            Self::Intermediate => AuthorityName::Interception,
            Self::Serving => AuthorityName::Gateways,
        }
    }

    /// The usages that a request for it may have.
    pub(super) const fn usages(self) -> &'static [&'static str] {
        match self {
            Self::Intermediate => &["cert sign", "crl sign", "server auth"],
            Self::Serving => &["digital signature", "server auth"],
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignRefusal {
    /// Not a gateway of ours.
    #[error(
        "{0} is no service account of a gateway; name it in the controller's trust settings (`gateways`), if it is one"
    )]
    NotAGateway(String),
    /// The request itself.
    #[error("{0}")]
    Request(#[from] RequestError),
    /// Something else than this signer gives.
    #[error(
        "this signer gives certificates for {expected} and nothing else; the request says {found}"
    )]
    Usages { expected: String, found: String },
    /// A name that the account may not have.
    #[error(
        "{account} may not have the name {name}; permit it in the controller's trust settings ({key}), if it should"
    )]
    Name {
        account: String,
        name: String,
        key: &'static str,
    },
    /// Too many names.
    #[error(
        "the request has {0} names, and a certificate has at most 1000: split the hosts over several gateways"
    )]
    TooMany(usize),
}

impl SignRefusal {
    /// The stable code, in the condition's `reason`.
    pub(super) const fn code(&self) -> &'static str {
        match self {
            Self::NotAGateway(_) => "NotAGateway",
            Self::Request(_) => "BadRequest",
            Self::Usages { .. } => "UsagesNotPermitted",
            Self::Name { .. } => "NameNotPermitted",
            Self::TooMany(_) => "TooManyNames",
        }
    }
}

/// What is known of a request.
#[derive(Debug)]
pub(super) struct Reviewed {
    request: Request,
    purpose: Purpose,
    life: SignedDuration,
    pub(super) holder: String,
}

/// Whether the account that asks may have what it asks for.
pub(super) fn review(
    asked: &CertificateSigningRequest,
    purpose: Purpose,
    settings: &TrustSettings,
) -> Result<Reviewed, SignRefusal> {
    let user = asked.spec.username.clone().unwrap_or_default();
    let account = settings.account(&user);
    let account = account.ok_or_else(|| SignRefusal::NotAGateway(user.clone()))?;
    let usages = asked.spec.usages.as_deref().unwrap_or_default();
    if usages.is_empty()
        || !usages
            .iter()
            .all(|it| purpose.usages().contains(&it.as_str()))
    {
        return Err(SignRefusal::Usages {
            expected: purpose.usages().join(", "),
            found: usages.join(", "),
        });
    }
    let request = Request::read(&asked.spec.request.0)?;
    check_names(request.names(), purpose, account, settings)?;
    let most = match purpose {
        Purpose::Intermediate => settings.intermediate_life,
        Purpose::Serving => settings.serving_life,
    };
    let wished = asked.spec.expiration_seconds.map(i64::from);
    let wished = wished.map(SignedDuration::from_secs);
    Ok(Reviewed {
        request,
        purpose,
        life: wished.map_or(most, |wished| wished.min(most)),
        holder: holder(asked),
    })
}

fn check_names(
    names: &Names,
    purpose: Purpose,
    account: &GatewayAccount,
    settings: &TrustSettings,
) -> Result<(), SignRefusal> {
    let count = names.iter().count();
    if count > MOST_NAMES {
        return Err(SignRefusal::TooMany(count));
    }
    let refused = |name: &Subtree, key| SignRefusal::Name {
        account: account.user(),
        name: shown(name),
        key,
    };
    match purpose {
        Purpose::Intermediate => account
            .refused_to_intercept(names, &settings.cluster_domain)
            .map(|name| refused(name, "intercepts")),
        Purpose::Serving => account
            .refused_to_serve(names)
            .map(|name| refused(name, "serves")),
    }
    .map_or(Ok(()), Err)
}

/// The pod that asks, as the API server says; else the name of the request.
fn holder(asked: &CertificateSigningRequest) -> String {
    let extra = asked.spec.extra.as_ref();
    let pods = extra.and_then(|extra| extra.get(POD_OF_USER));
    let pod = pods.and_then(|pods| pods.first().cloned());
    let annotated = || asked.annotations().get(POD).cloned();
    pod.or_else(annotated).unwrap_or_else(|| asked.name_any())
}

impl Reviewed {
    /// The chain, PEM: the certificate, and the root that signed it.
    pub(super) fn sign(
        &self,
        authorities: &Authorities,
        now: Timestamp,
    ) -> Result<(String, Holder), PkiError> {
        let Authority { current, .. } = authorities.get(self.purpose.authority());
        let validity = Validity::starting(now, self.life).within(current.validity);
        let signed = match self.purpose {
            Purpose::Intermediate => self.request.sign_intermediate(
                "Countersign interception",
                &current.issuer,
                validity,
            )?,
            Purpose::Serving => {
                self.request
                    .sign_leaf("Countersign gateway", &current.issuer, validity)?
            }
        };
        let holder = Holder {
            root: fingerprint(&current.certificate),
            ends: validity.not_after,
        };
        Ok((pem(&signed) + &pem(&current.certificate), holder))
    }
}

/// What became of a request.
pub(super) enum Outcome {
    /// It was signed.
    Signed(Purpose, String, Holder),
    /// It was refused.
    Denied,
    /// Nothing is to be done.
    Settled,
}

/// Approves and signs one request, or refuses it.
pub(super) async fn settle(
    client: &Client,
    asked: &Arc<CertificateSigningRequest>,
    authorities: &Authorities,
    settings: &TrustSettings,
    now: Timestamp,
) -> Result<Outcome, String> {
    let Some(purpose) = Purpose::of_signer(&asked.spec.signer_name) else {
        return Ok(Outcome::Settled);
    };
    if is_settled(asked) {
        return Ok(Outcome::Settled);
    }
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let name = asked.name_any();
    let reviewed = match review(asked, purpose, settings) {
        Ok(reviewed) => reviewed,
        Err(refusal) => {
            tracing::warn!(request = %name, "a certificate is refused: {refusal}");
            deny(&api, asked, &refusal, now).await?;
            return Ok(Outcome::Denied);
        }
    };
    let approved = if has(asked, "Approved") {
        CertificateSigningRequest::clone(asked)
    } else {
        let told = "the gateway may have it";
        let approved = with_condition(asked, "Approved", "CountersignGateway", told, now);
        match replace(&api, "approval", &approved).await? {
            Some(approved) => approved,
            None => return Ok(Outcome::Settled),
        }
    };
    let signed = reviewed.sign(authorities, now);
    let (chain, holder) = signed.map_err(|error| error.to_string())?;
    let mut approved = approved;
    approved.status.get_or_insert_default().certificate = Some(ByteString(chain.into_bytes()));
    if replace(&api, "status", &approved).await?.is_none() {
        return Ok(Outcome::Settled);
    }
    tracing::info!(request = %name, gateway = %reviewed.holder, "signed");
    Ok(Outcome::Signed(purpose, reviewed.holder, holder))
}

async fn deny(
    api: &Api<CertificateSigningRequest>,
    asked: &CertificateSigningRequest,
    refusal: &SignRefusal,
    now: Timestamp,
) -> Result<(), String> {
    let told = refusal.to_string();
    // What somebody else approved can only fail.
    let (condition, subresource) = if has(asked, "Approved") {
        ("Failed", "status")
    } else {
        ("Denied", "approval")
    };
    let denied = with_condition(asked, condition, refusal.code(), &told, now);
    replace(api, subresource, &denied).await.map(drop)
}

/// `None` if the request has changed or is gone: it is looked at again then.
async fn replace(
    api: &Api<CertificateSigningRequest>,
    subresource: &'static str,
    request: &CertificateSigningRequest,
) -> Result<Option<CertificateSigningRequest>, String> {
    let name = request.name_any();
    let params = PostParams::default();
    let replaced = api.replace_subresource(subresource, &name, &params, request);
    match replaced.await {
        Ok(replaced) => Ok(Some(replaced)),
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(None),
        Err(error) => {
            let right = format!(
                "update certificatesigningrequests/{subresource}, and to approve and sign for signers {INTERCEPTION_SIGNER} and {GATEWAY_SIGNER}"
            );
            let why = explained(&error, &right);
            Err(format!("the request {name} cannot be answered: {why}"))
        }
    }
}

fn with_condition(
    asked: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> CertificateSigningRequest {
    let mut asked = asked.clone();
    // Conditions have whole seconds.
    let at = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let status = asked.status.get_or_insert_default();
    status
        .conditions
        .get_or_insert_default()
        .push(CertificateSigningRequestCondition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(Time(at)),
            last_transition_time: Some(Time(at)),
        });
    asked
}

fn has(asked: &CertificateSigningRequest, kind: &str) -> bool {
    let status = asked.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|it| it.type_ == kind))
}

fn is_settled(asked: &CertificateSigningRequest) -> bool {
    let status = asked.status.as_ref();
    status.is_some_and(|status| status.certificate.is_some())
        || has(asked, "Denied")
        || has(asked, "Failed")
}
