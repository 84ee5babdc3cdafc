//! Attestations of OCSF's profile `record_integrity`: each event has its fingerprint, and that of the one before it.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::{canonical, hex};

/// Events that belong together: those of one class that one process writes to one place.
#[derive(Debug, Clone)]
pub struct EventChain {
    uid: String,
    authority: String,
    sequence: u64,
    previous: Option<Value>,
}

impl EventChain {
    /// A chain without events; no other chain has its `uid`. `authority` is who writes it, such as a gateway's name.
    pub fn new(uid: String, authority: &str) -> Self {
        Self {
            uid,
            authority: authority.to_owned(),
            sequence: 0,
            previous: None,
        }
    }

    /// Adds the attestation, whose fingerprint is of the event as canonical JSON (RFC 8785) without the fingerprint.
    pub(super) fn attest(&mut self, event: &mut Value) {
        let uid = format!("{}:{}", self.uid, self.sequence);
        let mut attestation = json!({
            "uid": uid, "chain_uid": self.uid, "authority_uid": self.authority,
        });
        if let Some(previous) = &self.previous {
            attestation["prev_event"] = previous.clone();
        }
        event["attestation_list"] = json!([attestation]);
        // Numbers that canonical JSON does not keep are in no event.
        let Ok(content) = canonical(event) else {
            return;
        };
        let fingerprint = json!({
            "algorithm_id": 3, "algorithm": "SHA-256", "encoding_id": 1, "serialization_id": 2,
            "value": hex(digest(&SHA256, &content).as_ref()),
        });
        event["attestation_list"][0]["fingerprint"] = fingerprint.clone();
        let mut previous = json!({ "type_uid": event["type_uid"], "fingerprint": fingerprint });
        if event["metadata"]["uid"].is_string() {
            previous["uid"] = event["metadata"]["uid"].clone();
        }
        self.previous = Some(previous);
        self.sequence += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_was_changed_or_taken_out_is_noticed() {
        let mut chain = EventChain::new("chain".to_owned(), "main");
        let mut events = [1, 2, 3]
            .map(|uid| json!({ "type_uid": 300_399, "metadata": { "uid": uid.to_string() } }));
        for event in &mut events {
            chain.attest(event);
        }
        let check = |event: &Value| {
            let mut event = event.clone();
            let attestation = &mut event["attestation_list"][0];
            let fingerprint = attestation.as_object_mut().unwrap().remove("fingerprint");
            let content = canonical(&event).unwrap();
            fingerprint.unwrap()["value"] == hex(digest(&SHA256, &content).as_ref())
        };
        assert!(events.iter().all(check));
        let [first, second, _] = &events;
        let link = &second["attestation_list"][0]["prev_event"];
        assert_eq!(link["uid"], "1");
        assert_eq!(
            link["fingerprint"],
            first["attestation_list"][0]["fingerprint"]
        );
        let mut changed = second.clone();
        changed["type_uid"] = json!(400_206);
        assert!(!check(&changed));
    }
}
