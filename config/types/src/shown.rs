//! Foreign text on a terminal or in a log: whatever could move the cursor, change colours, forge a line
//! or reverse text is escaped. This is the only set of such characters.

use std::{borrow::Cow, io, path::Path};

/// Whether a character must not reach a terminal: controls (C1 and DEL too), line separators, characters
/// without width, and those that change the direction of text.
pub fn disturbs(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

/// A text for the middle of a line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, disturbs)
}

/// A text of several lines; line ends stay.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escape(text, disturbs_lines)
}

/// Whether a character must not occur in a text of several lines.
pub fn disturbs_lines(character: char) -> bool {
    disturbs(character) && !matches!(character, '\n' | '\t')
}

/// The name of a file.
pub fn path(path: &Path) -> String {
    escaped(&path.display().to_string()).into_owned()
}

/// What an error of the system says, or whoever made it up, in words: without the system's number for it.
pub fn io_error(error: &io::Error) -> String {
    if let Some(ours) = error.get_ref() {
        return match ours.downcast_ref() {
            Some(within) => io_error(within),
            None => without_numbers(&ours.to_string()).into_owned(),
        };
    }
    let kind = error.kind().to_string();
    if kind == UNKNOWN_KIND {
        return without_numbers(&error.to_string()).into_owned();
    }
    kind
}

/// What the standard library says of an error that it has no kind for.
const UNKNOWN_KIND: &str = "uncategorized error";

/// A text without the numbers of the system's errors, which mean nothing to a reader.
pub fn without_numbers(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = " (os error ";
    let mut parts = text.split(BEGIN);
    let first = parts.next().unwrap_or_default();
    if first.len() == text.len() {
        return Cow::Borrowed(text);
    }
    let mut shown = first.to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        match rest.strip_prefix(')') {
            Some(rest) if rest.len() + 1 < part.len() => shown.push_str(rest),
            Some(_) | None => shown.extend([BEGIN, part]),
        }
    }
    Cow::Owned(shown)
}

fn escape(text: &str, disturbs: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(disturbs) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if disturbs(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("qa/ex\u{e4}mple \u{1f600}", "qa/ex\u{e4}mple \u{1f600}")]
    #[case::escape("\u{1b}[31mred", "\\u{1b}[31mred")]
    #[case::c1("\u{9b}31m", "\\u{9b}31m")]
    #[case::delete("a\u{7f}", "a\\u{7f}")]
    #[case::lines("a\nb\tc\r", "a\\u{a}b\\u{9}c\\u{d}")]
    #[case::direction("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}")]
    #[case::no_width("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}")]
    #[case::separator("a\u{2028}b", "a\\u{2028}b")]
    fn t72_what_disturbs_is_escaped(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(escaped(text), expected);
        assert_eq!(path(Path::new(text)), expected);
    }

    #[rstest]
    #[case::none("as it is", "as it is")]
    #[case::one("No such file (os error 2)", "No such file")]
    #[case::two("a (os error 2): b (os error 13), c", "a: b, c")]
    #[case::no_number("a (os error )", "a (os error )")]
    #[case::no_end("a (os error 2", "a (os error 2")]
    fn the_systems_numbers_are_left_out(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(without_numbers(text), expected);
    }

    #[test]
    fn an_error_of_the_system_is_told_in_words() {
        let refused = || io::Error::from_raw_os_error(111);
        assert_eq!(io_error(&refused()), "connection refused");
        // EMFILE has no kind.
        assert_eq!(
            io_error(&io::Error::from_raw_os_error(24)),
            "Too many open files"
        );
        assert_eq!(io_error(&io::Error::other("it is ours")), "it is ours");
        assert_eq!(io_error(&io::Error::other(refused())), "connection refused");
        let quoted = format!("it said: {}", refused());
        assert_eq!(
            io_error(&io::Error::other(quoted)),
            "it said: Connection refused"
        );
    }

    #[test]
    fn t72_lines_stay_lines() {
        assert_eq!(escaped_lines("a\n\tb\u{1b}\r"), "a\n\tb\\u{1b}\\u{d}");
    }
}
