//! Channels: messages posted and read.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Outcome, arguments::Arguments, members, methods::BOT_USER};

#[derive(Default)]
pub(super) struct Chat {
    channels: Mutex<HashMap<String, Vec<Value>>>,
}

impl Chat {
    /// `chat.postMessage`.
    pub(super) fn post(&self, arguments: &Arguments, now: Timestamp) -> Outcome {
        let channel = channel(arguments)?;
        let text = arguments.text("text").unwrap_or_default();
        let blocks = arguments.text("blocks").or(arguments.text("attachments"));
        if text.is_empty() && blocks.is_none() {
            return Err("no_text".into());
        }
        let message = self.add(channel, text, now);
        Ok(members(json!({
            "channel": channel,
            "ts": message["ts"],
            "message": message,
        })))
    }

    /// `conversations.history`: newest first, in pages.
    pub(super) fn history(&self, arguments: &Arguments) -> Outcome {
        let channel = channel(arguments)?;
        let limit = match arguments.number("limit").map_err(|_| "invalid_limit")? {
            None => 100,
            Some(limit @ 1..=999) => limit,
            Some(_) => return Err("invalid_limit".into()),
        };
        let start: u64 = match arguments.text("cursor") {
            None => 0,
            Some(cursor) => cursor
                .strip_prefix("next:")
                .and_then(|place| place.parse().ok())
                .ok_or("invalid_cursor")?,
        };
        let channels = self.lock();
        let all = channels.get(channel).map(Vec::as_slice).unwrap_or_default();
        let page: Vec<&Value> = all
            .iter()
            .rev()
            .skip(usize::try_from(start).unwrap_or(usize::MAX))
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect();
        let end = start + page.len() as u64;
        let has_more = end < all.len() as u64;
        let cursor = if has_more {
            format!("next:{end}")
        } else {
            String::new()
        };
        Ok(members(json!({
            "messages": page,
            "has_more": has_more,
            "pin_count": 0,
            "response_metadata": {"next_cursor": cursor},
        })))
    }

    /// Adds a message and returns it.
    pub(super) fn add(&self, channel: &str, text: &str, now: Timestamp) -> Value {
        let mut channels = self.lock();
        let messages = channels.entry(channel.to_owned()).or_default();
        let message = json!({
            "type": "message",
            "user": BOT_USER,
            "bot_id": "B0KRD7HC4",
            "text": text,
            "ts": format!("{}.{:06}", now.as_second(), messages.len() + 1),
        });
        messages.push(message.clone());
        message
    }

    pub(super) fn texts(&self, channel: &str) -> Vec<String> {
        let channels = self.lock();
        let messages = channels.get(channel).map(Vec::as_slice).unwrap_or_default();
        messages
            .iter()
            .map(|message| message["text"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Value>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Any channel, group or direct-message id exists.
fn channel(arguments: &Arguments) -> Result<&str, &'static str> {
    let channel = arguments.text("channel").ok_or("channel_not_found")?;
    if channel.starts_with(['C', 'D', 'G', '#']) {
        Ok(channel)
    } else {
        Err("channel_not_found")
    }
}
