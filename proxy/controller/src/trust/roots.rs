//! Brings both authorities from their Secret, makes them if there is none, and writes what a rotation changed. Every
//! write names the version that was read: of two that write at once, one is told so.

use kube::{Api, Client, ResourceExt as _, api::PostParams};

use jiff::Timestamp;

use super::{
    TrustError,
    authority::{Authorities, Authority, Root},
    error::explained,
    names::{AuthorityName, ROOTS_SECRET},
    secret::KeySecret,
    settings::TrustSettings,
};

/// Where the roots are.
pub(super) struct Roots {
    api: Api<KeySecret>,
    given: Option<String>,
    /// The Secret as it was read last, and what it holds.
    read: Option<(KeySecret, Authorities)>,
}

impl Roots {
    pub(super) fn new(client: Client, settings: &TrustSettings) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            given: settings.root_secret.clone(),
            read: None,
        }
    }

    /// What the Secret holds now; made if there is none.
    pub(super) async fn load(&mut self, now: Timestamp) -> Result<Authorities, TrustError> {
        let found = self
            .api
            .get_opt(ROOTS_SECRET)
            .await
            .map_err(|error| failed(&error))?;
        let secret = match found {
            Some(secret) => secret,
            None => self.make(now).await?,
        };
        if let Some((read, authorities)) = &self.read
            && read.resource_version() == secret.resource_version()
            && read.uid() == secret.uid()
            && authorities.interception.current.validity.covers(now)
            && authorities.gateways.current.validity.covers(now)
        {
            return Ok(authorities.clone());
        }
        let authorities = Authorities::of_secret(&secret, now)?;
        self.read = Some((secret, authorities.clone()));
        Ok(authorities)
    }

    async fn make(&self, now: Timestamp) -> Result<KeySecret, TrustError> {
        let interception = match self.given(now).await? {
            Some(given) => given,
            None => Root::generate(AuthorityName::Interception, now)?,
        };
        let gateways = Root::generate(AuthorityName::Gateways, now)?;
        let authorities = Authorities {
            interception: Authority::new(interception),
            gateways: Authority::new(gateways),
        };
        let made = KeySecret::new(ROOTS_SECRET, "Opaque", authorities.to_data());
        match self.api.create(&PostParams::default(), &made).await {
            Ok(created) => {
                tracing::info!(secret = ROOTS_SECRET, "roots were made");
                Ok(created)
            }
            // Another was faster: its roots count.
            Err(kube::Error::Api(status)) if status.code == 409 => self
                .api
                .get(ROOTS_SECRET)
                .await
                .map_err(|error| failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    }

    /// The operator's root, if there is to be one.
    pub(super) async fn given(&self, now: Timestamp) -> Result<Option<Root>, TrustError> {
        let Some(name) = &self.given else {
            return Ok(None);
        };
        let found = self.api.get_opt(name).await.map_err(|error| {
            let why = explained(&error, &format!("get the Secret {name}"));
            TrustError::Api(format!("the Secret {name} cannot be read: {why}"))
        })?;
        let found = found.ok_or_else(|| TrustError::NoSecret(name.clone()))?;
        let part = |key: &str| found.get(key).unwrap_or_default().to_vec();
        let (certificate, key) = (part("tls.crt"), zeroize::Zeroizing::new(part("tls.key")));
        let root = Root::of_pem(&[&certificate, &key]).map_err(|reason| TrustError::NotARoot {
            secret: name.clone(),
            reason: reason.to_owned(),
        })?;
        if !root.validity.covers(now) {
            return Err(TrustError::NotValid {
                secret: name.clone(),
                key: "tls.crt".to_owned(),
                not_before: root.validity.not_before,
                not_after: root.validity.not_after,
            });
        }
        Ok(Some(root))
    }

    /// Writes what a rotation changed.
    pub(super) async fn save(&mut self, authorities: &Authorities) -> Result<(), TrustError> {
        let Some((read, _)) = &self.read else {
            return Err(TrustError::Internal("nothing was read".to_owned()));
        };
        let changed = read.with(authorities.to_data());
        let params = PostParams::default();
        let saved = self.api.replace(ROOTS_SECRET, &params, &changed).await;
        let saved = saved.map_err(|error| failed(&error))?;
        self.read = Some((saved, authorities.clone()));
        Ok(())
    }
}

fn failed(error: &kube::Error) -> TrustError {
    let right = format!("create secrets, and to get and update the Secret {ROOTS_SECRET}");
    let why = explained(error, &right);
    TrustError::Api(format!("the Secret {ROOTS_SECRET} cannot be used: {why}"))
}
