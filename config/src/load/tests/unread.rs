//! Targets that are not decrypted, and the policies that refer to them.

use rstest::rstest;

use super::{load_texts, outline, problems};

const UNREAD: &str = "\
apiVersion: countersign.dev/v1alpha1
kind: TargetService
metadata: { name: pinned }
spec:
  hosts: [pinned.example.test, \"*.pinned.example.test\"]
  ports: [443, 8443]
  intercept: false
---
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: app, namespace: qa }
spec:
  owner: qa@example.com
  match: [{ cluster: prod-eu, serviceAccount: app }]
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: tunnels, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [app]
  target: pinned
  allow:
    - hosts: [pinned.example.test]
  conditions:
    schedule: { cron: \"0 6 * * *\", duration: 45m, timeZone: Europe/Berlin }
    when: request.port == 443
";

#[test]
fn a_target_that_is_not_decrypted_is_never_signed_for() {
    assert_eq!(outline(&problems(UNREAD)), [""; 0]);
    let loaded = load_texts(&[UNREAD], None).expect("it is right");
    assert_eq!(loaded.policies.intercepted_hosts().count(), 0);
    let host = crate::host::Host::parse("a.pinned.example.test").expect("a host");
    let target = loaded.policies.target(&host, 8443).expect("it is governed");
    assert!(!target.intercept);
}

#[rstest]
#[case::extends("  intercept: false", "  intercept: false\n  extends: slack", &["8: not-decrypted"])]
#[case::slots("  intercept: false", "  intercept: false\n  slots: { default: a, names: [a] }", &["8: not-decrypted"])]
#[case::routes("  intercept: false", "  intercept: false\n  routes: [{ paths: [\"/x\"] }]", &["8: not-decrypted"])]
#[case::refusal("  intercept: false", "  intercept: false\n  refusal: { status: 403, body: {} }", &["8: not-decrypted"])]
#[case::transport_faults("  intercept: false", "  intercept: false\n  transportFaults: close", &["8: not-decrypted"])]
#[case::rate_limit("  intercept: false", "  intercept: false\n  rateLimit: { per: path }", &["8: not-decrypted"])]
#[case::decrypted_without_routes("  intercept: false", "  intercept: true", &["4: empty-list"])]
#[case::methods("hosts: [pinned.example.test]\n  cond", "methods: [GET]\n  cond", &["24: not-decrypted"])]
#[case::paths("hosts: [pinned.example.test]\n  cond", "paths: [\"/x\"]\n  cond", &["24: not-decrypted"])]
#[case::path_in_when("request.port == 443", "request.path == '/'", &["27: not-decrypted"])]
#[case::query_in_when("request.port == 443", "has(request.query.a)", &["27: not-decrypted"])]
#[case::wait("    when: request.port == 443", "    waitForRateLimit: 1s", &["27: not-decrypted"])]
fn what_needs_a_look_into_requests_is_a_mistake(
    #[case] from: &str,
    #[case] to: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(
        UNREAD.matches(from).count(),
        1,
        "{from:?} must be there once"
    );
    assert_eq!(outline(&problems(&UNREAD.replacen(from, to, 1))), expected);
}
