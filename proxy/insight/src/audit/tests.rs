use std::{fs, path::PathBuf};

use countersign_audit::{Chain, SigningKey};
use rstest::rstest;

use super::*;

/// A log of two files and two chains, signed.
struct Log {
    folder: tempfile::TempDir,
    key: SigningKey,
    lines: Vec<String>,
}

const CHAINS: [&str; 2] = ["0194aaaa", "0194bbbb"];

fn log() -> Log {
    let folder = tempfile::tempdir().unwrap();
    let key = SigningKey::new("gateway", &SigningKey::generate().unwrap()).unwrap();
    let mut lines = Vec::new();
    let mut previous = None;
    for name in CHAINS {
        let mut chain = Chain::new(name, previous);
        for number in 0..6 {
            let line = format!(
                r#"{{"schema":"countersign.decision/v1","id":"{name}-{number}","n":{number}}}"#
            );
            let mut sealed = Vec::new();
            chain.seal(line.as_bytes(), &mut sealed).unwrap();
            lines.push(String::from_utf8(sealed).unwrap());
        }
        let checkpoint = Checkpoint {
            origin: format!("gateway/{name}"),
            size: chain.tree().size(),
            root: chain.tree().root(),
        };
        fs::write(
            folder.path().join(format!("{name}.checkpoint")),
            checkpoint.sign(&key),
        )
        .unwrap();
        previous = chain.last().map(str::to_owned);
    }
    Log { folder, key, lines }
}

impl Log {
    fn paths(&self) -> [PathBuf; 2] {
        ["a.jsonl.1", "a.jsonl"].map(|name| self.folder.path().join(name))
    }

    /// The log, rotated after eight lines.
    fn write(&self) -> Vec<Sealed> {
        let [older, newer] = self.paths();
        let middle = self.lines.len().min(8);
        fs::write(&older, self.lines[..middle].concat()).unwrap();
        fs::write(&newer, self.lines[middle..].concat()).unwrap();
        // The order in which they are named does not matter.
        Sealed::files(&[newer, older]).unwrap()
    }

    fn report(&self) -> Report {
        let checkpoints = Checkpoints::read(self.folder.path()).unwrap();
        verify(self.write(), &checkpoints, self.key.verifying_key()).unwrap()
    }

    fn problems(&self) -> Vec<(String, u64)> {
        let problems = self.report().problems.into_iter();
        problems
            .map(|problem| (problem.what, problem.line))
            .collect()
    }
}

#[test]
fn an_untouched_log_has_no_problem() {
    let log = log();
    let report = log.report();
    assert_eq!(report.problems, []);
    assert_eq!((report.lines, report.chains.len()), (12, 2));
    assert_eq!(report.chains[CHAINS[0]].signed, Some(6));
}

#[rstest]
#[case::changed(|lines: &mut Vec<String>| lines[3] = lines[3].replace("\"n\":3", "\"n\":9"), "a line that was changed", 4)]
#[case::removed(|lines: &mut Vec<String>| drop(lines.remove(3)), "1 lines are missing between", 4)]
#[case::swapped(|lines: &mut Vec<String>| lines.swap(2, 3), "1 lines are missing between", 3)]
#[case::copied(|lines: &mut Vec<String>| lines.insert(4, lines[1].clone()), "it was moved or copied here", 5)]
#[case::truncated(|lines: &mut Vec<String>| lines.truncate(10), "the last 2 lines of chain 0194bbbb are missing", 2)]
#[case::a_chain_is_gone(|lines: &mut Vec<String>| lines.truncate(6), "chain 0194bbbb is missing altogether: 6 lines", 0)]
#[case::its_beginning_is_gone(|lines: &mut Vec<String>| drop(lines.drain(..2)), "the first 2 lines of chain 0194aaaa are missing", 1)]
#[case::added(|lines: &mut Vec<String>| lines.insert(2, "{\"schema\":\"countersign.decision/v1\"}\n".into()), "a line that is not sealed", 3)]
fn each_kind_of_tampering_is_found_where_it_is(
    #[case] tamper: fn(&mut Vec<String>),
    #[case] expected: &str,
    #[case] line: u64,
) {
    let mut log = log();
    tamper(&mut log.lines);
    let problems = log.problems();
    let found = problems.iter().find(|(what, _)| what.contains(expected));
    assert_eq!(found.map(|(_, line)| *line), Some(line), "{problems:?}");
    // The signed root is not compared with a tree that lacks something: what is wrong is told already.
    assert!(problems.len() <= 2, "{problems:?}");
}

/// Whoever can change the log can also compute fingerprints; what he cannot do is sign.
#[test]
fn a_log_that_was_sealed_anew_is_found() {
    let mut log = log();
    let mut chain = Chain::new(CHAINS[0], None);
    for number in 0..6 {
        let line = format!(r#"{{"schema":"countersign.decision/v1","id":"{number}","n":7}}"#);
        let mut sealed = Vec::new();
        chain.seal(line.as_bytes(), &mut sealed).unwrap();
        log.lines[number] = String::from_utf8(sealed).unwrap();
    }
    let problems = log.problems();
    assert!(
        problems
            .iter()
            .any(|(what, line)| what.contains("sealed others anew") && *line == 6),
        "{problems:?}"
    );
}

#[test]
fn a_tampered_checkpoint_is_not_believed() {
    let log = log();
    let path = log.folder.path().join(format!("{}.checkpoint", CHAINS[1]));
    let note = fs::read_to_string(&path).unwrap();
    fs::write(&path, note.replace("\n6\n", "\n5\n")).unwrap();
    let problems = log.problems();
    assert!(problems[0].0.contains("cannot be trusted"), "{problems:?}");
    // That of another chain, under this name.
    let other = log.folder.path().join(format!("{}.checkpoint", CHAINS[0]));
    fs::copy(other, &path).unwrap();
    let problems = log.problems();
    assert!(problems[0].0.contains("it was moved here"), "{problems:?}");
}

#[test]
fn one_line_is_proven_without_the_log() {
    let log = log();
    let checkpoints = Checkpoints::read(log.folder.path()).unwrap();
    let key = log.key.verifying_key();
    let files = log.write();
    let proven = prove("0194bbbb-4", &files, &checkpoints, key).unwrap();
    assert_eq!(check(&proven.line, &proven.proof, key).unwrap().size, 6);
    let changed = proven.line.replace("\"n\":4", "\"n\":5");
    check(&changed, &proven.proof, key).unwrap_err();
    let other = prove("0194bbbb-5", &files, &checkpoints, key).unwrap();
    check(&other.line, &proven.proof, key).unwrap_err();
    let error = prove("nobody", &files, &checkpoints, key).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no line of the log has the id nobody"),
        "{error}"
    );
}
