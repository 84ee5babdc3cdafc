//! The gateway's user name and password at a corporate proxy (RFC 7617).

use std::{borrow::Cow, fmt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use countersign_config::model::ProxyAuthentication;
use countersign_core::{redact, secret::Secret, secret_file};
use zeroize::Zeroizing;

use super::ProxyFault;

/// A user name and password, read for one connection.
pub(in super::super) struct Basic {
    encoded: Secret,
    password: Secret,
    file: PathBuf,
}

impl Basic {
    /// Reads the password's file, so that one that was replaced is used by the next connection.
    pub(in super::super) async fn read(from: &ProxyAuthentication) -> Result<Self, ProxyFault> {
        let file = &from.password_file;
        let password = secret_file::read_text(file).await;
        let password = password.map_err(|reason| ProxyFault::Password {
            path: file.clone(),
            reason,
        })?;
        let pair = Zeroizing::new(format!("{}:{}", from.username, password.expose()));
        Ok(Self {
            encoded: Secret::new(BASE64_STANDARD.encode(pair.as_bytes())),
            password,
            file: file.clone(),
        })
    }

    /// The header field.
    pub(super) fn field(&self) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "Proxy-Authorization: Basic {}\r\n",
            self.encoded.expose()
        ))
    }

    /// Where the password was read from.
    pub(super) fn file(&self) -> &PathBuf {
        &self.file
    }

    /// A text of the proxy's, which may repeat what it was sent.
    pub(super) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in [&self.encoded, &self.password] {
            let secret = secret.expose();
            if !secret.is_empty() && text.contains(secret) {
                text = text.replace(secret, redact::REDACTED).into();
            }
        }
        text
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basic")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
