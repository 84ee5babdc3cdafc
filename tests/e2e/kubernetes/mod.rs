//! The cluster: the chart and the job as Kubernetes reads them, and the client for its API server.

mod api_client;
mod cluster_object;
mod helm;
mod nightly_dashboard;
