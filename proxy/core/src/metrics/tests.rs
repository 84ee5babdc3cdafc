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
