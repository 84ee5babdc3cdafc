//! Who has shown the token: sessions that are proven by their cookie and kept nowhere, and how often one may guess.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac::{self, HMAC_SHA256, Key},
    rand::SystemRandom,
};
use countersign_core::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// The cookie's name.
pub(crate) const COOKIE: &str = "countersign-console";

/// How long a session lasts.
pub(crate) const LIFE: SignedDuration = SignedDuration::from_hours(12);

/// How many wrong tokens are looked at in a row, and how soon another is.
const GUESSES: u32 = 20;
const NEXT_GUESS: Duration = Duration::from_secs(3);

/// Makes and checks cookies. The key is this process's own, so that a cookie tells nothing of the token, and a restart
/// ends all sessions; so does another token.
pub(crate) struct Sessions {
    key: Key,
}

impl Sessions {
    pub(crate) fn new() -> Option<Self> {
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).ok()?;
        Some(Self { key })
    }

    /// The value of a cookie for whoever has shown the token.
    pub(crate) fn cookie(&self, token: &Secret, now: Timestamp) -> String {
        let end = now
            .saturating_add(LIFE)
            .unwrap_or(Timestamp::MAX)
            .as_second();
        let tag = hmac::sign(&self.key, &message(end, token));
        let mut value = format!("{end}.");
        for byte in tag.as_ref() {
            let _ = write!(value, "{byte:02x}");
        }
        value
    }

    /// Whether a cookie's value is one of ours, for this token, and has not ended.
    pub(crate) fn is_valid(&self, value: &str, token: &Secret, now: Timestamp) -> bool {
        let Some((end, tag)) = value.split_once('.') else {
            return false;
        };
        let (Ok(end), Some(tag)) = (end.parse::<i64>(), unhex(tag)) else {
            return false;
        };
        let valid = hmac::verify(&self.key, &message(end, token), &tag).is_ok();
        valid && now.as_second() < end
    }
}

fn message(end: i64, token: &Secret) -> Vec<u8> {
    let mut message = end.to_be_bytes().to_vec();
    message.extend_from_slice(digest(&SHA256, token.expose().as_bytes()).as_ref());
    message
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || text.len() != 64 {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    (0..64).step_by(2).map(byte).collect()
}

/// Whether a text is the token, in a time that depends on neither.
pub(crate) fn is_token(shown: &str, token: &Secret) -> bool {
    let [shown, token] = [shown, token.expose()].map(|text| digest(&SHA256, text.as_bytes()));
    verify_slices_are_equal(shown.as_ref(), token.as_ref()).is_ok()
}

/// How many more wrong tokens are looked at; the same for all clients, since behind a port-forward all are one.
pub(crate) struct Guesses(Mutex<(u32, Instant)>);

impl Guesses {
    pub(crate) fn new() -> Self {
        Self(Mutex::new((GUESSES, Instant::now())))
    }

    /// Whether a token may be looked at now.
    pub(crate) fn may_try(&self) -> bool {
        self.left().0 > 0
    }

    /// Counts a wrong token.
    pub(crate) fn was_wrong(&self) {
        let mut left = self.left();
        left.0 = left.0.saturating_sub(1);
    }

    fn left(&self) -> std::sync::MutexGuard<'_, (u32, Instant)> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = left.1.elapsed().as_secs() / NEXT_GUESS.as_secs();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(GUESSES);
            left.0 = left.0.saturating_add(gained).min(GUESSES);
            left.1 = Instant::now();
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_cookie_is_for_its_token_its_time_and_its_process() {
        let sessions = Sessions::new().unwrap();
        let now: Timestamp = "2026-11-23T06:00:00Z".parse().unwrap();
        let token = secret("a-token-of-twenty-characters");
        let cookie = sessions.cookie(&token, now);
        assert!(sessions.is_valid(&cookie, &token, now));
        assert!(!cookie.contains("twenty"));
        assert!(!sessions.is_valid(&cookie, &secret("another"), now));
        assert!(!sessions.is_valid(&cookie, &token, now + LIFE));
        let other = Sessions::new().unwrap();
        assert!(!other.is_valid(&cookie, &token, now));
        let later = cookie.replacen(|c: char| c.is_ascii_digit(), "9", 1);
        assert!(!sessions.is_valid(&later, &token, now));
        for bad in ["", ".", "1.", "x.00", "9999999999.zz", "9999999999"] {
            assert!(!sessions.is_valid(bad, &token, now), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn guesses_are_few_and_come_back_slowly() {
        let guesses = Guesses::new();
        let mut tried = 0;
        while guesses.may_try() {
            guesses.was_wrong();
            tried += 1;
        }
        assert_eq!(tried, GUESSES);
        tokio::time::advance(NEXT_GUESS).await;
        assert!(guesses.may_try());
        guesses.was_wrong();
        assert!(!guesses.may_try());
    }

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let token = secret("a-token-of-twenty-characters");
        assert!(is_token("a-token-of-twenty-characters", &token));
        for other in [
            "",
            "a-token-of-twenty-character",
            "A-token-of-twenty-characters",
        ] {
            assert!(!is_token(other, &token), "{other}");
        }
    }
}
