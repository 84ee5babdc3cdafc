//! `countersign redirect` against the kernel: rules that are put in force, found there, and taken away,
//! and nothing else touched.

use countersign_tests::{
    netns::{Options, Owner, Pod, TestBed, available, run},
    process,
};
use rstest::rstest;
use tokio::process::Command;

/// All rules of the pod, without their counters.
async fn rules(pod: &Pod<'_>) -> anyhow::Result<String> {
    let mut all = String::new();
    for (program, arguments) in [
        ("nft", ["--stateless", "list", "ruleset"].as_slice()),
        ("iptables-save", &[]),
        ("ip6tables-save", &[]),
    ] {
        let mut list = Command::from(pod.namespace().command(program));
        list.args(arguments);
        let shown = run(list, "").await?.succeeded();
        let lines = shown.stdout.lines().filter(|line| !line.starts_with('#'));
        for line in lines {
            // Chains of iptables count packets in brackets.
            let rule = line.split(" [").next().unwrap_or(line);
            all.push_str(rule);
            all.push('\n');
        }
    }
    Ok(all)
}

/// What others have put there stays.
async fn add_others(pod: &Pod<'_>) -> anyhow::Result<()> {
    for line in [
        "nft add table inet others",
        "iptables -t nat -A OUTPUT -p tcp --dport 25 -j ACCEPT",
        "iptables -A OUTPUT -p udp --dport 1 -j ACCEPT",
        "ip6tables -t nat -A OUTPUT -p tcp --dport 25 -j ACCEPT",
        "ip6tables -A OUTPUT -p udp --dport 1 -j ACCEPT",
    ] {
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        let mut command = Command::from(pod.namespace().command(program));
        command.args(words);
        run(command, "").await?.succeeded();
    }
    Ok(())
}

#[rstest]
#[case::nft("nft")]
#[case::iptables("iptables")]
#[tokio::test(flavor = "multi_thread")]
async fn rules_are_applied_again_checked_and_removed(#[case] format: &str) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let pod = Pod::bare(&bed)?;
    add_others(&pod).await?;
    let of = ["--format", format];
    // Nothing there: nothing to remove, which is no mistake.
    pod.redirect(&[&["--remove"], of.as_slice()].concat())
        .await?
        .succeeded();
    let before = rules(&pod).await?;
    pod.redirect(&["--check"])
        .await?
        .failed_with("did not come back");

    let apply = [["--apply", "--check"], of].concat();
    let shown = pod.redirect(&apply).await?.succeeded();
    assert_eq!(
        shown.stdout,
        "applied\nIPv4: connections are redirected\nIPv6: connections are redirected\n"
    );
    let first = rules(&pod).await?;
    assert_ne!(first, before);
    pod.redirect(&apply).await?.succeeded();
    assert_eq!(rules(&pod).await?, first, "applied again");

    // Other rules replace them, and do not come on top.
    let other = [
        &apply[..],
        &["--port", "15002", "--exclude-cidr", "10.0.0.0/8"],
    ]
    .concat();
    pod.redirect(&other).await?.succeeded();
    pod.redirect(&["--check"])
        .await?
        .failed_with("did not come back");
    pod.redirect(&["--check", "--port", "15002"])
        .await?
        .succeeded();
    pod.redirect(&apply).await?.succeeded();
    assert_eq!(rules(&pod).await?, first, "as at first");

    pod.redirect(&[["--remove"].as_slice(), &of].concat())
        .await?
        .succeeded();
    assert_eq!(rules(&pod).await?, before, "only ours are gone");
    Ok(())
}

#[rstest]
#[case::v4_leaks("iptables", "iptables -t nat -F COUNTERSIGN_REDIRECT", "192.0.2.1:443")]
#[case::v6_leaks(
    "iptables",
    "ip6tables -t nat -F COUNTERSIGN_REDIRECT",
    "[2001:db8::1]:443"
)]
#[case::jump_is_gone("iptables", "iptables -t nat -F OUTPUT", "192.0.2.1:443")]
#[case::quic_leaks("iptables", "iptables -F COUNTERSIGN_REJECT", "QUIC can pass")]
#[case::quic_leaks_6("iptables", "ip6tables -F COUNTERSIGN_REJECT", "QUIC can pass")]
#[case::nft_leaks("nft", "nft flush chain inet countersign steer", "192.0.2.1:443")]
#[case::nft_quic_leaks("nft", "nft flush chain inet countersign reject_quic", "QUIC can pass")]
#[tokio::test(flavor = "multi_thread")]
async fn a_check_fails_when_something_is_missing(
    #[case] format: &str,
    #[case] spoil: &str,
    #[case] told: &str,
) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let pod = Pod::bare(&bed)?;
    pod.redirect(&["--apply", "--check", "--format", format])
        .await?
        .succeeded();
    let mut words = spoil.split(' ');
    let mut command = Command::from(pod.namespace().command(words.next().unwrap_or_default()));
    command.args(words);
    run(command, "").await?.succeeded();
    pod.redirect(&["--check"]).await?.failed_with(told);
    Ok(())
}

#[rstest]
#[case::nft("nft")]
#[case::iptables("iptables")]
#[tokio::test(flavor = "multi_thread")]
async fn without_net_admin_it_says_so(#[case] format: &str) -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let pod = Pod::bare(&bed)?;
    for owner in [
        Owner { uid: 0, gid: 0 },
        Owner {
            uid: 10001,
            gid: 10001,
        },
    ] {
        for what in ["--apply", "--remove"] {
            let binary = process::binary()?;
            let mut redirect = Command::from(pod.namespace().command_as(owner, binary));
            redirect.args(["redirect", what, "--format", format]);
            run(redirect, "").await?.failed_with("NET_ADMIN");
        }
    }
    // And there is nothing half done.
    pod.redirect(&["--check"])
        .await?
        .failed_with("did not come back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_as_whom_the_rules_let_pass_proves_nothing() -> anyhow::Result<()> {
    if !available() {
        return Ok(());
    }
    let bed = TestBed::start(Options::default()).await?;
    let pod = Pod::bare(&bed)?;
    pod.redirect(&["--apply"]).await?.succeeded();
    let owner = countersign_tests::netns::RELAY;
    let mut redirect = Command::from(pod.namespace().command_as(owner, process::binary()?));
    redirect.args(["redirect", "--check"]);
    run(redirect, "")
        .await?
        .failed_with("must not run as the relay's own");
    Ok(())
}
