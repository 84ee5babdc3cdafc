//! C2SP `signed-note`: a text, and signatures of it by keys with names. Ed25519 alone.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::tree::sha256;

/// The algorithm's number in a key's encoding.
const ED25519_KEY: u8 = 1;

/// How a signature's line begins: an em dash and a space.
const SIGNATURE: &str = "\u{2014} ";

/// A key that signs checkpoints.
#[derive(Debug)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifyingKey,
}

/// A key by which checkpoints are verified; it is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    key: Vec<u8>,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is empty, or has a space or a plus sign.
    #[error("the name of a key must not be empty, nor have spaces or `+`")]
    Name,
    /// It is not PKCS#8 of Ed25519.
    #[error("this is not an Ed25519 key in PKCS#8")]
    Format,
    /// It is not in the encoding of C2SP's verifier keys.
    #[error("this is no verifier key; it has the form NAME+HASH+KEY")]
    Encoding,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Why a note cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not in the format of a signed note.
    #[error("this is no signed note")]
    Malformed,
    /// No line is a signature of this key.
    #[error("it has no signature of this key")]
    Unsigned,
    /// The signature is not that of the text.
    #[error("its signature is not that of its text")]
    Forged,
}

impl SigningKey {
    /// A new key, as PKCS#8: a secret.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Vec<u8>, KeyError> {
        let key =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        Ok(key.as_ref().to_vec())
    }

    /// The key in PKCS#8, under a name.
    ///
    /// # Errors
    /// When it is none, or the name cannot be one.
    pub fn new(name: &str, pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError::Format)?;
        let public = VerifyingKey::new(name, pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The key that verifies what this one signs.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// A note of a text, which ends with a line feed.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let mut line = self.public.hint().to_vec();
        line.extend_from_slice(signature.as_ref());
        let (name, line) = (&self.public.name, BASE64_STANDARD.encode(line));
        format!("{text}\n{SIGNATURE}{name} {line}\n")
    }
}

impl VerifyingKey {
    fn new(name: &str, key: &[u8]) -> Result<Self, KeyError> {
        if name.is_empty()
            || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
        {
            return Err(KeyError::Name);
        }
        Ok(Self {
            name: name.to_owned(),
            key: key.to_vec(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells it from other keys of its name.
    fn hint(&self) -> [u8; 4] {
        let mut data = format!("{}\n", self.name).into_bytes();
        data.push(ED25519_KEY);
        data.extend_from_slice(&self.key);
        let hash = sha256(&data);
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// `NAME+HASH+KEY`, as others write it.
    pub fn encode(&self) -> String {
        let mut key = vec![ED25519_KEY];
        key.extend_from_slice(&self.key);
        let (hint, key) = (crate::hex(&self.hint()), BASE64_STANDARD.encode(key));
        format!("{}+{hint}+{key}", self.name)
    }

    /// Reads `NAME+HASH+KEY`.
    ///
    /// # Errors
    /// When it has another form, or its hash is not that of the key.
    pub fn decode(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(hint), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Encoding);
        };
        let key = BASE64_STANDARD
            .decode(key)
            .map_err(|_| KeyError::Encoding)?;
        let key = match key.split_first() {
            Some((&ED25519_KEY, key)) if key.len() == 32 => key,
            Some(_) | None => return Err(KeyError::Encoding),
        };
        let key = Self::new(name, key)?;
        if crate::hex(&key.hint()) == hint {
            Ok(key)
        } else {
            Err(KeyError::Encoding)
        }
    }

    /// The text of a note that this key has signed. Signatures of other keys are passed over.
    ///
    /// # Errors
    /// When it has none, or a wrong one.
    pub fn verify<'n>(&self, note: &'n str) -> Result<&'n str, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed)?;
        let text = &note[..=text.len()];
        if signatures.is_empty() || !signatures.ends_with('\n') {
            return Err(NoteError::Malformed);
        }
        for line in signatures.lines() {
            let line = line.strip_prefix(SIGNATURE).ok_or(NoteError::Malformed)?;
            let (name, signature) = line.split_once(' ').ok_or(NoteError::Malformed)?;
            let signature = BASE64_STANDARD
                .decode(signature)
                .map_err(|_| NoteError::Malformed)?;
            let (hint, signature) = signature.split_at_checked(4).ok_or(NoteError::Malformed)?;
            if name != self.name || *hint != self.hint() {
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, &self.key);
            return match key.verify(text.as_bytes(), signature) {
                Ok(()) => Ok(text),
                Err(_) => Err(NoteError::Forged),
            };
        }
        Err(NoteError::Unsigned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Go's `golang.org/x/mod/sumdb/note`, which C2SP's format is.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn notes_of_others_are_verified() {
        let key = VerifyingKey::decode(KEY).unwrap();
        assert_eq!(key.encode(), KEY);
        assert!(key.verify(NOTE).unwrap().ends_with("your problem is.\n"));
        let changed = NOTE.replace("answer", "Answer");
        assert_eq!(key.verify(&changed), Err(NoteError::Forged));
    }

    #[test]
    fn only_the_own_signature_counts() {
        let key = |name| SigningKey::new(name, &SigningKey::generate().unwrap()).unwrap();
        let (one, other) = (key("one"), key("one"));
        let note = one.sign("text\n");
        assert_eq!(one.verifying_key().verify(&note), Ok("text\n"));
        assert_eq!(
            other.verifying_key().verify(&note),
            Err(NoteError::Unsigned)
        );
        let both = note.clone() + other.sign("text\n").split_once("\n\n").unwrap().1;
        assert_eq!(other.verifying_key().verify(&both), Ok("text\n"));
        for malformed in [
            "",
            "text\n",
            "text\n\n",
            "text\n\nno signature\n",
            &note[..note.len() - 1],
        ] {
            assert_eq!(
                one.verifying_key().verify(malformed),
                Err(NoteError::Malformed),
                "{malformed:?}"
            );
        }
        let again = VerifyingKey::decode(&one.verifying_key().encode()).unwrap();
        assert_eq!(&again, one.verifying_key());
        assert_eq!(
            VerifyingKey::decode("one+00000000+AQ=="),
            Err(KeyError::Encoding)
        );
        assert_eq!(
            SigningKey::new("a b", &SigningKey::generate().unwrap()).unwrap_err(),
            KeyError::Name
        );
        assert_eq!(SigningKey::new("a", b"key").unwrap_err(), KeyError::Format);
    }
}
