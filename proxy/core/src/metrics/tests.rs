mod page;

use super::*;

#[test]
fn only_the_newest_revision_is_shown() {
    let metrics = Metrics::new();
    let at = Timestamp::from_second(1_795_410_603).unwrap();
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
fn a_changed_gateway_file_is_shown_until_it_is_the_old_one() {
    let metrics = Metrics::new();
    for (needed, line) in [
        (true, "countersign_config_restart_needed 1"),
        (false, "countersign_config_restart_needed 0"),
    ] {
        metrics.restart_needed(needed);
        let text = metrics.encode().unwrap();
        assert!(text.lines().any(|there| there == line), "{text}");
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

#[test]
fn the_start_has_the_name_that_every_process_uses() {
    let metrics = Metrics::new();
    metrics.started(Timestamp::from_second(1_795_410_603).unwrap());
    let text = metrics.encode().unwrap();
    let line = "process_start_time_seconds 1795410603";
    assert!(text.lines().any(|there| there == line), "{text}");
    assert_eq!(text.matches("# EOF").count(), 1);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_last_reload_is_successful_or_not() {
    let metrics = Metrics::new();
    let at = Timestamp::from_second(1_795_410_603).unwrap();
    let shows = |value: u8| {
        let line = format!("countersign_config_last_reload_successful {value}");
        metrics.encode().unwrap().lines().any(|there| there == line)
    };
    assert!(shows(0), "there is none yet");
    metrics.reloaded("aaaa", at);
    assert!(shows(1));
    metrics.reload_failed();
    assert!(shows(0));
    metrics.reloaded("bbbb", at);
    assert!(shows(1));
}

#[test]
fn the_kernel_says_how_large_the_process_is() {
    let text = Metrics::new().encode().unwrap();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value: f64 = line.unwrap_or_default().trim().parse().unwrap_or(-1.0);
        let least = if name.contains("cpu") { 0.0 } else { 1.0 };
        assert!(value >= least, "{name} is {value}\n{text}");
    }
}

#[test]
fn a_credential_that_is_gone_is_shown_no_more() {
    let metrics = Metrics::new();
    let standing = CredentialStanding {
        name: "qa/slack-bot",
        state: "stale",
        ends: Some(1_795_410_603),
    };
    metrics.credentials([standing]);
    let text = metrics.encode().unwrap();
    for line in [
        r#"countersign_credential_state{credential="qa/slack-bot",state="stale"} 1"#,
        r#"countersign_credential_expires_timestamp_seconds{credential="qa/slack-bot"} 1795410603"#,
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    metrics.credentials([]);
    assert!(!metrics.encode().unwrap().contains("qa/slack-bot"));
}

#[test]
fn an_example_names_a_trace_in_the_newer_format_only() {
    let metrics = Metrics::new();
    metrics.finished(&Finished {
        outcome: "permitted",
        reason: "permitted",
        target: None,
        policy: None,
        would_refuse: None,
        overhead: Duration::ZERO,
        credential: None,
        upstream: None,
        total: Duration::from_millis(3),
        bytes: (0, 0),
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
    });
    let example = r#"# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.003"#;
    let open = metrics.encode().unwrap();
    assert!(open.contains(example), "{open}");
    let plain = metrics.encode_plain().unwrap();
    assert!(
        !plain.contains("trace_id") && !plain.contains("# EOF"),
        "{plain}"
    );
    assert!(
        plain.contains("# TYPE countersign_requests_total counter"),
        "{plain}"
    );
}
