//! What operators type: the real kubectl, where the machine has it.

use std::{fmt::Write as _, fs, process::Stdio};

use anyhow::Context as _;
use countersign_tests::{environment::Environment, shown, skipped};
use http::StatusCode;
use tokio::process::Command;

use super::{
    bed,
    cluster::{Cluster, everywhere},
    until_asks,
};
use crate::harness::SECRET;

const POLICY: &str = "\
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: nightly, namespace: red }
spec:
  owner: red@example.com
  match: [{ serviceAccount: nightly }]
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: reader, namespace: red }
spec:
  target: example
  static: { token: { kubernetesSecret: { name: example, key: token } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: reads, namespace: red }
spec:
  owner: red@example.com
  workloads: [nightly]
  target: example
  credential: reader
  allow: [{ methods: [GET], paths: [\"/runs/**\"] }]
";

async fn kubectl(env: &Environment, cluster: &Cluster, arguments: &str) -> anyhow::Result<String> {
    let model = cluster.model();
    let roots = model.ca_file.context("it has roots")?;
    let output = Command::new("kubectl")
        .args(["--server", &model.url, "--token", cluster.admin_token()])
        .arg("--certificate-authority")
        .arg(roots)
        .args([
            "--cache-dir",
            &env.directory().join("kubectl").display().to_string(),
        ])
        .args(arguments.split(' '))
        .current_dir(env.directory())
        .env("KUBECONFIG", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "kubectl {arguments}: {said}{error}"
    );
    Ok(said)
}

#[tokio::test]
async fn an_operator_applies_waits_and_looks() -> anyhow::Result<()> {
    let there = Command::new("kubectl")
        .arg("version")
        .arg("--client")
        .output()
        .await;
    if !there.is_ok_and(|output| output.status.success()) {
        skipped("there is no kubectl");
        return Ok(());
    }
    everywhere(async |env: Environment, cluster| {
        cluster.namespace("red").await?;
        cluster.secret("red", "example", SECRET).await?;
        let bed = bed(env, cluster).await?;
        let env = &bed.env;
        fs::write(env.directory().join("policy-of-red.yaml"), POLICY)?;
        let mut typed = String::new();
        for arguments in [
            "apply --validate=false -f policy-of-red.yaml",
            "wait -n red --for=condition=Ready accesspolicy/reads workload/nightly --timeout=20s",
            "get countersign -n red",
            "get csap -n red -o wide",
            "get cswl -n red nightly -o jsonpath={.status.access}",
        ] {
            let said = kubectl(env, cluster, arguments).await?;
            writeln!(typed, "$ kubectl {arguments}\n{said}")?;
        }
        shown(&typed);
        assert!(
            typed.contains("accesspolicy.countersign.dev/reads condition met"),
            "{typed}"
        );
        until_asks(&bed, "red", "/runs/1", StatusCode::OK).await?;
        kubectl(
            env,
            cluster,
            "delete accesspolicy -n red reads --wait=false",
        )
        .await?;
        until_asks(&bed, "red", "/runs/1", StatusCode::FORBIDDEN).await
    })
    .await
}
