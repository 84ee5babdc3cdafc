//! The directory: damage, permissions, crashes and races.

use std::{fs, os::unix::fs::PermissionsExt, sync::Barrier, thread};

use rstest::rstest;

use super::*;

fn open(directory: &Path) -> Result<Ca, CaError> {
    Ca::open_or_create(directory, Clock::manual(start()), 100)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_root_is_made_once_and_only_its_owner_can_read_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/ca");
    let first = open(&directory).unwrap();
    constrain(&first, &["slack.com"]).unwrap();
    assert_eq!(mode(&directory), 0o700);
    let names = |directory| -> Vec<_> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&directory), ["intermediate.crt", "root.pem"]);
    assert_eq!(mode(&directory.join("root.pem")), 0o600);
    let intermediate = fs::read_to_string(directory.join("intermediate.crt")).unwrap();
    assert!(
        !intermediate.contains("PRIVATE KEY"),
        "the intermediate's key is in memory only"
    );
    assert_eq!(first.root_pem(), open(&directory).unwrap().root_pem());
}

#[test]
fn starts_at_the_same_time_agree_on_one_root() {
    let directory = tempfile::tempdir().unwrap();
    let barrier = Barrier::new(8);
    let roots: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    open(directory.path()).unwrap().root_pem()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1,
        "no temporary file is left"
    );
}

#[test]
fn what_a_crash_left_behind_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join(".countersign-Xy12Zz"),
        "-----BEGIN PRIV",
    )
    .unwrap();
    open(directory.path()).unwrap();
}

#[rstest]
#[case::everyone_reads(0o644, "0644")]
#[case::everyone_executes(0o601, "0601")]
#[case::group_writes(0o660, "0660")]
fn a_key_that_others_can_reach_is_refused(#[case] bits: u32, #[case] shown: &str) {
    let fixture = Fixture::new(&[]);
    let root = fixture.path().join("root.pem");
    set_mode(&root, bits);
    let refused = open(fixture.path()).unwrap_err().to_string();
    assert!(refused.contains(shown), "{refused}");
    assert!(
        refused.ends_with(&format!("run: chmod 0600 {}", root.display())),
        "{refused}"
    );
}

#[rstest]
#[case::owner_only(0o400)]
#[case::as_kubernetes_mounts_for_a_group(0o440)]
fn a_key_that_others_cannot_reach_is_taken(#[case] bits: u32) {
    let fixture = Fixture::new(&[]);
    set_mode(&fixture.path().join("root.pem"), bits);
    open(fixture.path()).unwrap();
}

#[test]
fn a_directory_in_which_everyone_writes_is_refused_unless_sticky() {
    let fixture = Fixture::new(&[]);
    set_mode(fixture.path(), 0o777);
    assert!(matches!(
        open(fixture.path()),
        Err(CaError::Permissions { .. })
    ));
    set_mode(fixture.path(), 0o1777);
    open(fixture.path()).unwrap();
}

#[test]
fn a_directory_that_cannot_be_is_a_clear_error() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = open(&file.join("ca")).unwrap_err().to_string();
    assert!(
        refused.starts_with(&format!("cannot create {}", file.display())),
        "{refused}"
    );
    let missing = Ca::open(&parent.path().join("none"), Clock::manual(start()), 1);
    assert!(matches!(missing, Err(CaError::Io { .. })));
    let missing = Ca::open(parent.path(), Clock::manual(start()), 1);
    assert!(matches!(missing, Err(CaError::Missing(_))));
}

#[test]
fn what_cannot_be_read_is_a_clear_error() {
    // A link to itself, since modes do not keep root out, as whom tests often run.
    let fixture = Fixture::new(&[]);
    let directory = fixture.path().join("loop");
    std::os::unix::fs::symlink(&directory, &directory).unwrap();
    assert!(matches!(open(&directory), Err(CaError::Io { .. })));

    let key = fixture.path().join("root.pem");
    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink(&key, &key).unwrap();
    let refused = open(fixture.path()).unwrap_err().to_string();
    assert!(refused.contains("root.pem"), "{refused}");
}

/// The file's two blocks, certificate and key.
fn blocks(fixture: &Fixture) -> (String, String) {
    let whole = fs::read_to_string(fixture.path().join("root.pem")).unwrap();
    let (certificate, key) = whole.split_at(whole.find("-----BEGIN PRIVATE").unwrap());
    (certificate.to_owned(), key.to_owned())
}

/// The certificate with one bit of its last bytes, the signature, flipped.
fn flip_a_bit(certificate: &str) -> String {
    let mut der = CertificateDer::from_pem_slice(certificate.as_bytes())
        .unwrap()
        .to_vec();
    let near_end = der.len() - 3;
    der[near_end] ^= 1;
    pem(&der)
}

#[test]
fn a_damaged_root_is_refused_with_what_is_wrong() {
    let fixture = Fixture::new(&[]);
    let other = Fixture::new(&[]);
    let (certificate, key) = blocks(&fixture);
    let (foreign, foreign_key) = blocks(&other);
    let cases = [
        ("empty", String::new(), "exactly one certificate"),
        (
            "only the certificate",
            certificate.clone(),
            "exactly one private key",
        ),
        ("only the key", key.clone(), "exactly one certificate"),
        (
            "cut off",
            (certificate.clone() + &key)[..certificate.len() + 60].to_owned(),
            "cut off",
        ),
        (
            "garbage",
            "\u{0}\u{1}".repeat(500),
            "exactly one certificate",
        ),
        (
            "two certificates",
            certificate.clone() + &foreign + &key,
            "exactly one certificate",
        ),
        (
            "another's key",
            certificate.clone() + &foreign_key,
            "does not belong",
        ),
        (
            "a flipped bit",
            flip_a_bit(&certificate) + &key,
            "signature",
        ),
        (
            "not base64",
            certificate.replace('M', "!") + &key,
            "PEM block",
        ),
    ];
    for (case, contents, expected) in cases {
        fs::write(fixture.path().join("root.pem"), contents).unwrap();
        let refused = open(fixture.path()).expect_err(case).to_string();
        assert!(refused.contains(expected), "{case}: {refused}");
        assert!(
            refused.contains("restore it from a backup"),
            "{case}: {refused}"
        );
    }
    fs::write(fixture.path().join("root.pem"), certificate + &key).unwrap();
    open(fixture.path()).unwrap();
}

#[test]
fn a_leaf_or_an_intermediate_is_no_root() {
    let fixture = Fixture::new(&["slack.com"]);
    let (_, key) = blocks(&fixture);
    let chain = fixture.greet("slack.com").unwrap().chain;
    for certificate in &chain {
        fs::write(fixture.path().join("root.pem"), pem(certificate) + &key).unwrap();
        let refused = open(fixture.path()).unwrap_err().to_string();
        assert!(refused.contains("not a root"), "{refused}");
    }
}

#[test]
fn an_expired_root_is_refused_with_its_dates() {
    let fixture = Fixture::new(&[]);
    fixture.forward(SignedDuration::from_hours(10 * 365 * 24 + 1));
    let refused = Ca::open(fixture.path(), fixture.clock.clone(), 1)
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("to 2036-11-20T05:10:00Z only"),
        "{refused}"
    );
}

#[test]
fn a_root_replaced_under_a_running_gateway_is_noticed() {
    let fixture = Fixture::new(&["slack.com"]);
    let other = Fixture::new(&[]);
    fs::copy(
        other.path().join("root.pem"),
        fixture.path().join("root.pem"),
    )
    .unwrap();
    let refused = constrain(&fixture.ca, &["api.qase.io"]);
    assert!(
        matches!(refused, Err(CaError::RootChanged(_))),
        "{refused:?}"
    );
    fixture.greet("slack.com").unwrap();
}

#[test]
fn the_summary_says_what_the_constraints_are() {
    let fixture = Fixture::new(&["slack.com", "wss*.slack.com", "192.0.2.7"]);
    let (root, intermediate) = describe(fixture.path()).unwrap();
    let intermediate = intermediate.unwrap();
    assert!(
        root.subject
            .starts_with("O=Countersign, CN=Countersign root "),
        "{root:?}"
    );
    assert_eq!((root.permitted, root.excluded), (vec![], vec![]));
    assert_eq!(
        intermediate.permitted,
        ["192.0.2.7/32", "slack.com and below"]
    );
    assert_eq!(intermediate.excluded, [""; 0]);
    assert_eq!(
        intermediate.not_after,
        start() + SignedDuration::from_hours(7 * 24)
    );
    assert_eq!(root.sha256.len(), 32 * 3 - 1);
    let excluded = |hosts: &[&str]| {
        constrain(&fixture.ca, hosts).unwrap();
        describe(fixture.path()).unwrap().1.unwrap().excluded
    };
    assert_eq!(excluded(&["slack.com"]), ["0.0.0.0/0", "::/0"]);
    assert_eq!(excluded(&["2001:db8::7"]), ["any DNS name"]);
}
