//! The latest lines, for the admin endpoint: whoever looks for a refusal by its id, or watches what comes, need not
//! reach the file or the collector.
//!
//! Filled by the log's own thread with what it has just written; no request waits for it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

/// The most bytes of lines that are kept: some two thousand records.
pub(in crate::observe) const RECENT_BYTES: usize = 2 * 1024 * 1024;

/// What a batch takes besides its lines.
const OVERHEAD: usize = 64;

/// The latest lines, the oldest first.
#[derive(Debug, Default)]
pub(in crate::observe) struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Bytes>,
    bytes: usize,
    /// How many batches there ever were.
    count: u64,
}

impl Recent {
    /// Keeps whole lines, and forgets the oldest instead.
    pub(super) fn push(&self, lines: Bytes) {
        if lines.is_empty() {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += lines.len() + OVERHEAD;
        kept.count += 1;
        kept.batches.push_back(lines);
        while kept.bytes > RECENT_BYTES
            && let Some(oldest) = kept.batches.pop_front()
        {
            kept.bytes -= oldest.len() + OVERHEAD;
        }
    }

    /// The lines that came after the batch of a number, as far as they are kept; and the number for the next call.
    /// They are shared and not copied, so that the log's thread does not wait.
    pub(in crate::observe) fn after(&self, number: u64) -> (VecDeque<Bytes>, u64) {
        let kept = self.kept();
        let gone = kept.count - kept.batches.len() as u64;
        // A number from before a restart is larger than all there are.
        let known = if number > kept.count { 0 } else { number };
        let skipped = usize::try_from(known.saturating_sub(gone)).unwrap_or(usize::MAX);
        let lines = kept.batches.iter().skip(skipped).cloned();
        (lines.collect(), kept.count)
    }

    /// The record of an id, which is a UUID as it is written in lines.
    pub(in crate::observe) fn find(&self, id: &str) -> Option<Bytes> {
        let wanted = format!("\"id\":\"{id}\"");
        let (batches, _) = self.after(0);
        batches.iter().rev().find_map(|batch| {
            let at = memchr::memmem::find(batch, wanted.as_bytes())?;
            let start = memchr::memrchr(b'\n', &batch[..at]).map_or(0, |end| end + 1);
            let end = memchr::memchr(b'\n', &batch[at..])?;
            Some(batch.slice(start..=at + end))
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[u8]) -> &str {
        std::str::from_utf8(lines).unwrap()
    }

    /// The lines after a number as one text, and the next number.
    fn after(recent: &Recent, number: u64) -> (Vec<u8>, u64) {
        let (batches, next) = recent.after(number);
        (batches.iter().flatten().copied().collect(), next)
    }

    fn push(recent: &Recent, lines: &[u8]) {
        recent.push(Bytes::copy_from_slice(lines));
    }

    #[test]
    fn each_line_is_given_once_to_who_asks_for_what_is_new() {
        let recent = Recent::default();
        assert_eq!(after(&recent, 0), (Vec::new(), 0));
        push(&recent, b"one\ntwo\n");
        let (lines, next) = after(&recent, 0);
        assert_eq!(text(&lines), "one\ntwo\n");
        push(&recent, b"three\n");
        let (lines, next) = after(&recent, next);
        assert_eq!(text(&lines), "three\n");
        assert_eq!(after(&recent, next).0, b"");
        // The gateway was restarted: its numbers begin anew.
        assert_eq!(after(&recent, 700).0, b"one\ntwo\nthree\n");
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_the_latest() {
        let recent = Recent::default();
        let line = [b'x'; 1000];
        for _ in 0..10_000 {
            push(&recent, &line);
        }
        push(&recent, b"last\n");
        let (lines, next) = after(&recent, 0);
        assert!(lines.len() <= RECENT_BYTES && lines.len() > RECENT_BYTES / 2);
        assert!(lines.ends_with(b"last\n"));
        assert_eq!(next, 10_001);
        // Who fell behind gets what is left.
        assert_eq!(after(&recent, 5).0.len(), lines.len());
    }

    #[test]
    fn a_record_is_found_by_its_id() {
        let recent = Recent::default();
        push(
            &recent,
            b"{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":2}\n{\"id\":\"c\",\"n\":3}\n",
        );
        assert_eq!(text(&recent.find("b").unwrap()), "{\"id\":\"b\",\"n\":2}\n");
        assert_eq!(text(&recent.find("a").unwrap()), "{\"id\":\"a\",\"n\":1}\n");
        assert_eq!(recent.find("d"), None);
    }

    #[test]
    fn what_is_given_out_is_what_is_kept() {
        let recent = Recent::default();
        let lines = Bytes::from_static(b"{\"id\":\"a\"}\n{\"id\":\"b\"}\n");
        recent.push(lines.clone());
        assert_eq!(recent.after(0).0[0].as_ptr(), lines.as_ptr());
        assert_eq!(recent.find("b").unwrap().as_ptr(), lines[11..].as_ptr());
    }
}
