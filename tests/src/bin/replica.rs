//! One replica of a gateway's credential room and nothing else, to be killed: it obtains the
//! credential `qa/slack-bot` of a gateway's file when it is told to, and prints the access token.
//!
//! Lines on standard input: `get` obtains; `bad TOKEN` says first that an API rejected this token.
//! Each is answered by one line: `token TOKEN` or `error SENTENCE`.

use std::{io::Write as _, path::Path, sync::Arc};

use anyhow::Context as _;
use countersign_config::{
    load,
    model::{Credential, Gateway, TrustRoots},
};
use countersign_core::clock::Clock;
use countersign_credential::{Credentials, Issued, ProviderContext};
use countersign_upstream::forward::Forwarder;
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .context("which gateway's file?")?;
    let (mut gateway, _) =
        load::gateway(Path::new(&path)).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    // The stand-ins' own roots: reading the system's takes longer than all the rest.
    let own = Path::new(&path).with_file_name("upstream-roots.pem");
    gateway.upstream.roots = TrustRoots::Only(own);
    let credential = credential(&gateway)?;
    let forwarder = Forwarder::new(&gateway.upstream, &gateway.limits, Vec::new())?;
    let clock = Clock::system();
    let tools = ProviderContext::new(&gateway, Arc::new(forwarder), clock.clone());
    let credentials = Credentials::new(tools, clock);
    serve(&credentials, &credential).await
}

fn credential(gateway: &Gateway) -> anyhow::Result<Arc<Credential>> {
    use countersign_config::model::ResourceSource;
    let directories = gateway.resources.iter().filter_map(|source| match source {
        ResourceSource::Directory(directory) => Some(directory.clone()),
        ResourceSource::Kubernetes(_) => None,
    });
    let directories: Vec<_> = directories.collect();
    let loaded = load::resources(&directories).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let all = loaded.policies.credentials();
    let found = all.iter().find(|c| c.name.as_str() == "qa/slack-bot");
    found.cloned().context("there is no qa/slack-bot")
}

async fn serve(credentials: &Credentials, credential: &Arc<Credential>) -> anyhow::Result<()> {
    let mut lines = lines();
    let mut held: Option<Arc<Issued>> = None;
    while let Some(line) = lines.recv().await {
        if let (Some(rejected), Some(issued)) = (line.strip_prefix("bad "), &held)
            && issued.secret().expose() == rejected
        {
            credentials.invalidate(&credential.name, issued.generation());
        }
        let answer = match credentials.obtain(credential).await {
            Ok(issued) => {
                let line = format!("token {}\n", issued.secret().expose());
                held = Some(issued);
                line
            }
            Err(error) => format!("error {error}\n"),
        };
        // In one write, so that nobody reads half a token.
        std::io::stdout().write_all(answer.as_bytes())?;
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Standard input's lines, read beside the rest: while a refresh is under way, others may come.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (send, receive) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    });
    receive
}
