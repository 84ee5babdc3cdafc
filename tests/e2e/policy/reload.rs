//! A new revision is taken whole or not at all, and an open connection's next request meets it.

use std::{fs, os::unix::fs::symlink, path::Path};

use countersign_tests::{
    client::Session,
    environment::{DASHBOARD_FILE, Environment},
    fake::Protocol,
    process::Process,
    resources::Resources,
};
use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{EXAMPLE, HOST, TestBed, get, soon, until};

/// What `/readyz` says.
async fn ready(bed: &TestBed) -> anyhow::Result<(String, Value)> {
    let (head, body) = bed.ask_admin("/readyz").await?;
    Ok((head, serde_json::from_str(&body)?))
}

/// Breaks the directory of the resources in one way, and mends it.
struct Damage {
    break_it: fn(&Environment) -> std::io::Result<()>,
    mend_it: fn(&Environment) -> std::io::Result<()>,
}

const BROKEN_YAML: Damage = Damage {
    break_it: |env| env.write_yaml("broken.yaml", "kind: [unclosed"),
    mend_it: |env| env.remove_policy("broken.yaml"),
};

const HALF_WRITTEN: Damage = Damage {
    break_it: |env| {
        let whole = fs::read_to_string(env.policy_directory().join("example.yaml"))?;
        let half = &whole[..whole.len() - 60];
        fs::write(env.policy_directory().join("half.yaml"), half)
    },
    mend_it: |env| env.remove_policy("half.yaml"),
};

const DANGLING: Damage = Damage {
    break_it: |env| {
        fs::rename(
            env.policy_directory().join("example.yaml"),
            env.directory().join("aside.yaml"),
        )?;
        let whole = fs::read_to_string(env.directory().join("aside.yaml"))?;
        env.write_yaml(
            "dangling.yaml",
            &whole.replace("credential: \"example\"", "credential: \"gone\""),
        )
    },
    mend_it: |env| {
        env.remove_policy("dangling.yaml")?;
        fs::rename(
            env.directory().join("aside.yaml"),
            env.policy_directory().join("example.yaml"),
        )
    },
};

const VANISHED: Damage = Damage {
    break_it: |env| fs::rename(env.policy_directory(), env.directory().join("aside")),
    mend_it: |env| fs::rename(env.directory().join("aside"), env.policy_directory()),
};

#[rstest]
#[case::broken_yaml(BROKEN_YAML)]
#[case::half_written(HALF_WRITTEN)]
#[case::dangling_reference(DANGLING)]
#[case::directory_vanished(VANISHED)]
#[tokio::test]
async fn a_revision_that_cannot_be_used_changes_nothing_and_readyz_says_so(
    #[case] damage: Damage,
) -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    let (_, before) = ready(&bed).await?;
    assert_eq!(before["reload_error"], Value::Null);
    (damage.break_it)(&bed.env)?;
    assert!(bed.gateway.reloader().reload().is_err());
    let (head, broken) = ready(&bed).await?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(broken["revision"], before["revision"]);
    assert!(broken["reload_error"].is_string(), "{broken}");
    let rejected = "countersign_config_reloads_total{result=\"rejected\"}";
    assert!(bed.metric(rejected).await?.is_some());
    let answer = bed.client().send(get("/still")).await?;
    assert_eq!(answer.text(), "GET /still");

    (damage.mend_it)(&bed.env)?;
    bed.reload()?;
    let (_, mended) = ready(&bed).await?;
    assert_eq!(mended["reload_error"], Value::Null);
    assert_eq!(mended["revision"], before["revision"]);
    Ok(())
}

/// What is shown is cut off somewhere: warnings of other files must not come first.
#[tokio::test]
async fn a_reload_error_begins_with_the_error() -> anyhow::Result<()> {
    let bed = TestBed::start().await?;
    // Of a file that is read before the others.
    let unused = "apiVersion: countersign.dev/v1alpha1\nkind: Workload\nmetadata: { name: unused, namespace: qa }\nspec: \
                  { owner: qa, reviewBy: 2020-01-01, match: [{ serviceAccount: unused }] }\n";
    bed.env.write_yaml("a.yaml", unused)?;
    bed.env.write_yaml(
        "z.yaml",
        "apiVersion: countersign.dev/v1alpha1\nkind: Workloat\n",
    )?;
    let error = bed.gateway.reloader().reload().unwrap_err().to_string();
    assert!(!error.contains("review-overdue"), "{error}");
    assert!(
        error
            .lines()
            .next()
            .is_some_and(|first| first.contains("z.yaml:")),
        "{error}"
    );
    assert!(error.ends_with("(and one warning)"), "{error}");
    let (_, status) = ready(&bed).await?;
    assert_eq!(status["reload_error"], error.as_str());
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_change_meets_the_next_request_of_an_open_connection(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let mut bed = TestBed::start().await?;
    let mut session = bed.client().over(protocol).open(HOST).await?;
    assert_eq!(session.send(get("/some")).await?.status, StatusCode::OK);
    bed.record().await?;
    bed.env.edit_policy("example.yaml", without_get)?;
    // Nobody asks for it: the directory is watched.
    let refused = soon("the change", next_refusal(&mut bed, &mut session)).await??;
    assert_eq!(refused["reason"], "request_not_allowed", "{refused}");
    // The same connection may still do what the new revision allows.
    let mut post = get("/some");
    *post.method_mut() = Method::POST;
    assert_eq!(session.send(post).await?.text(), "POST /some");
    Ok(())
}

/// As the kubelet updates a mounted `ConfigMap`.
#[tokio::test]
async fn a_swapped_data_link_is_noticed() -> anyhow::Result<()> {
    let mut bed = TestBed::builder()
        .prepare(|env, gateway| {
            let mounted = env.directory().join("mounted");
            mount(&mounted, &env.policy_directory(), "..2026_1")?;
            gateway.resources = vec![countersign_config::model::ResourceSource::Directory(
                mounted,
            )];
            Ok(())
        })
        .start()
        .await?;
    let mut session = bed.client().open(HOST).await?;
    assert_eq!(session.send(get("/some")).await?.status, StatusCode::OK);
    bed.record().await?;
    let mounted = bed.env.directory().join("mounted");
    bed.env.edit_policy("example.yaml", without_get)?;
    mount(&mounted, &bed.env.policy_directory(), "..2026_2")?;
    let refused = soon("the change", next_refusal(&mut bed, &mut session)).await??;
    assert_eq!(refused["reason"], "request_not_allowed", "{refused}");
    Ok(())
}

/// Writes a version of the files, and swaps `..data` to it.
fn mount(mounted: &Path, from: &Path, version: &str) -> std::io::Result<()> {
    fs::create_dir_all(mounted.join(version))?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let name = file.file_name();
        fs::copy(file.path(), mounted.join(version).join(&name))?;
        let link = mounted.join(&name);
        if !link.exists() {
            symlink(Path::new("..data").join(&name), link)?;
        }
    }
    symlink(version, mounted.join("..data_tmp"))?;
    fs::rename(mounted.join("..data_tmp"), mounted.join("..data"))
}

/// The dashboard may not GET any more.
fn without_get(policy: &mut Resources) {
    policy.access(EXAMPLE)["allow"][0]["methods"] = json!(["HEAD", "POST", "PUT", "OPTIONS"]);
}

async fn next_refusal(bed: &mut TestBed, session: &mut Session) -> anyhow::Result<Value> {
    loop {
        session.send(get("/some")).await?;
        let record = bed.record().await?;
        if record["outcome"] == "refused" {
            return Ok(record);
        }
    }
}

#[tokio::test]
async fn sighup_takes_a_new_revision() -> anyhow::Result<()> {
    let env = Environment::start().await?;
    // What changes behind a link is not noticed at once: only the signal tells of it.
    let path = env.policy_directory().join(DASHBOARD_FILE);
    let outside = env.directory().join("outside.yaml");
    fs::rename(&path, &outside)?;
    symlink(&outside, &path)?;
    let gateway = Process::start(&env, None).await?;
    let revision = |text: &str| text.split("\"revision\":").nth(1).map(str::to_owned);
    let before = revision(&gateway.admin("/readyz").await?);
    let changed = fs::read_to_string(&outside)?.replace("/api/files.info", "/api/users.list");
    fs::write(outside, changed)?;
    gateway.signal("HUP").await?;
    until("the new revision", async || {
        let ready = gateway.admin("/readyz").await;
        ready.is_ok_and(|ready| revision(&ready) != before)
    })
    .await
}
