//! Text that nests deeply, or expands to more than is written, is refused before it uses up the stack or
//! memory.

use std::thread;

use rstest::rstest;

use super::{outline, problems};
use crate::load::gateway;

/// The stack of a gateway thread.
const STACK: usize = 2 * 1024 * 1024;

/// The findings for a text, read as resources and as a Gateway file.
fn found(text: String) -> [Vec<String>; 2] {
    let read = move || {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.yaml");
        std::fs::write(&file, &text).unwrap();
        let of_gateway = match gateway(&file) {
            Ok((_, warnings)) => warnings,
            Err(problems) => problems,
        };
        [outline(&problems(&text)), outline(&of_gateway)]
    };
    let thread = thread::Builder::new().stack_size(STACK).spawn(read);
    thread.unwrap().join().unwrap()
}

/// Lines, each indented by one more than the one before.
fn stairs(line: &str) -> String {
    let lines = (0..1_500).map(|depth| format!("{}{line}\n", " ".repeat(depth)));
    lines.collect()
}

/// Each line stands for `of` copies of the one before, `depth` levels deep.
fn bomb(of: usize, depth: usize) -> String {
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    let lines = (1..30).map(|level| {
        let aliases = vec![format!("*a{}", level - 1); of].join(", ");
        format!("a{level}: &a{level} {open}{aliases}{close}\n")
    });
    format!("a0: &a0 [x]\n{}", lines.collect::<String>())
}

#[rstest]
#[case::lists("[".repeat(100_000))]
#[case::closed_lists(format!("a: {}{}", "[".repeat(50_000), "]".repeat(50_000)))]
#[case::mappings("{ a: ".repeat(100_000))]
#[case::keys("{ ? ".repeat(100_000))]
#[case::lists_as_keys(format!("{}x{}: y", "[".repeat(40), "]".repeat(40)))]
#[case::dashes(format!("{}x", "- ".repeat(50_000)))]
#[case::dashes_beneath(format!("a:\n{}x", "- ".repeat(50_000)))]
#[case::question_marks(format!("{}x", "? ".repeat(50_000)))]
#[case::colons(": ".repeat(50_000))]
#[case::indented_keys(stairs("a:"))]
#[case::indented_dashes(stairs("-"))]
#[case::one_too_deep(format!("{}x{}", "[".repeat(33), "]".repeat(33)))]
#[case::one_too_deep_in_all_styles(format!("- a:\n  - {}x{}", "[{ a: ".repeat(15), "}]".repeat(15)))]
#[case::doubled(bomb(2, 1))]
#[case::many_aliases(format!("a: &a [{0}]\nb: [{1}]\n", "x, ".repeat(1_000), "*a, ".repeat(1_000)))]
#[case::deep_by_aliases(bomb(1, 8))]
#[case::of_itself("a: &a [*a]\n".to_owned())]
fn t72_deep_nesting_and_aliases_are_bounded(#[case] text: String) {
    for found in found(text) {
        assert!(
            found.iter().any(|it| it.ends_with("invalid-yaml")),
            "{found:?}"
        );
    }
}

#[rstest]
#[case::as_deep_as_may_be(format!("{}x{}", "[".repeat(32), "]".repeat(32)))]
#[case::beside_each_other(format!("a: [{}]", "[], {}, ".repeat(10_000)))]
#[case::in_quotes(format!("a: \"{}\"", "[".repeat(100_000)))]
#[case::in_a_text(format!("a: x{}", "{".repeat(100_000)))]
#[case::in_a_block(format!("a: |\n  {}", "- ".repeat(50_000)))]
#[case::in_a_comment(format!("a: 1 # {}", "[".repeat(100_000)))]
#[case::an_alias("a: &a [x]\nb: [*a, *a]\n".to_owned())]
fn t72_what_is_not_deep_is_read(#[case] text: String) {
    for found in found(text) {
        assert!(
            !found.iter().any(|it| it.ends_with("invalid-yaml")),
            "{found:?}"
        );
    }
}
