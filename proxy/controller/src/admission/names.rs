//! The labels, annotations and names that injection reads or writes.

/// The label of a namespace whose pods are injected, and the annotation of a pod that wants to be left alone.
pub const INJECT: &str = "countersign.dev/inject";
/// The value of [`INJECT`] on a namespace.
pub const ENABLED: &str = "enabled";
/// The value of [`INJECT`] on a pod.
pub const DISABLED: &str = "disabled";
/// The label of a namespace whose pods may be left alone; its value is `allowed`.
pub const OPT_OUT: &str = "countersign.dev/opt-out";
/// The value of [`OPT_OUT`].
pub const ALLOWED: &str = "allowed";
/// How a pod's connections come to its relay: `proxy` or `redirect`. On a pod, or on a namespace for its pods.
pub const MODE: &str = "countersign.dev/mode";
/// Variables that get a value which only looks like a token. On a pod, or on a namespace for its pods.
pub const DUMMY_ENV: &str = "countersign.dev/dummy-env";
/// Variables that injection leaves as the pod has them. On a pod.
pub const KEEP_ENV: &str = "countersign.dev/keep-env";
/// Where the relay stands among the init containers: `first`, `last` or `after:NAME`. On a pod.
pub const POSITION: &str = "countersign.dev/position";
/// Written on a pod: its mode.
pub const INJECTED: &str = "countersign.dev/injected";
/// Written on a pod: why it has this mode.
pub const INJECTED_BECAUSE: &str = "countersign.dev/injected-because";
/// The label of a confined pod, which the chart's `clientPolicy` selects. Written on a pod.
pub const CLIENT: &str = "countersign.dev/client";
/// The label by which a namespace enforces a level of Pod Security.
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// The annotation of a static pod's image in the API, which no admission can change.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The relay's container.
pub const RELAY: &str = "countersign-relay";
/// The init container that redirects.
pub const REDIRECT: &str = "countersign-redirect";
/// The volume with the pod's token.
pub const TOKEN_VOLUME: &str = "countersign-token";
/// The volume with the CA of the gateways' certificates.
pub const GATEWAY_CA_VOLUME: &str = "countersign-gateway-ca";
/// The volume with the roots that apps trust.
pub const CA_VOLUME: &str = "countersign-ca";
/// All volumes that injection adds.
pub const VOLUMES: [&str; 3] = [TOKEN_VOLUME, GATEWAY_CA_VOLUME, CA_VOLUME];

/// Where the relay finds its token.
pub const TOKEN_PATH: &str = "/var/run/secrets/tokens/countersign";
/// Where the relay finds the CA of the gateways' certificates.
pub const GATEWAY_CA_PATH: &str = "/etc/countersign/gateway-ca";
/// Where apps find the roots that they trust.
pub const CA_PATH: &str = "/etc/countersign/ca";
/// The names of the files under [`CA_PATH`]: the system's roots and ours, ours alone, and both for Java.
pub const BUNDLE_FILE: &str = "bundle.pem";
/// See [`BUNDLE_FILE`].
pub const ROOT_FILE: &str = "root.pem";
/// See [`BUNDLE_FILE`].
pub const TRUST_STORE_FILE: &str = "trust.p12";

/// What is put before the name of a variable whose value comes from elsewhere and is added to.
pub const OWN_PREFIX: &str = "COUNTERSIGN_OWN_";
