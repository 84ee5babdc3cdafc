//! `conditions.rate`: refused when enforced, told when observed, and not forgotten by a reload.

use bytes::Bytes;
use countersign_tests::{client::Answer, gateway::Gateway, world::World};
use http::Request;
use http_body_util::Full;
use serde_json::Value;

const POLICY: &str = r"
apiVersion: countersign.dev/v1alpha1
kind: Workload
metadata: { name: nightly-dashboard, namespace: qa }
spec: { owner: OWNER, match: [{ serviceAccount: nightly-dashboard }] }
---
apiVersion: countersign.dev/v1alpha1
kind: Credential
metadata: { name: qase-reader, namespace: qa }
spec: { target: qase, static: { token: { file: SECRETS/qase } } }
---
apiVersion: countersign.dev/v1alpha1
kind: AccessPolicy
metadata: { name: reads, namespace: qa }
spec:
  owner: qa@example.com
  workloads: [nightly-dashboard]
  target: qase
  credential: qase-reader
  allow: [{ methods: [GET], paths: ['/v1/run/*'] }]
  conditions: { rate: 1/h }
  mode: MODE
";

fn write(world: &World, mode: &str, owner: &str) -> std::io::Result<()> {
    let secrets = world.secret_directory().display().to_string();
    let yaml = POLICY.replace("SECRETS", &secrets).replace("MODE", mode);
    world.write_policy("nightly-dashboard.yaml", &yaml.replace("OWNER", owner))
}

async fn ask(world: &World, gateway: &mut Gateway) -> anyhow::Result<(Answer, Value)> {
    let token = world.token("qa", "nightly-dashboard");
    let client = gateway.client(world).bearer(&token);
    let request = Request::get("https://api.qase.io/v1/run/DEMO").body(Full::<Bytes>::default())?;
    let answer = client.send(request).await?;
    Ok((answer, gateway.decisions().next().await))
}

#[tokio::test]
async fn an_enforced_rate_refuses_also_after_a_reload() -> anyhow::Result<()> {
    let world = World::start().await?;
    write(&world, "enforce", "qa@example.com")?;
    let mut gateway = Gateway::start(&world).await?;
    let (answer, _) = ask(&world, &mut gateway).await?;
    assert_eq!(answer.status, 200);
    for owner in ["qa@example.com", "other@example.com"] {
        write(&world, "enforce", owner)?;
        gateway.reloader().reload()?;
        let (answer, record) = ask(&world, &mut gateway).await?;
        assert_eq!(answer.status, 429);
        assert!(answer.header("retry-after").is_some());
        assert_eq!(record["reason"], "rate_limited");
    }
    assert_eq!(world.qase.received().of_pods().len(), 1);
    gateway.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_observed_rate_is_told_and_refuses_nothing() -> anyhow::Result<()> {
    let world = World::start().await?;
    write(&world, "observe", "qa@example.com")?;
    let mut gateway = Gateway::start(&world).await?;
    for would_refuse in [Value::Null, "rate_limited".into()] {
        let (answer, record) = ask(&world, &mut gateway).await?;
        assert_eq!(answer.status, 200);
        assert_eq!(record["policy"]["would_refuse"], would_refuse, "{record}");
    }
    gateway.stop().await?;
    Ok(())
}
