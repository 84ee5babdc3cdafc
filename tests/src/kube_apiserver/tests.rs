//! Whether the real programs would take what they are given. Stand-ins check it as those do: by the
//! flags of kube-apiserver 1.36 and etcd 3.5, and the forms of keys that client-go's keyutil takes.

use std::{os::unix::fs::PermissionsExt as _, process::Command as Blocking};

use super::*;

/// Refuses unknown flags and wrong files, and is ready then. `${1%%=*}` is a flag's name.
const SERVER_SCRIPT: &str = r#"#!/bin/sh
fail() { echo "Error: $*" >&2; exit 1; }
for flag; do
    value="${flag#*=}"
    case "$flag" in
        --etcd-servers=http://127.0.0.1:*) etcd=1 ;;
        --bind-address=*) bind="$value" ;;
        --secure-port=*) port="$value" ;;
        --advertise-address=?*) advertise=1 ;;
        --cert-dir=*) ;;
        --tls-cert-file=*) certificate="$value" ;;
        --tls-private-key-file=*) key="$value" ;;
        --token-auth-file=*) grep -q '^[A-Za-z0-9]*,tester,1,"system:masters"$' "$value" || fail "no tokens" ;;
        --service-account-issuer=https://*) issuer=1 ;;
        --service-account-key-file=*) public="$value" ;;
        --service-account-signing-key-file=*) private="$value" ;;
        --service-cluster-ip-range=*/24) ;;
        --disable-admission-plugins=ServiceAccount) ;;
        --authorization-mode=RBAC) ;;
        *) fail "unknown flag: $flag" ;;
    esac
done
[ -n "$etcd" ] || fail "--etcd-servers must be specified"
[ -n "$issuer" ] || fail "--service-account-issuer is a required flag"
[ -n "$advertise" ] || fail "unable to find suitable network address.error='no default routes found in \"/proc/net/route\"'"
sed 1q "$public" | grep -q -e '^-----BEGIN PUBLIC KEY-----$' -e '^-----BEGIN CERTIFICATE-----$' \
    || fail "error parsing public key file: data does not contain any valid RSA or ECDSA public keys"
openssl pkey -pubin -in "$public" -noout || fail "not a public key"
[ "$(openssl pkey -in "$private" -pubout)" = "$(cat "$public")" ] || fail "the keys are no pair"
exec openssl s_server -quiet -www -accept "$bind:$port" -cert "$certificate" -key "$key"
"#;

/// As etcd does: each flag apart from its value.
const ETCD_SCRIPT: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in
        --data-dir) [ -d "$(dirname "$2")" ] || exit 1 ;;
        --listen-client-urls|--advertise-client-urls|--listen-peer-urls|--initial-advertise-peer-urls)
            case "$2" in http://127.0.0.1:*) ;; *) exit 1 ;; esac ;;
        --initial-cluster) case "$2" in default=http://127.0.0.1:*) ;; *) exit 1 ;; esac ;;
        *) echo "flag provided but not defined: $1" >&2; exit 2 ;;
    esac
    shift 2
done
exec sleep 600
"#;

fn programs(etcd: &str, server: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, script) in [("etcd", etcd), (SERVER, server)] {
        let path = directory.path().join(name);
        fs::write(&path, script).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("changed");
    }
    directory
}

fn openssl() -> bool {
    let there = Blocking::new("openssl").arg("version").output().is_ok();
    if !there {
        crate::skipped("openssl is not installed");
    }
    there
}

#[tokio::test]
async fn the_programs_are_started_as_the_real_ones_want_it() {
    if !openssl() {
        return;
    }
    let programs = programs(ETCD_SCRIPT, SERVER_SCRIPT);
    let started = KubeApiServer::start_from(programs.path(), &Authority::default()).await;
    let server = started.unwrap();
    assert!(server.is_ready().await);
}

#[test]
fn tokens_are_checked_with_the_public_half_of_the_key_that_signs_them() {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path(), &Authority::default(), "token", "other").unwrap();
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    let (public, private) = (read("accounts.pub"), read("accounts.key"));
    assert!(
        public.starts_with("-----BEGIN PUBLIC KEY-----\n"),
        "{public}"
    );
    assert!(private.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(!public.contains("PRIVATE"));
    if !openssl() {
        return;
    }
    let path = directory.path().join("accounts.key");
    let half = Blocking::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(path)
        .output();
    assert_eq!(String::from_utf8(half.unwrap().stdout).unwrap(), public);
}

#[tokio::test]
async fn what_a_program_said_is_told_when_it_fails() {
    for (etcd, server, told) in [
        (
            ETCD_SCRIPT,
            "#!/bin/sh\necho no such luck >&2; exit 3",
            "no such luck",
        ),
        (
            "#!/bin/sh\necho disk is gone >&2; exit 1",
            "#!/bin/sh\nexec sleep 600",
            "disk is gone",
        ),
    ] {
        let programs = programs(etcd, server);
        let started = KubeApiServer::start_from(programs.path(), &Authority::default()).await;
        let error = format!("{:#}", started.err().expect("it fails"));
        assert!(error.contains(told), "{error}");
        assert!(error.contains("ended with exit status"), "{error}");
    }
}
