//! What kubelets do: each container is a process in a root directory of its own, by its pod's user, with the volumes
//! that its pod has.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use countersign_tests::process;
use serde_json::{Map, Value};
use tokio::process::Command;

use super::{API_SERVER, Cluster, text};

/// Pods find the API server by its name; its certificate has it.
const API_SERVER_NAME: &str = "kubernetes.default.svc";

/// Where container runtimes let a container look for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Cluster {
    /// What all images have: the programs, with the libraries that they load here, and roots.
    pub(super) fn build_image(&self) -> anyhow::Result<()> {
        let image = self.at("image");
        for folder in ["etc/ssl/certs", "tmp"] {
            fs::create_dir_all(image.join(folder))?;
        }
        let binary = process::binary()?;
        let folder = binary.parent().context("it is in a folder")?;
        for program in ["countersign", "countersign-relay"] {
            copy_program(&folder.join(program), &image)?;
        }
        copy_program(Path::new("/usr/bin/curl"), &image)?;
        let mut hosts = format!("127.0.0.1 localhost\n{API_SERVER} {API_SERVER_NAME}\n");
        for (address, name) in Self::names() {
            writeln!(hosts, "{address} {name}")?;
        }
        for (file, text) in [
            ("etc/hosts", hosts.as_str()),
            ("etc/nsswitch.conf", "hosts: files dns\n"),
            ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
            (
                "etc/ssl/certs/ca-certificates.crt",
                &self.env.authority.pem(),
            ),
        ] {
            fs::write(image.join(file), text)?;
        }
        Ok(())
    }

    /// A container's process, with its image's program and its own arguments.
    pub(super) fn contained(
        &self,
        pod: &Value,
        container: &Value,
        address: &str,
    ) -> anyhow::Result<Command> {
        let image = text(&container["image"]);
        let program = if image.contains("relay") {
            "/countersign-relay"
        } else {
            "/countersign"
        };
        let mut command = self.running(pod, container, program, address)?;
        for argument in container["args"].as_array().into_iter().flatten() {
            command.arg(text(argument).replace("0.0.0.0:", &format!("{address}:")));
        }
        Ok(command)
    }

    /// Any program in a container, with the container's variables.
    pub(super) fn running(
        &self,
        pod: &Value,
        container: &Value,
        program: &str,
        address: &str,
    ) -> anyhow::Result<Command> {
        let root = self.root_of(pod, container, address)?;
        let id = |name: &str| {
            let of = |object: &Value| object["securityContext"][name].as_u64();
            of(container).or_else(|| of(&pod["spec"]))
        };
        let (user, group) = (id("runAsUser"), id("runAsGroup"));
        let user = user.context("the chart names the user")?;
        let group = group.context("the chart names the group")?;
        ensure!(user != 0, "{} runs as root", container["name"]);
        let mut command = Command::new("chroot");
        command
            .arg(format!("--userspec={user}:{group}"))
            .arg("--groups=")
            .arg(&root)
            .arg(program)
            .env_clear()
            .env("PATH", PATH)
            .env("KUBERNETES_SERVICE_HOST", API_SERVER_NAME)
            .env("KUBERNETES_SERVICE_PORT", "443")
            .env("HOSTNAME", text(&pod["metadata"]["name"]))
            .kill_on_drop(true);
        for variable in container["env"].as_array().into_iter().flatten() {
            if let Some(value) = variable["value"].as_str() {
                command.env(text(&variable["name"]), value);
            }
        }
        Ok(command)
    }

    fn root_of(&self, pod: &Value, container: &Value, address: &str) -> anyhow::Result<PathBuf> {
        let name = format!(
            "{}-{}",
            text(&pod["metadata"]["name"]),
            text(&container["name"])
        );
        let root = self.at(&name);
        if root.exists() {
            return Ok(root);
        }
        link(&self.at("image"), &root)?;
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
            let volume = volumes.find(|it| it["name"] == mount["name"]);
            let volume = volume.with_context(|| format!("the pod has {}", mount["name"]))?;
            let at = root.join(text(&mount["mountPath"]).trim_start_matches('/'));
            fs::create_dir_all(&at)?;
            self.mount(pod, volume, &at, address)?;
        }
        Ok(root)
    }

    fn mount(&self, pod: &Value, volume: &Value, at: &Path, address: &str) -> anyhow::Result<()> {
        let namespace = text(&pod["metadata"]["namespace"]);
        if volume["emptyDir"].is_object() {
            fs::set_permissions(at, fs::Permissions::from_mode(0o777))?;
        } else if volume["configMap"].is_object() {
            self.mount_config_map(&namespace, &volume["configMap"], at, address)?;
        } else {
            let sources = volume["projected"]["sources"].as_array();
            for source in sources.context("it is a volume that is known here")? {
                let token = &source["serviceAccountToken"];
                if token.is_object() {
                    fs::write(at.join(text(&token["path"])), self.token(pod, token)?)?;
                } else if source["downwardAPI"].is_object() {
                    fs::write(at.join("namespace"), &namespace)?;
                } else {
                    // Every namespace has the ConfigMap kube-root-ca.crt.
                    fs::write(at.join("ca.crt"), self.env.api_server.ca_pem())?;
                }
            }
        }
        Ok(())
    }

    fn mount_config_map(
        &self,
        namespace: &str,
        source: &Value,
        at: &Path,
        address: &str,
    ) -> anyhow::Result<()> {
        let name = text(&source["name"]);
        let map = self
            .env
            .api_server
            .object("v1", "configmaps", namespace, &name);
        let map = map.with_context(|| format!("there is no ConfigMap {namespace}/{name}"))?;
        let wanted = |key: &str| {
            let items = source["items"].as_array();
            items.is_none_or(|items| items.iter().any(|it| it["key"] == key))
        };
        for (key, value) in map["data"].as_object().into_iter().flatten() {
            if wanted(key) {
                let mut value = text(value).replace("\"0.0.0.0:", &format!("\"{address}:"));
                if key == "gateway.yaml" {
                    value.push_str(&self.internet());
                }
                fs::write(at.join(key), value)?;
            }
        }
        for (key, value) in map["binaryData"].as_object().into_iter().flatten() {
            if wanted(key) {
                fs::write(at.join(key), BASE64_STANDARD.decode(text(value))?)?;
            }
        }
        Ok(())
    }

    /// Where the APIs are: with its own address the only thing that a gateway is told of the test.
    fn internet(&self) -> String {
        let resolve: Map<String, Value> = self
            .env
            .resolve()
            .into_iter()
            .map(|(name, address)| (name, address.to_string().into()))
            .collect();
        format!(
            "\n  upstream: {{ roots: /etc/ssl/certs/ca-certificates.crt, resolve: {} }}\n",
            Value::Object(resolve)
        )
    }

    /// A projected token, which the API server makes for the kubelet.
    fn token(&self, pod: &Value, wanted: &Value) -> anyhow::Result<String> {
        let metadata = &pod["metadata"];
        let account = &pod["spec"]["serviceAccountName"];
        let mut command = std::process::Command::new(&self.kubectl);
        command
            .args(["create", "token", account.as_str().unwrap_or("default")])
            .args(["-n", &text(&metadata["namespace"])])
            .arg("--bound-object-kind=Pod")
            .arg(format!("--bound-object-name={}", text(&metadata["name"])))
            .arg(format!("--bound-object-uid={}", text(&metadata["uid"])))
            .arg(format!(
                "--duration={}s",
                wanted["expirationSeconds"].as_u64().unwrap_or(3600)
            ))
            .env("KUBECONFIG", self.at("kubeconfig"));
        if let Some(audience) = wanted["audience"].as_str() {
            command.arg(format!("--audience={audience}"));
        }
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

/// A program with the libraries that it loads, where it looks for them.
fn copy_program(program: &Path, root: &Path) -> anyhow::Result<()> {
    let name = program.file_name().context("it has a name")?;
    fs::copy(program, root.join(name)).with_context(|| program.display().to_string())?;
    let output = std::process::Command::new("ldd").arg(program).output()?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for library in listed.split_whitespace().filter(|it| it.starts_with('/')) {
        let at = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(at.parent().context("it is in a folder")?)?;
        fs::copy(library, at)?;
    }
    Ok(())
}

/// The same files in another folder.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let at = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            link(&entry.path(), &at)?;
        } else {
            fs::hard_link(entry.path(), at)?;
        }
    }
    Ok(())
}
