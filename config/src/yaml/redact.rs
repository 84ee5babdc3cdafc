//! What may be shown of a file. A finding must help without repeating a secret that somebody pasted
//! where a reference belongs.
//!
//! Three rules, each of which hides too much rather than too little: the value of a secret-like key is
//! shown only if it is a reference; so is everything below such a key; and text that looks like a
//! credential is hidden everywhere. The rules work on lines, so they also apply to text that is not
//! valid YAML.

use countersign_types::{
    secret_forms::{JWT, LEAST_AFTER_PREFIX, TOKEN_PREFIXES, WEBHOOKS},
    shown::disturbs,
};

/// The replacement for hidden text.
const HIDDEN: char = '…';
/// Longer lines are cut.
const LONGEST_LINE: usize = 160;
/// How many lines above are searched for a secret-like key. If that is not enough, the line is hidden.
const MOST_ABOVE: usize = 10_000;
/// How many bytes at the end of each of these lines are searched.
const LONGEST_ABOVE: usize = 4096;
/// Words in the names of secrets.
const SECRET_WORDS: [&str; 7] = [
    "token",
    "secret",
    "password",
    "passwd",
    "apikey",
    "api_key",
    "privatekey",
];
/// The word after one of these is a secret, as after a webhook's address.
const SCHEMES: [&str; 2] = ["Bearer ", "Basic "];

/// The line with this number (from 1) as it may be shown; empty if it does not exist.
pub(crate) fn line(whole: &str, number: usize) -> String {
    let mut end = 0;
    let mut ends = whole.split_inclusive('\n').map(|line| {
        end += line.len();
        end
    });
    let before = match number.checked_sub(2) {
        Some(skipped) => ends.nth(skipped),
        None => Some(0),
    };
    match before.map(|before| whole.split_at(before)) {
        Some((before, rest)) if number > 0 && !rest.is_empty() => {
            let line = rest.lines().next().unwrap_or_default();
            text(&by_keys(line, before))
        }
        _ => String::new(),
    }
}

/// A text that is not a line of a file, such as a message: what looks like a credential is hidden, and
/// what would disturb a terminal, including line ends, is replaced.
pub(crate) fn text(text: &str) -> String {
    let text = by_introducers(beginning(text));
    let text = by_shape(&text);
    let mut shown: String = text
        .chars()
        .map(|c| if disturbs(c) { '\u{fffd}' } else { c })
        .collect();
    if let Some((cut, _)) = shown.char_indices().nth(LONGEST_LINE * 4) {
        shown.truncate(cut);
        shown.push(HIDDEN);
    }
    shown
}

/// The part of a text that can be shown, and enough beyond it to recognise a secret that is cut off.
fn beginning(text: &str) -> &str {
    const ENOUGH: usize = LONGEST_LINE * 32;
    &text[..text.floor_char_boundary(ENOUGH)]
}

fn by_keys(line: &str, before: &str) -> String {
    let line = match line.char_indices().nth(LONGEST_LINE) {
        Some((cut, _)) => &line[..cut],
        None => line,
    };
    for key in keys(line) {
        let value = line[key.end..].trim_start();
        if is_secret_like(key.name) && !is_shown(value) {
            return hide_from(line, line.len() - value.len());
        }
    }
    if !beneath_secret(line, before) {
        return line.to_owned();
    }
    match keys(line).next() {
        Some(key) if is_part_of_reference(&key, line) => line.to_owned(),
        Some(key) => hide_from(line, key.end + 1),
        None => hide_from(line, indent(line)),
    }
}

/// Whether the value of a secret-like key may be shown: it is empty, or a reference in braces that has
/// only the keys of a reference.
fn is_shown(value: &str) -> bool {
    if value.is_empty() || value.starts_with('#') {
        return true;
    }
    let Some(inner) = value.strip_prefix('{') else {
        return false;
    };
    let mut depth = 1_usize;
    let end = inner.find(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let inner = &inner[..end.unwrap_or(inner.len())];
    let mut found = keys(inner).peekable();
    found.peek().is_some() && found.all(|key| is_part_of_reference(&key, inner))
}

/// Whether a key and its value belong to a reference. A secret that was pasted as the path of a file, or
/// for the mapping that names a Kubernetes Secret, does not.
fn is_part_of_reference(key: &KeyAt<'_>, line: &str) -> bool {
    let value = line[key.end..].trim_start();
    let bare = value.trim_start_matches(['"', '\'']);
    let opens = value.is_empty() || value.starts_with('#');
    match key.name {
        "file" => opens || bare.starts_with(['/', '.']),
        "kubernetesSecret" | "vault" => opens || value.starts_with('{'),
        "name" | "path" | "key" => true,
        _ => false,
    }
}

/// Whether a line that encloses this one by indentation has a secret-like key, or the line directly
/// before ends with one.
fn beneath_secret(line: &str, before: &str) -> bool {
    let mut inner = indent(line);
    let mut nearest = true;
    let lines = before
        .lines()
        .rev()
        .filter(|above| !above.trim().is_empty());
    for (count, above) in lines.enumerate() {
        if count == MOST_ABOVE {
            return true;
        }
        let outer = indent(above);
        if outer < inner || nearest {
            // The end of a very long line.
            let above =
                &above[above.ceil_char_boundary(above.len().saturating_sub(LONGEST_ABOVE))..];
            if keys(above)
                .last()
                .is_some_and(|key| is_secret_like(key.name) && open_ended(&above[key.end..]))
            {
                return true;
            }
            inner = inner.min(outer);
        }
        nearest = false;
        if inner == 0 {
            return false;
        }
    }
    false
}

/// Whether a value continues in the lines below its key.
fn open_ended(value: &str) -> bool {
    let value = value.trim();
    value.is_empty() || value.starts_with(['#', '|', '>', '{', '[', '"', '\'', '&', '!'])
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-', '\t']).len()
}

struct KeyAt<'a> {
    name: &'a str,
    /// Directly after the colon.
    end: usize,
}

/// Everything in a line that looks like a key: a word, quoted or not, before a colon at the end of the
/// line or before a space.
fn keys(line: &str) -> impl Iterator<Item = KeyAt<'_>> {
    line.match_indices(':').filter_map(|(colon, _)| {
        let after = line[colon + 1..].chars().next();
        if after.is_some_and(|c| !c.is_whitespace() && !matches!(c, '"' | '\'' | '{' | '[')) {
            return None;
        }
        let word = line[..colon].trim_end();
        let bare = word.trim_end_matches(['"', '\'']);
        let start = bare
            .rfind(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.'))
            .map_or(0, |at| {
                at + bare[at..].chars().next().map_or(1, char::len_utf8)
            });
        let name = &bare[start..];
        (!name.is_empty()).then_some(KeyAt {
            name,
            end: colon + 1,
        })
    })
}

fn is_secret_like(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "");
    // The place of a secret is not secret.
    let harmless = key == "kubernetessecret"
        || key.starts_with("tokenreview")
        || ["file", "path", "url", "name", "key"].iter().any(|end| {
            key.ends_with(end) && key != "apikey" && key != "api_key" && key != "privatekey"
        });
    !harmless && SECRET_WORDS.iter().any(|word| key.contains(word))
}

fn hide_from(line: &str, at: usize) -> String {
    let at = at.min(line.len());
    let mut shown = line[..at].to_owned();
    if !shown.is_empty() && !shown.ends_with(char::is_whitespace) {
        shown.push(' ');
    }
    shown.push(HIDDEN);
    shown
}

fn by_introducers(text: &str) -> String {
    let mut shown = text.to_owned();
    for introducer in WEBHOOKS.into_iter().chain(SCHEMES) {
        let mut from = 0;
        while let Some(found) = shown[from..].find(introducer) {
            let start = from + found + introducer.len();
            let end = word_end(&shown, start);
            // `Bearer {token}` in a target is a template, not a secret.
            if end - start >= 8 && !shown[start..].starts_with('{') {
                shown.replace_range(start..end, &HIDDEN.to_string());
            }
            from = start;
        }
    }
    // `https://user:password@host`
    let mut from = 0;
    while let Some(found) = shown[from..].find("://") {
        let start = from + found + 3;
        let end = word_end(&shown, start);
        let authority = shown[start..end].split('/').next().unwrap_or_default();
        if let Some(at) = authority.rfind('@') {
            shown.replace_range(start..start + at, &HIDDEN.to_string());
        }
        from = start;
    }
    shown
}

fn word_end(text: &str, start: usize) -> usize {
    text[start..]
        .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '}' | ']'))
        .map_or(text.len(), |length| start + length)
}

/// Hides words that look like credentials: a known prefix, a JWT, or a long run of letters and digits
/// that is not a digest.
fn by_shape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(length);
        shown.push_str(&hide_word(word, shown.ends_with("sha256:")));
        let mut tail = tail.chars();
        shown.extend(tail.next());
        rest = tail.as_str();
    }
    shown
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '=' | '~')
}

fn hide_word(word: &str, is_digest: bool) -> String {
    for prefix in TOKEN_PREFIXES {
        if let Some(at) = word.find(prefix) {
            let end = at + prefix.len();
            if word.len() - end >= LEAST_AFTER_PREFIX {
                return format!("{}{HIDDEN}", &word[..end]);
            }
        }
    }
    if word.len() >= 20 && word.starts_with(JWT) {
        return HIDDEN.to_string();
    }
    if is_digest {
        return word.to_owned();
    }
    let hidden = word.split(['-', '.']).any(|run| {
        run.len() >= 20
            && run.bytes().any(|b| b.is_ascii_digit())
            && run.bytes().any(|b| b.is_ascii_alphabetic())
    });
    if hidden {
        HIDDEN.to_string()
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests;
