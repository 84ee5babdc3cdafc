//! A network namespace of a test's own: the test runs itself again in there, as root of a network
//! that has nothing but a loopback and the rules it makes.

use std::process::Command;

const NETWORK: &str = "
    ip link set lo up
    ip addr add 10.9.0.2/32 dev lo
    ip addr add 10.9.0.3/32 dev lo
    ip addr add 203.0.113.20/32 dev lo
    ip route add 203.0.113.10/32 dev lo src 10.9.0.2
    ip -6 addr add fd09::2/128 dev lo nodad
    ip -6 route add 2001:db8::10/128 dev lo src fd09::2
";

const INSIDE: &str = "COUNTERSIGN_TEST_IN_NAMESPACE";

/// Whether the test is inside, with the network and these rules that redirect. If it is not inside, it is
/// run there, and must pass.
///
/// `module` is the `module_path!()` of the test, and `test` its name in there.
pub(crate) fn entered(module: &str, test: &str, rules: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        run(NETWORK);
        run(rules);
        return true;
    }
    if let Some(missing) = missing() {
        countersign_tests::skipped(&missing);
        return false;
    }
    let (_, module) = module.split_once("::").expect("a module of a crate");
    let this = std::env::current_exe().expect("a test has an executable");
    let output = Command::new("unshare")
        .arg("--net")
        .arg(this)
        .args(["--exact", &format!("{module}::{test}"), "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare was there a moment ago");
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "in the namespace:\n{printed}\n{said}"
    );
    false
}

/// Runs the commands, one a line.
fn run(commands: &str) {
    for line in commands.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        let Some(program) = words.next() else {
            continue;
        };
        let output = Command::new(program)
            .args(words)
            .output()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {said}");
    }
}

/// What keeps namespaces from being made here.
fn missing() -> Option<String> {
    for (tool, argument) in [
        ("unshare", "--version"),
        ("ip", "-V"),
        ("iptables", "--version"),
        ("ip6tables", "--version"),
    ] {
        if Command::new(tool).arg(argument).output().is_err() {
            return Some(format!("{tool} is not installed; run tests/run"));
        }
    }
    let allowed = Command::new("unshare").args(["--net", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        return Some("needs root: network namespaces cannot be made".to_owned());
    }
    None
}
