//! The `integrity` of a line: put there by the log, and read back.

use serde_json::Value;

use crate::{
    hex,
    jcs::canonical,
    tree::{Frontier, Hash, leaf_hash, sha256},
};

/// The member of a line.
const MEMBER: &str = "integrity";

/// What a line says of its place in its chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Integrity {
    /// The chain.
    pub chain: String,
    /// The place in it, from 0.
    pub sequence: u64,
    /// The fingerprint of the line before it; for the first line that of the chain before, if there was one.
    pub previous: Option<String>,
    /// Its own fingerprint.
    pub fingerprint: String,
}

/// Why a line has no valid integrity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is not a JSON object on one line.
    #[error("it is no JSON object")]
    NoObject,
    /// It has no `integrity`.
    #[error("it has no `integrity`")]
    Unsealed,
    /// Its `integrity` lacks something, or a number is not whole.
    #[error("its `integrity` is malformed")]
    Malformed,
    /// It was changed.
    #[error("it was changed: its content is not that of its fingerprint")]
    Changed,
}

/// A chain that lines are appended to. Cheap to clone, so that lines which could not be written are taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    name: String,
    previous: Option<String>,
    tree: Frontier,
}

impl Chain {
    /// A new chain, which follows another whose last fingerprint is known.
    pub fn new(name: impl Into<String>, previous: Option<String>) -> Self {
        Self {
            name: name.into(),
            previous,
            tree: Frontier::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lines so far.
    pub fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The fingerprint of the last line.
    pub fn last(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// Appends a line (without its line feed) to `out`, sealed and with a line feed.
    ///
    /// # Errors
    /// When it is no JSON object, or has numbers that canonical JSON does not keep. Then nothing is appended.
    pub fn seal(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let mut value: Value = serde_json::from_slice(line).map_err(|_| SealError::NoObject)?;
        let members = value.as_object_mut().ok_or(SealError::NoObject)?;
        let sequence = self.tree.size();
        let integrity = serde_json::json!({
            "chain": self.name, "sequence": sequence, "previous": self.previous,
        });
        members.insert(MEMBER.to_owned(), integrity);
        let data = canonical(&value).map_err(|_| SealError::Malformed)?;
        let fingerprint = hex(&sha256(&data));
        self.tree.push(leaf_hash(&data));
        let body = line.strip_suffix(b"}").ok_or(SealError::NoObject)?;
        out.extend_from_slice(body);
        out.extend_from_slice(b",\"integrity\":{\"chain\":\"");
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(format!("\",\"sequence\":{sequence},\"previous\":").as_bytes());
        match &self.previous {
            Some(previous) => out.extend_from_slice(format!("\"{previous}\"").as_bytes()),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(format!(",\"fingerprint\":\"{fingerprint}\"}}}}\n").as_bytes());
        self.previous = Some(fingerprint);
        Ok(())
    }
}

/// The integrity of a line, checked against its content; and the hash of its leaf.
///
/// # Errors
/// When it has none, or the content is another.
pub fn read(line: &[u8]) -> Result<(Integrity, Hash), SealError> {
    let (integrity, value) = split(line)?;
    let data = canonical(&value).map_err(|_| SealError::Malformed)?;
    if hex(&sha256(&data)) == integrity.fingerprint {
        Ok((integrity, leaf_hash(&data)))
    } else {
        Err(SealError::Changed)
    }
}

/// What a line says of its place, whether or not its content is what it was.
pub fn claimed(line: &[u8]) -> Option<Integrity> {
    split(line).ok().map(|(integrity, _)| integrity)
}

/// The integrity, and the line without its fingerprint.
fn split(line: &[u8]) -> Result<(Integrity, Value), SealError> {
    let mut value: Value = serde_json::from_slice(line).map_err(|_| SealError::NoObject)?;
    let members = value.as_object_mut().ok_or(SealError::NoObject)?;
    let sealed = members.get_mut(MEMBER).ok_or(SealError::Unsealed)?;
    let sealed = sealed.as_object_mut().ok_or(SealError::Malformed)?;
    let Some(Value::String(fingerprint)) = sealed.remove("fingerprint") else {
        return Err(SealError::Malformed);
    };
    let text = |name: &str| sealed.get(name).and_then(Value::as_str).map(str::to_owned);
    let integrity = Integrity {
        chain: text("chain").ok_or(SealError::Malformed)?,
        sequence: sealed
            .get("sequence")
            .and_then(Value::as_u64)
            .ok_or(SealError::Malformed)?,
        previous: text("previous"),
        fingerprint,
    };
    Ok((integrity, value))
}

/// The hash of a line's leaf.
///
/// # Errors
/// As for [`read`].
pub fn leaf(line: &[u8]) -> Result<Hash, SealError> {
    Ok(read(line)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = br#"{"schema":"countersign.decision/v1","id":"1","target":{"path":"/a\u2028b","name":null},"n":[1,2]}"#;

    fn sealed(chain: &mut Chain, line: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        chain.seal(line, &mut out).unwrap();
        assert_eq!(out.pop(), Some(b'\n'));
        out
    }

    #[test]
    fn a_sealed_line_says_where_it_belongs() {
        let mut chain = Chain::new("0194f3c1", Some("before".into()));
        let (one, two) = (sealed(&mut chain, LINE), sealed(&mut chain, LINE));
        assert!(
            one.starts_with(&LINE[..LINE.len() - 1]),
            "what was there stays as it was"
        );
        let (first, _) = read(&one).unwrap();
        let (second, leaf) = read(&two).unwrap();
        assert_eq!(
            (first.sequence, first.previous.as_deref()),
            (0, Some("before"))
        );
        assert_eq!(
            (second.sequence, second.previous.as_deref()),
            (1, Some(&*first.fingerprint))
        );
        assert_eq!(chain.last(), Some(&*second.fingerprint));
        let mut tree = Frontier::default();
        tree.push(read(&one).unwrap().1);
        tree.push(leaf);
        assert_eq!(&tree, chain.tree());
    }

    #[test]
    fn another_order_of_keys_is_the_same_line_and_any_other_change_is_found() {
        let line = sealed(&mut Chain::new("c", None), LINE);
        let value: Value = serde_json::from_slice(&line).unwrap();
        let rewritten = canonical(&value).unwrap();
        assert_ne!(rewritten, line);
        assert_eq!(read(&rewritten), read(&line));
        let text = String::from_utf8(line).unwrap();
        for (from, to) in [
            (r#""id":"1""#, r#""id":"2""#),
            ("[1,2]", "[2,1]"),
            (r#""name":null"#, r#""name":"x""#),
            (r#""sequence":0"#, r#""sequence":1"#),
            (r#""previous":null"#, r#""previous":"x""#),
            (r#""n":"#, r#""more":1,"n":"#),
            (r#""chain":"c""#, r#""chain":"d""#),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert_eq!(read(changed.as_bytes()), Err(SealError::Changed), "{from}");
        }
        assert_eq!(read(LINE), Err(SealError::Unsealed));
        assert_eq!(read(b"[]"), Err(SealError::NoObject));
    }
}
