//! The configured name that comes nearest to one that is not configured. Names that differ by a slash look alike to
//! people, and are never taken for equal.

use countersign_core::redact::quoted;

/// How many bytes of two names are compared. A name comes from an unidentified client, so comparing must be cheap.
const COMPARED: usize = 512;

/// The name and the nearest configured one, as the rest of a sentence: `"a", which is not configured; ...`.
pub(crate) fn with_nearest<'c>(named: &str, configured: impl Iterator<Item = &'c str>) -> String {
    let nearest = configured.max_by_key(|name| closeness(named, name));
    let Some(nearest) = nearest else {
        return format!("{}, and none is configured", quoted(named));
    };
    format!(
        "{}, which is not configured; the nearest that is configured is {}{}",
        quoted(named),
        quoted(nearest),
        difference(named, nearest)
    )
}

/// What alone tells two names apart, as the end of a sentence; empty if they differ by more.
pub(crate) fn difference(one: &str, other: &str) -> &'static str {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    if one == other {
        " (they differ only in upper and lower case)"
    } else if one.trim() == other.trim() {
        " (they differ only in white space)"
    } else if one.trim_end_matches('/') == other.trim_end_matches('/') {
        " (they differ only by the slash at the end)"
    } else if without_scheme(&one) == without_scheme(&other) {
        " (they differ only in the scheme)"
    } else if core_of(&one) == core_of(&other) {
        " (they differ only in the scheme, the port or the slash at the end)"
    } else {
        ""
    }
}

/// Names of others in a sentence, the first few of them.
pub(crate) fn listed<'n>(names: impl Iterator<Item = &'n str>, most: usize) -> String {
    let mut names = names.fuse();
    let first: Vec<_> = names.by_ref().take(most).map(quoted).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn without_scheme(name: &str) -> &str {
    name.split_once("://").map_or(name, |(_, rest)| rest)
}

fn core_of(name: &str) -> String {
    let name = without_scheme(name.trim()).trim_end_matches('/');
    name.replacen(":443", "", 1)
}

/// How many bytes two names have in common at both ends.
fn closeness(one: &str, other: &str) -> usize {
    let cut = |name: &str| {
        let name = name.to_ascii_lowercase().into_bytes();
        name.into_iter().take(COMPARED).collect::<Vec<_>>()
    };
    let (one, other) = (cut(one), cut(other));
    let alike = |(a, b): &(&u8, &u8)| a == b;
    let start = one.iter().zip(&other).take_while(alike).count();
    let rests = one[start..].iter().rev().zip(other[start..].iter().rev());
    start + rests.take_while(alike).count()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const AKS: &str = "https://eastus.oic.prod-aks.azure.com/11111111/22222222/";

    #[rstest]
    #[case::slash(AKS.trim_end_matches('/'), "they differ only by the slash at the end")]
    #[case::case(&AKS.to_uppercase(), "they differ only in upper and lower case")]
    #[case::space(&format!("{AKS} "), "they differ only in white space")]
    #[case::scheme(&AKS.replace("https", "http"), "they differ only in the scheme")]
    #[case::port(
        "https://eastus.oic.prod-aks.azure.com:443/11111111/22222222",
        "they differ only in the scheme, the port or the slash at the end"
    )]
    fn what_is_hard_to_see_is_named(#[case] named: &str, #[case] how: &str) {
        let others = [
            "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC",
            AKS,
            "kubernetes/serviceaccount",
        ];
        let told = with_nearest(named, others.into_iter());
        assert_eq!(
            told,
            format!(
                "\"{named}\", which is not configured; the nearest that is configured is \"{AKS}\" ({how})"
            )
        );
    }

    #[rstest]
    #[case::another_tenant("https://eastus.oic.prod-aks.azure.com/11111111/33333333/", AKS)]
    #[case::another_end(
        "https://oidc.eks.eu-west-2.amazonaws.com/id/ABC",
        "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC"
    )]
    fn the_nearest_is_the_one_with_most_in_common(#[case] named: &str, #[case] nearest: &str) {
        let others = ["https://oidc.eks.eu-west-1.amazonaws.com/id/ABC", AKS];
        let told = with_nearest(named, others.into_iter());
        assert!(
            told.ends_with(&format!("configured is \"{nearest}\"")),
            "{told}"
        );
    }

    #[test]
    fn a_name_of_others_is_bounded_and_masked() {
        let told = with_nearest(&"x".repeat(16 * 1024), [AKS].into_iter());
        assert!(told.len() < 500, "{told}");
        let told = with_nearest(
            "https://u:secret@a/xoxb-1234567890-abc\n",
            std::iter::empty(),
        );
        assert_eq!(
            told,
            "\"https[redacted]a/[redacted]\\u{a}\", and none is configured"
        );
    }
}
