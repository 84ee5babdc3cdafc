//! Foreign text on a terminal or in a log: whatever could move the cursor, change colours, forge a line
//! or reverse text is escaped. This is the only set of such characters.

use std::{borrow::Cow, path::Path};

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

    #[test]
    fn t72_lines_stay_lines() {
        assert_eq!(escaped_lines("a\n\tb\u{1b}\r"), "a\n\tb\\u{1b}\\u{d}");
    }
}
