//! What a Gateway names and this machine does not have.

use std::{fs, path::Path};

use rstest::rstest;

use super::{examples, gateway, gateway_here, outline};

/// A gateway with these keys, in a directory with a file `here` and a directory `there`.
fn found(directory: &Path, spec: &str) -> Vec<String> {
    fs::write(directory.join("here"), "x").unwrap();
    fs::create_dir_all(directory.join("there")).unwrap();
    let spec = spec.replace("DIR", &directory.display().to_string());
    let text = format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: Gateway\nmetadata: {{ name: main }}\nspec:\n{spec}"
    );
    let file = directory.join("gateway.yaml");
    fs::write(&file, text).unwrap();
    let (_, elsewhere) = gateway(&file).unwrap();
    assert_eq!(outline(&elsewhere), [""; 0], "only here it is looked at");
    let (_, warnings) = gateway_here(&file).unwrap();
    outline(&warnings)
}

const ISSUER: &str = "  identity: { issuers: [{ name: a, issuer: https://a.example.com, jwks: { file: DIR/here } }] }\n";

#[rstest]
#[case::all_here("  resources: [{ directory: DIR/there }]\n", &[])]
#[case::resources("  resources: [{ directory: DIR/gone }]\n", &["6: not-here"])]
#[case::roots("  resources: [{ directory: DIR/there }]\n  upstream: { roots: DIR/gone }\n", &["7: not-here"])]
#[case::roots_here("  resources: [{ directory: DIR/there }]\n  upstream: { roots: DIR/here }\n", &[])]
#[case::roots_of_the_system("  resources: [{ directory: DIR/there }]\n  upstream: { roots: system }\n", &[])]
#[case::a_directory_for_a_file("  resources: [{ directory: DIR/there }]\n  upstream: { roots: DIR/there }\n", &["7: not-here"])]
#[case::what_is_made("  resources: [{ directory: DIR/there }]\n  state: { directory: DIR/gone }\n  interception: { ca: { directory: DIR/gone } }\n  observe: { decisions: { file: DIR/gone } }\n", &[])]
#[case::corporate_proxy("  resources: [{ directory: DIR/there }]\n  upstream: { proxy: \"https://proxy.example.com:3128\", proxyRoots: DIR/gone, proxyAuthentication: { username: gateway, passwordFile: DIR/gone } }\n", &["7: not-here", "7: not-here"])]
#[case::certificate("  resources: [{ directory: DIR/there }]\n  listeners: [{ name: a, address: \"127.0.0.1:3128\", tls: { certificate: DIR/gone, key: DIR/here } }]\n", &["7: not-here"])]
#[case::own_token("  resources: [{ directory: DIR/there }]\n  listeners: [{ name: a, address: \"127.0.0.1:3128\", mode: transparent, identity: { tokenFile: DIR/gone } }]\n", &["7: not-here"])]
#[case::vault("  resources: [{ directory: DIR/there }]\n  vault: { address: https://v.example.com, caFile: DIR/gone, auth: { tokenFile: DIR/there } }\n", &["7: not-here", "7: not-here"])]
#[case::otlp("  resources: [{ directory: DIR/there }]\n  observe: { otlp: { endpoint: http://otel:4317 } }\n", &[])]
#[case::kubernetes("  resources: [{ kubernetes: {} }]\n", &[])]
fn what_is_not_here_is_told(#[case] spec: &str, #[case] expected: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(
        found(directory.path(), &format!("{ISSUER}{spec}")),
        expected
    );
}

#[test]
fn outside_of_a_cluster_its_keys_are_missed() {
    let (_, warnings) = gateway_here(&examples("smallest/gateway.yaml")).unwrap();
    let codes: Vec<_> = warnings.0.iter().map(|warning| warning.code).collect();
    assert!(codes.contains(&"not-in-kubernetes"), "{codes:?}");
    let told = warnings.to_string();
    assert!(told.contains("set `identity.issuers`"), "{told}");
}
