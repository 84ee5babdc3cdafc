//! Placeholders of template languages that nobody filled in. A file with one of them was meant for Helm,
//! `envsubst` or a pipeline first; loaded as it is, its names match nothing.

/// The placeholder in a text, if there is one.
///
/// Our own templates have single braces (`{token}`), and a `$` alone is not one: conditions may have regular
/// expressions.
pub(crate) fn find(text: &str) -> Option<&str> {
    if !text.contains(['{', '$', '%', '<']) {
        return None;
    }
    ENCLOSED
        .iter()
        .find_map(|(open, close, inner)| enclosed(text, open, close, *inner))
        .or_else(|| variable(text))
}

/// What may be between the two ends of a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inner {
    Anything,
    /// `SERVICE_ACCOUNT`, `.Values.name`, `name`
    Name,
    /// At least three capitals, digits and `_`, because `%C3%` is the beginning of an encoded character.
    Capitals,
}

/// Helm, Jinja and others; ERB; shells; Kubernetes and Make; pipelines; Windows.
const ENCLOSED: [(&str, &str, Inner); 7] = [
    ("{{", "}}", Inner::Anything),
    ("{%", "%}", Inner::Anything),
    ("<%", "%>", Inner::Anything),
    ("${", "}", Inner::Anything),
    ("$(", ")", Inner::Name),
    ("#{", "}", Inner::Name),
    ("%", "%", Inner::Capitals),
];

/// What Helm writes for a value that is not there.
const NO_VALUE: &str = "<no value>";

fn enclosed<'t>(text: &'t str, open: &str, close: &str, inner: Inner) -> Option<&'t str> {
    text.match_indices(open).find_map(|(start, _)| {
        let from = start + open.len();
        let length = text[from..].find(close)?;
        let content = &text[from..from + length];
        inner
            .holds(content)
            .then(|| &text[start..from + length + close.len()])
    })
}

impl Inner {
    fn holds(self, content: &str) -> bool {
        match self {
            Self::Anything => !content.is_empty(),
            Self::Name => {
                content.contains(|c: char| c.is_ascii_alphabetic())
                    && content
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
            }
            Self::Capitals => content.len() >= 3 && is_variable(content),
        }
    }
}

/// `$SERVICE_ACCOUNT`: a dollar before at least two capitals, as environment variables are written.
fn variable(text: &str) -> Option<&str> {
    if let Some(at) = text.find(NO_VALUE) {
        return Some(&text[at..at + NO_VALUE.len()]);
    }
    text.match_indices('$').find_map(|(start, _)| {
        let before = text[..start].chars().next_back();
        let rest = &text[start + 1..];
        let length = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let apart = before.is_none_or(|before| !before.is_alphanumeric());
        (apart && length >= 2 && is_variable(&rest[..length]))
            .then(|| &text[start..start + 1 + length])
    })
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("{{ .Values.name }}", "{{ .Values.name }}")]
    #[case("nightly-{{env}}-a", "{{env}}")]
    #[case("{% if x %}", "{% if x %}")]
    #[case("<%= name %>", "<%= name %>")]
    #[case("${SERVICE_ACCOUNT}", "${SERVICE_ACCOUNT}")]
    #[case("${SERVICE_ACCOUNT:-nightly}", "${SERVICE_ACCOUNT:-nightly}")]
    #[case("qa/$(name)", "$(name)")]
    #[case("#{Octopus.Name}", "#{Octopus.Name}")]
    #[case("%NAMESPACE%", "%NAMESPACE%")]
    #[case("$SERVICE_ACCOUNT", "$SERVICE_ACCOUNT")]
    #[case("/run/$HOME/token", "$HOME")]
    #[case("<no value>", "<no value>")]
    #[case("${{ github.ref }}", "{{ github.ref }}")]
    fn a_placeholder_is_found(#[case] text: &str, #[case] placeholder: &str) {
        assert_eq!(find(text), Some(placeholder));
    }

    #[rstest]
    #[case::our_templates("Bearer {token}")]
    #[case::json("{\"ok\":false,\"error\":{\"reason\":\"{reason}\"}}")]
    #[case::expression("request.path.matches('^/v1/[a-z]+$') && {'a': {'b': 1}}['a']['b'] == 1")]
    #[case::group("request.path.matches('^/(a|b)$')")]
    #[case::end_of_group("matches('(a$)(b)')")]
    #[case::encoded("/v1/%C3%A4%20b")]
    #[case::percent("at most 5% of 100%")]
    #[case::money("costs $5 a month, US$AB or $ab")]
    #[case::empty("${} $() {{}}")]
    #[case::less("a < b > c")]
    fn what_is_none_is_left_alone(#[case] text: &str) {
        assert_eq!(find(text), None);
    }
}
