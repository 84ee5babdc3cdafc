use super::*;

fn line(time: &str, id: &str, outcome: &str, reason: &str, status: u16) -> String {
    format!(
        r#"{{"schema":"countersign.decision/v1","time":"{time}","id":"{id}","outcome":"{outcome}","reason":"{reason}","workload":{{"name":"qa/nightly","owner":"qa@example.com"}},"target":{{"name":"slack","authority":"slack.com:443","method":"POST","path":"/api/chat.postMessage"}},"upstream":{{"status":{status}}}}}"#
    ) + "\n"
}

fn log() -> String {
    [
        line("2026-11-22T05:59:59Z", "old", "refused", "request_not_allowed", 200),
        line("2026-11-22T12:00:00Z", "noon", "permitted", "permitted", 200),
        line("2026-11-23T05:10:00Z", "refused", "refused", "request_not_allowed", 200),
        r#"{"schema":"countersign.summary/v1","time":"2026-11-23T05:30:00Z","class":"unidentified","count":3,"first":"2026-11-23T05:20:00Z","last":"2026-11-23T05:29:00Z","reasons":[{"reason":"identity_missing","count":3}]}"#.to_owned() + "\n",
        line("2026-11-23T05:50:00Z", "answered", "permitted", "permitted", 404),
        line("2026-11-23T05:55:00Z", "fine", "permitted", "permitted", 200),
    ]
    .concat()
}

fn survey() -> Survey {
    let mut reader = Reader::stream("-", std::io::Cursor::new(log()));
    let now = "2026-11-23T06:00:00Z".parse().unwrap();
    Survey::whole(&mut reader, now)
}

#[test]
fn requests_count_in_their_hour_and_day_by_whose_fault_they_are() {
    let Activity {
        hour, day, hours, ..
    } = survey().activity;
    assert_eq!((hour.requests, hour.failed()), (6, 4));
    assert_eq!((day.requests, day.failed()), (7, 4));
    assert_eq!(day.blamed[&Blame::Access], 4);
    assert_eq!(
        hours[HOURS - 1],
        Hour {
            went_through: 2,
            failed: 4
        }
    );
    assert_eq!(hours[HOURS - 19].went_through, 1);
}

#[test]
fn what_did_not_go_through_is_listed_the_newest_first() {
    let survey = survey();
    let told: Vec<_> = survey
        .failures
        .iter()
        .map(|one| (&*one.id, one.outcome, one.answer.as_deref()))
        .collect();
    assert_eq!(
        told,
        [
            ("answered", "answered", Some("404")),
            ("refused", "refused", None),
            ("old", "refused", None)
        ]
    );
    assert_eq!(
        survey.failures[1].request,
        "POST slack.com/api/chat.postMessage"
    );
    assert_eq!(survey.failures[1].who, "qa/nightly");
    assert!(!survey.report.findings.is_empty());
}

#[test]
fn reading_ends_when_its_time_is_over() {
    let many = log().repeat(200);
    let mut reader = Reader::stream("-", std::io::Cursor::new(many));
    let now = Timestamp::UNIX_EPOCH;
    let read = Survey::within(&mut reader, now, || true);
    assert_eq!(read.unwrap_err(), TimeOver);
}
