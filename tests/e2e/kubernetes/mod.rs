//! The cluster: the chart and the job as Kubernetes reads them, and the client for its API server.

mod api_client;
mod cluster_object;
mod definitions;
mod doctor;
mod from_empty;
mod helm;
mod images;
mod injected_pod;
mod injection_policy;
mod nightly_dashboard;
mod objects;
mod pod_facts;
mod rolling;
mod trust;
mod uninjected;
