//! The file format around a document in a directory: a line that identifies it, then the document,
//! encrypted with AES-256-GCM if there is a key. Truncation and changes are detected in both cases.

use std::{io::Read, os::unix::fs::PermissionsExt, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey},
    digest::{SHA256, digest},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use countersign_config::model::ResourceName;
use countersign_core::files;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{StateError, document::hex};

/// The identifier in the first line.
const KIND: &str = "countersign-state";

/// The latest version of the envelope.
const FORMAT: u32 = 1;

/// The length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// The largest key file, in bytes.
const LARGEST_KEY_FILE: u64 = 16 * 1024;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    kind: String,
    format: u32,
    credential: String,
    /// SHA-256 of a document that is not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<Sealed>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    /// Which key: its fingerprint.
    key: String,
    nonce: String,
}

/// The keys of a key file: the first encrypts, all decrypt.
pub(super) struct Keys(Vec<Zeroizing<[u8; KEY_BYTES]>>);

impl Keys {
    /// Reads a key file: 32 bytes in base64 per line.
    pub(super) fn read(path: &Path) -> Result<Self, StateError> {
        let problem = |problem| StateError::KeyFile {
            path: path.into(),
            problem,
        };
        let io = |error| StateError::io("read", path, &error);
        let file = files::open(path).map_err(io)?;
        // Group-readable is accepted: a mounted Secret with `fsGroup` is always group-readable.
        if file.metadata().map_err(io)?.permissions().mode() & 0o037 != 0 {
            return Err(problem(
                "can be read by every user or written by the group; make it 0600 (or 0440)",
            ));
        }
        let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
        file.take(LARGEST_KEY_FILE)
            .read_to_string(&mut text)
            .map_err(io)?;
        let keys = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let mut key = Zeroizing::new([0; KEY_BYTES]);
                match BASE64_STANDARD.decode_slice(line, &mut *key) {
                    Ok(KEY_BYTES) => Ok(key),
                    Ok(_) | Err(_) => Err(problem(
                        "must have 32 bytes in base64 per line (`openssl rand -base64 32`)",
                    )),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(problem("is empty (`openssl rand -base64 32` makes a key)"));
        }
        Ok(Self(keys))
    }

    fn named(&self, name: &str) -> Option<&[u8; KEY_BYTES]> {
        self.0.iter().map(|key| &**key).find(|key| id(key) == name)
    }
}

/// A fingerprint of a key.
fn id(key: &[u8; KEY_BYTES]) -> String {
    let text = Zeroizing::new([b"countersign\0key\0".as_slice(), key].concat());
    hex(&digest(&SHA256, &text).as_ref()[..8])
}

/// Binds an encrypted document to its credential, so that it cannot be used for another.
fn tied(credential: &ResourceName) -> Aad<Vec<u8>> {
    Aad::from(format!("{KIND}\0{FORMAT}\0{credential}").into_bytes())
}

/// The content of the file for a document.
pub(super) fn close(
    document: Zeroizing<Vec<u8>>,
    credential: &ResourceName,
    keys: Option<&Keys>,
) -> Result<Zeroizing<Vec<u8>>, StateError> {
    let mut head = Head {
        kind: KIND.to_owned(),
        format: FORMAT,
        credential: credential.to_string(),
        sum: None,
        sealed: None,
    };
    let mut body = document;
    match keys.and_then(|keys| keys.0.first()) {
        None => head.sum = Some(hex(digest(&SHA256, &body).as_ref())),
        Some(key) => {
            let failed = |_| StateError::Unavailable {
                reason: "the cryptographic library failed".into(),
            };
            let sealing = RandomizedNonceKey::new(&AES_256_GCM, &**key).map_err(failed)?;
            // So that appending the tag leaves no copy of the plain text behind.
            body.reserve(AES_256_GCM.tag_len());
            let nonce = sealing
                .seal_in_place_append_tag(tied(credential), &mut *body)
                .map_err(failed)?;
            head.sealed = Some(Sealed {
                key: id(key),
                nonce: BASE64_STANDARD.encode(nonce.as_ref()),
            });
        }
    }
    let mut file = Zeroizing::new(Vec::with_capacity(body.len() + 512));
    if let Err(error) = serde_json::to_writer(&mut *file, &head) {
        // A head can always be written as JSON.
        unreachable!("{error}");
    }
    file.push(b'\n');
    file.extend_from_slice(&body);
    Ok(file)
}

/// The document in the content of the file at a path.
pub(super) fn open(
    file: &[u8],
    at: &str,
    credential: &ResourceName,
    keys: Option<&Keys>,
) -> Result<Zeroizing<Vec<u8>>, StateError> {
    let corrupt = |reason| StateError::Corrupt {
        at: at.into(),
        reason,
    };
    let end = file.iter().position(|byte| *byte == b'\n');
    let (head, body) = end
        .map(|end| (&file[..end], &file[end + 1..]))
        .ok_or_else(|| corrupt("it is truncated, or not the state of a credential"))?;
    let head: Head =
        serde_json::from_slice(head).map_err(|_| corrupt("it is not the state of a credential"))?;
    if head.kind != KIND {
        return Err(corrupt("it is not the state of a credential"));
    }
    if head.format > FORMAT {
        return Err(StateError::Later { at: at.into() });
    }
    if head.credential != credential.as_str() {
        return Err(corrupt("it is the state of another credential"));
    }
    let mut body = Zeroizing::new(body.to_vec());
    match (head.sealed, head.sum) {
        (Some(sealed), _) => {
            let keys = keys.ok_or_else(|| StateError::NoKey { at: at.into() })?;
            let key = keys.named(&sealed.key).ok_or(StateError::WrongKey {
                at: at.into(),
                wanted: sealed.key,
            })?;
            let length = unseal(key, &sealed.nonce, credential, &mut body)
                .ok_or_else(|| corrupt("it was truncated or changed"))?;
            body.truncate(length);
        }
        (None, Some(sum)) if sum == hex(digest(&SHA256, &body).as_ref()) => {}
        (None, Some(_) | None) => return Err(corrupt("it was truncated or changed")),
    }
    Ok(body)
}

/// Decrypts in place; returns the length of the plain text.
fn unseal(
    key: &[u8; KEY_BYTES],
    nonce: &str,
    credential: &ResourceName,
    body: &mut [u8],
) -> Option<usize> {
    let nonce = BASE64_STANDARD.decode(nonce).ok()?;
    let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).ok()?;
    let plain = key.open_in_place(nonce, tied(credential), body).ok()?;
    Some(plain.len())
}
