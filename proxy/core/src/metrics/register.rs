//! The name and help text of each metric.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Unit,
};

use super::{super::logging, Inner, labels::VersionLabels};

impl Inner {
    pub(super) fn register_requests(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "requests",
            "Finished requests and tunnels by outcome and reason",
            self.requests.clone(),
        );
        registry.register(
            "would_refuse",
            "Requests that a policy in mode observe let through and would have refused, by reason",
            self.would_refuse.clone(),
        );
        registry.register_with_unit(
            "overhead",
            "Time to identify the caller, decide, and obtain the credential",
            Unit::Seconds,
            self.overhead.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from accepting a request to the end of its response",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "request_body",
            "Body bytes from clients",
            Unit::Bytes,
            self.request_bytes.clone(),
        );
        registry.register_with_unit(
            "response_body",
            "Body bytes to clients",
            Unit::Bytes,
            self.response_bytes.clone(),
        );
        registry.register(
            "upstream_responses",
            "Requests sent upstream, by status class and connection reuse",
            self.upstream_responses.clone(),
        );
        registry.register(
            "decisions_dropped",
            "Decision records that were lost, because the queue was full or the log could not be written",
            self.decisions_dropped.clone(),
        );
        registry.register(
            "decisions_summarized",
            "Refusals above a rate, which the decision log summarises",
            self.decisions_summarized.clone(),
        );
        registry.register(
            "decision_write_errors",
            "Failed attempts to write the decision log",
            self.decision_write_errors.clone(),
        );
        registry.register(
            "decision_sink_up",
            "Whether a sink of decision records took the last ones",
            self.decision_sinks_up.clone(),
        );
        registry.register(
            "decision_sink_dropped",
            "Decision records that one sink lost, because it was full or could not be written",
            self.decision_sinks_dropped.clone(),
        );
    }

    pub(super) fn register_state(&mut self) {
        // The name that Prometheus recommends for every process.
        self.process.register_with_unit(
            "process_start_time",
            "When the process started, as Unix time",
            Unit::Seconds,
            self.started_at.clone(),
        );
        let build = Family::<VersionLabels, Gauge>::default();
        let labels = VersionLabels {
            version: env!("CARGO_PKG_VERSION"),
            // Set where images are built.
            revision: option_env!("COUNTERSIGN_REVISION").unwrap_or("unknown"),
        };
        build.get_or_create(&labels).set(1);
        let registry = &mut self.registry;
        registry.register(
            "build_info",
            "The running version, and the revision that it was built from",
            build,
        );
        registry.register_with_unit(
            "credential_age",
            "Age of a credential's value when it was last used",
            Unit::Seconds,
            self.credential_age.clone(),
        );
        registry.register(
            "credential_fetches",
            "Attempts to obtain a credential, by result",
            self.credential_fetches.clone(),
        );
        registry.register(
            "probes",
            "Probes of a credential, by result",
            self.probes.clone(),
        );
        registry.register(
            "client_connections",
            "Open client connections",
            self.client_connections.clone(),
        );
        registry.register(
            "client_connections_by_class",
            "Open client connections, by whether the caller is identified",
            self.connections_by_class.clone(),
        );
        registry.register(
            "connections_shed",
            "Client connections that were closed in favour of others, by reason",
            self.connections_shed.clone(),
        );
        registry.register(
            "upstream_connections",
            "Open upstream connections",
            self.upstream_connections.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Lines of the process log that were lost, because standard error was not read in time",
            logging::COUNTS.dropped.clone(),
        );
        registry.register(
            "log_lines_suppressed",
            "Lines of the process log that were left out, because one place in the code logged too many",
            logging::COUNTS.suppressed.clone(),
        );
        self.register_configuration();
    }

    fn register_configuration(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "config_info",
            "The current revision of the resources",
            self.revision.clone(),
        );
        registry.register(
            "config_reloads",
            "Reloads of the resources, by result",
            self.reloads.clone(),
        );
        registry.register(
            "config_on_last_good_revision",
            "Whether the gateway started on the revision that it had kept, since the newest could not be used",
            self.on_last_good.clone(),
        );
        registry.register_with_unit(
            "certificate_not_after_timestamp",
            "When a certificate that the gateway shows, issues with or trusts ends, as Unix time",
            Unit::Seconds,
            self.certificates.clone(),
        );
        registry.register(
            "config_restart_needed",
            "Whether the Gateway file has changed since the start, which needs a restart",
            self.restart_needed.clone(),
        );
        registry.register(
            "config_objects_stale",
            "Whether objects of the cluster, which are resources, cannot be read now or were not read yet",
            self.objects_stale.clone(),
        );
        registry.register(
            "workload_api_up",
            "Whether the agent of the SPIFFE Workload API streams bundles",
            self.workload_api_up.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the newest revision of the resources took effect",
            self.last_reload_successful.clone(),
        );
        registry.register(
            "proof_sources_missing",
            "Issuers and trust domains whose keys the gateway has not got, so that their callers are refused",
            self.proof_sources_missing.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_timestamp",
            "When the current revision took effect, as Unix time",
            Unit::Seconds,
            self.reloaded_at.clone(),
        );
    }
}
