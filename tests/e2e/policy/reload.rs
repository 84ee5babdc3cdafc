//! A new revision is taken whole or not at all, and an open connection's next request meets it.

use std::{fs, os::unix::fs::symlink, path::Path};

use countersign_tests::{
    client::Session,
    fake::Protocol,
    process::{self, Process},
    world::{Options, World},
};
use http::{Method, StatusCode};
use rstest::rstest;
use serde_json::Value;

use crate::harness::site::{HOST, Site, get, soon};

/// What `/readyz` says.
async fn ready(site: &Site) -> anyhow::Result<(String, Value)> {
    let admin = site.gateway.admin().expect("there is an admin endpoint");
    let answer = process::admin(admin, "/readyz").await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok((head.to_owned(), serde_json::from_str(body)?))
}

async fn metric(site: &Site, line: &str) -> anyhow::Result<bool> {
    let admin = site.gateway.admin().expect("there is an admin endpoint");
    Ok(process::admin(admin, "/metrics").await?.contains(line))
}

/// Breaks the directory of the resources in one way, and mends it.
struct Damage {
    break_it: fn(&World) -> std::io::Result<()>,
    mend_it: fn(&World) -> std::io::Result<()>,
}

const BROKEN_YAML: Damage = Damage {
    break_it: |world| world.write_policy("broken.yaml", "kind: [unclosed"),
    mend_it: |world| world.remove_policy("broken.yaml"),
};

const HALF_WRITTEN: Damage = Damage {
    break_it: |world| {
        let whole = fs::read_to_string(world.policy_directory().join("example.yaml"))?;
        let half = &whole[..whole.len() - 60];
        fs::write(world.policy_directory().join("half.yaml"), half)
    },
    mend_it: |world| world.remove_policy("half.yaml"),
};

const DANGLING: Damage = Damage {
    break_it: |world| {
        fs::rename(
            world.policy_directory().join("example.yaml"),
            world.directory().join("aside.yaml"),
        )?;
        let whole = fs::read_to_string(world.directory().join("aside.yaml"))?;
        world.write_policy(
            "dangling.yaml",
            &whole.replace("credential: example", "credential: gone"),
        )
    },
    mend_it: |world| {
        world.remove_policy("dangling.yaml")?;
        fs::rename(
            world.directory().join("aside.yaml"),
            world.policy_directory().join("example.yaml"),
        )
    },
};

const VANISHED: Damage = Damage {
    break_it: |world| fs::rename(world.policy_directory(), world.directory().join("aside")),
    mend_it: |world| fs::rename(world.directory().join("aside"), world.policy_directory()),
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
    let site = Site::start().await?;
    let (_, before) = ready(&site).await?;
    assert_eq!(before["reload_error"], Value::Null);
    (damage.break_it)(&site.world)?;
    assert!(site.gateway.reloader().reload().is_err());
    let (head, broken) = ready(&site).await?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(broken["revision"], before["revision"]);
    assert!(broken["reload_error"].is_string(), "{broken}");
    let rejected = "countersign_config_reloads_total{result=\"rejected\"}";
    assert!(metric(&site, rejected).await?);
    let answer = site.client().send(get("/still")).await?;
    assert_eq!(answer.text(), "GET /still");

    (damage.mend_it)(&site.world)?;
    site.gateway.reloader().reload()?;
    let (_, mended) = ready(&site).await?;
    assert_eq!(mended["reload_error"], Value::Null);
    assert_eq!(mended["revision"], before["revision"]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_change_meets_the_next_request_of_an_open_connection(
    #[values(Protocol::Http1, Protocol::Http2)] protocol: Protocol,
) -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    let mut session = site.client().over(protocol).open(HOST).await?;
    assert_eq!(session.send(get("/some")).await?.status, StatusCode::OK);
    site.record().await?;
    let path = site.world.policy_directory().join("example.yaml");
    let narrowed = fs::read_to_string(path)?.replace("methods: [GET, ", "methods: [");
    site.world.write_policy("example.yaml", &narrowed)?;
    // Nobody asks for it: the directory is watched.
    let refused = soon("the change", next_refusal(&mut site, &mut session)).await??;
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
    let mut site = Site::with(Options::default(), |world, gateway| {
        let mounted = world.directory().join("mounted");
        mount(&mounted, &world.policy_directory(), "..2026_1", |text| text)?;
        gateway.resources = vec![countersign_config::model::ResourceSource::Directory(
            mounted,
        )];
        Ok(())
    })
    .await?;
    let mut session = site.client().open(HOST).await?;
    assert_eq!(session.send(get("/some")).await?.status, StatusCode::OK);
    site.record().await?;
    let mounted = site.world.directory().join("mounted");
    let narrow = |text: String| text.replace("methods: [GET, ", "methods: [");
    mount(&mounted, &site.world.policy_directory(), "..2026_2", narrow)?;
    let refused = soon("the change", next_refusal(&mut site, &mut session)).await??;
    assert_eq!(refused["reason"], "request_not_allowed", "{refused}");
    Ok(())
}

/// Writes a version of the files, and swaps `..data` to it.
fn mount(
    mounted: &Path,
    from: &Path,
    version: &str,
    change: impl Fn(String) -> String,
) -> std::io::Result<()> {
    fs::create_dir_all(mounted.join(version))?;
    for file in fs::read_dir(from)? {
        let file = file?;
        let name = file.file_name();
        let text = change(fs::read_to_string(file.path())?);
        fs::write(mounted.join(version).join(&name), text)?;
        let link = mounted.join(&name);
        if !link.exists() {
            symlink(Path::new("..data").join(&name), link)?;
        }
    }
    symlink(version, mounted.join("..data_tmp"))?;
    fs::rename(mounted.join("..data_tmp"), mounted.join("..data"))
}

async fn next_refusal(site: &mut Site, session: &mut Session) -> anyhow::Result<Value> {
    loop {
        session.send(get("/some")).await?;
        let record = site.record().await?;
        if record["outcome"] == "refused" {
            return Ok(record);
        }
    }
}

#[tokio::test]
async fn sighup_takes_a_new_revision() -> anyhow::Result<()> {
    let world = World::start().await?;
    // What changes behind a link is not noticed at once: only the signal tells of it.
    let path = world.policy_directory().join("nightly-dashboard.yaml");
    let outside = world.directory().join("outside.yaml");
    fs::rename(&path, &outside)?;
    symlink(&outside, &path)?;
    let gateway = Process::start(&world, None).await?;
    let revision = |text: &str| text.split("\"revision\":").nth(1).map(str::to_owned);
    let before = revision(&gateway.admin("/readyz").await?);
    let changed = fs::read_to_string(&outside)?.replace("/api/files.info", "/api/users.list");
    fs::write(outside, changed)?;
    gateway.signal("HUP").await?;
    let taken = soon("the new revision", async {
        while revision(&gateway.admin("/readyz").await?) == before {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    });
    taken.await?
}
