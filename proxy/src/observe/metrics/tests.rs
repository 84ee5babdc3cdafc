use super::{
    super::{Outcome, fixture},
    *,
};

#[test]
fn a_record_is_counted_by_names_only() {
    let (recorder, _log) = fixture::recorder();
    let mut record = recorder.open();
    fixture::fill(&mut record);
    record.close(Outcome::Permitted);
    let text = recorder.metrics().encode().unwrap();
    for line in [
        r#"countersign_requests_total{outcome="permitted",reason="permitted",target="slack",policy="qa/dashboard-posts-to-slack"} 1"#,
        "countersign_overhead_seconds_count 1",
        r#"countersign_request_duration_seconds_count{target="slack"} 1"#,
        r#"countersign_request_body_bytes_total{target="slack"} 512"#,
        r#"countersign_response_body_bytes_total{target="slack"} 1024"#,
        r#"countersign_upstream_responses_total{target="slack",class="2xx",reused="true"} 1"#,
        r#"countersign_credential_age_seconds{credential="qa/slack-bot"} 812"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    for foreign in [
        "chat.postMessage",
        "channel_not_found",
        "slack.com",
        "10.0.0.7",
    ] {
        assert!(!text.contains(foreign), "{foreign}\n{text}");
    }
}

#[test]
fn only_the_newest_revision_is_shown() {
    let metrics = Metrics::new();
    let at = fixture::clock().now();
    metrics.reloaded("aaaa", at);
    metrics.reload_failed();
    metrics.reloaded("bbbb", at);
    let text = metrics.encode().unwrap();
    assert!(!text.contains("aaaa"), "{text}");
    for line in [
        r#"countersign_config_info{revision="bbbb"} 1"#,
        r#"countersign_config_reloads_total{result="ok"} 2"#,
        r#"countersign_config_reloads_total{result="rejected"} 1"#,
        "countersign_config_last_reload_timestamp_seconds 1795410603",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
}

#[test]
fn a_connection_counts_while_its_guard_lives() {
    let metrics = Metrics::new();
    let open = |count: u8| {
        let line = format!(r#"countersign_client_connections{{listener="proxy"}} {count}"#);
        metrics.encode().unwrap().lines().any(|there| there == line)
    };
    let listener: Arc<str> = "proxy".into();
    let one = metrics.connection(&listener);
    let other = metrics.connection(&listener);
    assert!(open(2));
    drop((one, other));
    assert!(open(0));
}

#[test]
fn connections_count_by_class_and_those_shed_by_reason() {
    let metrics = Metrics::new();
    let stranger = metrics.connection_of(false);
    let _proven = metrics.connection_of(true);
    drop(stranger);
    metrics.connection_shed(false, "source_full");
    let text = metrics.encode().unwrap();
    for line in [
        r#"countersign_client_connections_by_class{class="unidentified"} 0"#,
        r#"countersign_client_connections_by_class{class="identified"} 1"#,
        r#"countersign_connections_shed_total{class="unidentified",reason="source_full"} 1"#,
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
}
