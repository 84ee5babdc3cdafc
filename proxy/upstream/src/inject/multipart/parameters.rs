//! The parameters of a header such as `form-data; name="a"; filename="b"`. What servers could read in more
//! than one way is an error.

/// What servers do not agree about.
pub(super) const UNCLEAR: &str = "a header of a part has more than one reading";

/// A value without its parameters, and the parameters in their order: names as they are written.
pub(super) type Parsed<'h> = (&'h str, Vec<(&'h str, &'h str)>);

/// Splits a header's value.
///
/// # Errors
/// For a parameter that is not `name=token` or `name="text"`, and for a backslash before a quote: to some
/// servers the text ends there, to others it does not.
pub(super) fn parse(header: &str) -> Result<Parsed<'_>, &'static str> {
    let (value, mut rest) = header.split_once(';').unwrap_or((header, ""));
    let mut parameters = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Ok((value.trim(), parameters));
        }
        let (name, behind) = rest.split_once('=').ok_or(UNCLEAR)?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(UNCLEAR);
        }
        let (text, behind) = if let Some(quoted) = behind.strip_prefix('"') {
            quoted.split_once('"').ok_or(UNCLEAR)?
        } else {
            let end = behind.find([';', ' ', '\t']).unwrap_or(behind.len());
            let (text, behind) = behind.split_at(end);
            if !is_plain(text) {
                return Err(UNCLEAR);
            }
            (text, behind)
        };
        if text.ends_with('\\') {
            return Err(UNCLEAR);
        }
        parameters.push((name, text));
        rest = behind.trim_start_matches([' ', '\t']);
        if !rest.is_empty() {
            rest = rest.strip_prefix(';').ok_or(UNCLEAR)?;
        }
    }
}

/// The only parameter of this name, where nothing else in the header reads like one: not a parameter in
/// another form (`name*`, `name*0`), and nothing within another's text.
pub(super) fn only<'h>(
    header: &str,
    parameters: &[(&'h str, &'h str)],
    wanted: &str,
) -> Result<&'h str, &'static str> {
    let mut found = None;
    // `filename=` ends in `name=`, too.
    let mut written = 0;
    for (name, text) in parameters {
        let name = name.to_ascii_lowercase();
        if name == wanted {
            if found.replace(*text).is_some() {
                return Err("a parameter of a header is there twice");
            }
        } else if name.starts_with(wanted) {
            return Err("a parameter of a header is extended (`*`)");
        }
        written += usize::from(name.trim_end_matches('*').ends_with(wanted));
    }
    let header = header.to_ascii_lowercase();
    let seen: usize = [format!("{wanted}="), format!("{wanted}*")]
        .iter()
        .map(|text| header.matches(text.as_str()).count())
        .sum();
    if seen != written {
        return Err(UNCLEAR);
    }
    found.ok_or("a parameter of a header is missing")
}

/// A token's character (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A text without quotes. Some clients leave them out where a token has other characters.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"\\,".contains(&byte))
}
