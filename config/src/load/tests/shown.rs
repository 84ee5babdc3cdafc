//! Output about resources disturbs no terminal and forges no line, whoever wrote them.

use super::*;
use crate::shown::disturbs_lines;

/// As YAML, and as its value.
const ODD: [(&str, &str); 2] = [
    (
        r#""a\u001b[31m\u009b\u202e\nerror: forged""#,
        "a\u{1b}[31m\u{9b}\u{202e}\nerror: forged",
    ),
    ("b\u{202e}\u{200b}c", "b\u{202e}\u{200b}c"),
];

fn is_quiet(problems: &Problems) {
    assert!(!problems.0.is_empty());
    for shown in [problems.render(false), problems.to_string()] {
        assert!(!shown.contains(disturbs_lines), "{shown:?}");
        let forged = shown.lines().find(|line| line.starts_with("error: forged"));
        assert_eq!(forged, None, "{shown}");
    }
}

#[test]
fn t72_names_disturb_no_terminal() {
    for (written, _) in ODD {
        for (from, to) in [
            ("workloads: [app]", format!("workloads: [{written}]")),
            ("  rate: 60/m", format!("  {written}: 60/m")),
            ("kind: Workload", format!("kind: {written}")),
            ("name: app", format!("name: {written}")),
            ("credential: bot", format!("credential: {written}")),
        ] {
            assert!(BASE.contains(from), "{from}");
            is_quiet(&problems(&BASE.replacen(from, &to, 1)));
        }
    }
}

#[test]
fn t72_names_of_files_disturb_no_terminal() {
    for (_, name) in ODD {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(format!("{name}.yaml"));
        for text in ["kind: Workloat\n", "[", ""] {
            fs::write(&file, text).unwrap();
            is_quiet(&resources(&[directory.path()]).unwrap_err());
            is_quiet(&crate::load::gateway(&file).unwrap_err());
        }
        // The finding names the file of the first resource with that name.
        let twice = "apiVersion: countersign.dev/v1alpha1\nkind: Workload\nmetadata: { name: a, namespace: b }\nspec: {}\n---\n";
        fs::write(&file, twice.repeat(2)).unwrap();
        is_quiet(&resources(&[directory.path()]).unwrap_err());
        fs::remove_file(&file).unwrap();
        is_quiet(&resources(&[file]).unwrap_err());
    }
}
