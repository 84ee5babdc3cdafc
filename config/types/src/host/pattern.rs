//! An exact host, or one wildcard within the leftmost label.

use std::{borrow::Cow, fmt};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{Host, HostError, MAX_LABEL, MAX_NAME, check_label, is_label_byte};

/// An exact host, or a name with one `*` in its leftmost label.
///
/// The `*` never matches a dot. As the whole label (`*.example.com`) it matches one label. As part of a
/// label (`wss*.slack.com`) it matches zero or more characters, so `wss.slack.com` and
/// `wss-primary.slack.com` both match. A partial wildcard matches no A-label (`xn--...`), because the
/// spelling of an A-label is unrelated to its name (RFC 9525, 6.3). At least two labels must follow the
/// wildcard's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Exact(Host),
    Wildcard(Wildcard),
}

/// `before*after.suffix`; `before` and `after` are both empty if `*` is the whole label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wildcard {
    before: Box<str>,
    after: Box<str>,
    suffix: Box<str>,
}

impl HostPattern {
    /// Parses a pattern as operators write it. U-labels are turned into A-labels.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let Some(star) = text.find('*') else {
            return Ok(Self(Kind::Exact(parse_written(text)?)));
        };
        let (before, rest) = (&text[..star], &text[star + 1..]);
        if rest.contains('*') {
            return Err(HostError("a pattern can have only one `*`"));
        }
        if before.contains('.') {
            return Err(HostError("`*` is only allowed in the leftmost label"));
        }
        let (after, suffix) = rest
            .split_once('.')
            .ok_or(HostError("a domain must follow the label with `*`"))?;
        let suffix = match parse_written(suffix)? {
            Host::Name(name) if name.contains('.') => name,
            Host::Name(_) => {
                return Err(HostError(
                    "at least two labels must follow the label with `*`",
                ));
            }
            Host::Ip(_) => return Err(HostError("an address cannot have a wildcard")),
        };
        let wildcard = Wildcard {
            before: before.to_ascii_lowercase().into(),
            after: after.to_ascii_lowercase().into(),
            suffix: (&*suffix).into(),
        };
        wildcard.check()?;
        Ok(Self(Kind::Wildcard(wildcard)))
    }

    /// Whether `host` matches. Does not allocate.
    pub fn matches(&self, host: &Host) -> bool {
        match (&self.0, host) {
            (Kind::Exact(exact), host) => exact == host,
            (Kind::Wildcard(wildcard), Host::Name(name)) => {
                name.split_once('.').is_some_and(|(label, suffix)| {
                    *wildcard.suffix == *suffix && wildcard.matches_label(label)
                })
            }
            (Kind::Wildcard(_), Host::Ip(_)) => false,
        }
    }

    /// The host, if the pattern matches exactly one.
    pub fn exact(&self) -> Option<&Host> {
        match &self.0 {
            Kind::Exact(host) => Some(host),
            Kind::Wildcard(_) => None,
        }
    }

    /// The part to the right of the wildcard label, without a leading dot; `None` for an exact host.
    pub fn suffix(&self) -> Option<&str> {
        match &self.0 {
            Kind::Exact(_) => None,
            Kind::Wildcard(wildcard) => Some(&wildcard.suffix),
        }
    }

    /// Whether some host matches both. The result is exact in both directions.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::Exact(host), _) => other.matches(host),
            (_, Kind::Exact(host)) => self.matches(host),
            (Kind::Wildcard(one), Kind::Wildcard(two)) => one.common_label(two).is_some(),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exact(host) => host.fmt(f),
            Kind::Wildcard(Wildcard {
                before,
                after,
                suffix,
            }) => write!(f, "{before}*{after}.{suffix}"),
        }
    }
}

impl From<Host> for HostPattern {
    fn from(host: Host) -> Self {
        Self(Kind::Exact(host))
    }
}

impl Wildcard {
    fn is_whole_label(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    fn check(&self) -> Result<(), HostError> {
        if !self
            .before
            .bytes()
            .chain(self.after.bytes())
            .all(is_label_byte)
        {
            return Err(HostError(
                "a label with `*` can otherwise have only letters, digits, hyphens and underscores",
            ));
        }
        if self.before.starts_with('-') || self.after.ends_with('-') {
            return Err(HostError("a label cannot start or end with a hyphen"));
        }
        if self.before.starts_with("xn--") {
            return Err(HostError("`*` cannot be a part of an A-label (`xn--...`)"));
        }
        if self.common_label(self).is_none() {
            return Err(HostError("no host is short enough to match it"));
        }
        Ok(())
    }

    /// Whether a valid label matches.
    fn matches_label(&self, label: &str) -> bool {
        self.is_whole_label()
            || (label.len() >= self.before.len() + self.after.len()
                && label.starts_with(&*self.before)
                && label.ends_with(&*self.after)
                && !label.starts_with("xn--"))
    }

    /// Some label that matches both, if there is one.
    ///
    /// Such a label starts with the longer `before` and ends with the longer `after`. For each length
    /// that leaves one candidate, because any characters between them are free.
    fn common_label(&self, other: &Self) -> Option<String> {
        if self.suffix != other.suffix {
            return None;
        }
        let before = longer(&self.before, &other.before);
        let after = longer(&self.after, &other.after);
        let room = MAX_NAME.checked_sub(1 + self.suffix.len())?;
        (1..=room.min(MAX_LABEL))
            .filter_map(|length| join(before, after, length))
            .find(|label| {
                check_label(label).is_ok()
                    && self.matches_label(label)
                    && other.matches_label(label)
            })
    }
}

fn longer<'t>(one: &'t str, two: &'t str) -> &'t str {
    if one.len() >= two.len() { one } else { two }
}

/// The text of this length that starts with `before` and ends with `after`, which may share characters;
/// free characters are `a`.
fn join(before: &str, after: &str, length: usize) -> Option<String> {
    let gap = length.saturating_sub(before.len() + after.len());
    let shared = (before.len() + after.len()).saturating_sub(length);
    let rest = after.get(shared..)?;
    let text = format!("{before}{:a<gap$}{rest}", "");
    (text.len() == length && text.ends_with(after)).then_some(text)
}

/// Parses an exact host; operators may write U-labels.
fn parse_written(text: &str) -> Result<Host, HostError> {
    let ascii = if text.is_ascii() {
        Cow::Borrowed(text)
    } else {
        Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::EMPTY,
                Hyphens::CheckFirstLast,
                DnsLength::VerifyAllowRootDot,
            )
            .map_err(|_| HostError("it cannot be written in A-labels"))?
    };
    match Host::parse(&ascii)? {
        Host::Ip(_) if !text.is_ascii() => Err(HostError("an address must be written in ASCII")),
        host => Ok(host),
    }
}
