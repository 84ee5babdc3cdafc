use rstest::rstest;

use super::*;

mod kubernetes;

const MINUTE: Duration = Duration::from_mins(1);

fn schedule(cron: &str, minutes: u32, zone: &str) -> Schedule {
    Schedule::parse(cron, MINUTE * minutes, zone).expect("a schedule")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

#[rstest]
#[case::a_second_early("2026-11-23T05:59:59+01:00", false)]
#[case::opens("2026-11-23T06:00:00+01:00", true)]
#[case::within("2026-11-23T06:10:00+01:00", true)]
#[case::last_second("2026-11-23T06:44:59.999+01:00", true)]
#[case::closes("2026-11-23T06:45:00+01:00", false)]
#[case::friday("2026-11-27T06:10:00+01:00", true)]
#[case::saturday("2026-11-28T06:10:00+01:00", false)]
#[case::same_hour_in_utc("2026-11-23T06:10:00Z", false)]
#[case::summer("2026-07-06T06:10:00+02:00", true)]
#[case::summer_by_winter_time("2026-07-06T06:10:00+01:00", false)]
fn the_nightly_dashboard(#[case] moment: &str, #[case] open: bool) {
    let schedule = schedule("0 6 * * MON-FRI", 45, "Europe/Berlin");
    assert_eq!(schedule.is_open(at(moment)), open);
}

#[rstest]
#[case::not_open_yet("2026-11-23T05:59:59+01:00", None)]
#[case::from_its_first_second("2026-11-23T06:00:00+01:00", Some("2026-11-23T06:45:00+01:00"))]
#[case::to_its_last("2026-11-23T06:44:59.999+01:00", Some("2026-11-23T06:45:00+01:00"))]
#[case::closed("2026-11-23T06:45:00+01:00", None)]
fn an_open_window_knows_its_end(#[case] moment: &str, #[case] end: Option<&str>) {
    let schedule = schedule("0 6 * * MON-FRI", 45, "Europe/Berlin");
    assert_eq!(schedule.closes(at(moment)), end.map(at));
}

#[test]
fn of_windows_that_overlap_the_earliest_end_is_told() {
    let schedule = schedule("*/10 * * * *", 15, "UTC");
    let end = schedule.closes(at("2026-11-23T06:12:00Z"));
    assert_eq!(end, Some(at("2026-11-23T06:15:00Z")));
    assert!(schedule.is_open(at("2026-11-23T06:15:00Z")));
}

// On 2026-03-29 Berlin's clock goes from 02:00 (+01) to 03:00 (+02).
#[rstest]
#[case::skipped_time_has_not_come("30 2 * * *", 45, "2026-03-29T01:59:59+01:00", false)]
#[case::skipped_time_does_not_come("30 2 * * *", 45, "2026-03-29T03:00:00+02:00", false)]
#[case::nor_an_hour_later("30 2 * * *", 45, "2026-03-29T03:30:00+02:00", false)]
#[case::across_the_jump_before_it("30 1 * * *", 60, "2026-03-29T01:59:59+01:00", true)]
#[case::across_the_jump_behind_it("30 1 * * *", 60, "2026-03-29T03:29:59+02:00", true)]
#[case::across_the_jump_elapsed_time_counts("30 1 * * *", 60, "2026-03-29T03:30:00+02:00", false)]
#[case::next_morning_is_six_by_the_clock("0 6 * * *", 45, "2026-03-29T06:00:00+02:00", true)]
#[case::next_morning_not_an_hour_late("0 6 * * *", 45, "2026-03-29T06:59:00+02:00", false)]
#[case::next_day_as_always("30 2 * * *", 45, "2026-03-30T02:30:00+02:00", true)]
// On 2026-10-25 it goes from 03:00 (+02) back to 02:00 (+01).
#[case::repeated_time_fires_first("30 2 * * *", 45, "2026-10-25T02:30:00+02:00", true)]
#[case::not_open_between("30 2 * * *", 15, "2026-10-25T02:50:00+02:00", false)]
#[case::repeated_time_fires_again("30 2 * * *", 15, "2026-10-25T02:30:00+01:00", true)]
#[case::and_not_a_third_time("30 2 * * *", 15, "2026-10-25T03:30:00+01:00", false)]
#[case::across_the_repeat_in_its_second_half("30 2 * * *", 45, "2026-10-25T02:14:59+01:00", true)]
#[case::across_the_repeat_elapsed_time_counts("30 2 * * *", 45, "2026-10-25T02:15:00+01:00", false)]
#[case::morning_after_the_repeat("0 6 * * *", 45, "2026-10-25T06:00:00+01:00", true)]
#[case::morning_after_not_an_hour_early("0 6 * * *", 45, "2026-10-25T06:00:00+02:00", false)]
#[case::every_ten_minutes_in_the_first_half("*/10 * * * *", 1, "2026-10-25T02:20:30+02:00", true)]
#[case::every_ten_minutes_in_the_second_half("*/10 * * * *", 1, "2026-10-25T02:20:30+01:00", true)]
#[case::every_ten_minutes_not_between("*/10 * * * *", 1, "2026-10-25T02:21:00+01:00", false)]
fn when_the_clock_changes(
    #[case] cron: &str,
    #[case] minutes: u32,
    #[case] moment: &str,
    #[case] open: bool,
) {
    assert_eq!(
        schedule(cron, minutes, "Europe/Berlin").is_open(at(moment)),
        open
    );
}

#[test]
fn the_next_opening_is_later_than_the_moment_asked_about() {
    let schedule = schedule("0 6 * * MON-FRI", 45, "Europe/Berlin");
    let monday = at("2026-11-23T06:00:00+01:00");
    assert_eq!(schedule.next_open(at("2026-11-21T12:00:00Z")), Some(monday));
    assert_eq!(
        schedule.next_open(monday),
        Some(at("2026-11-24T06:00:00+01:00"))
    );
    assert_eq!(
        schedule.to_string(),
        "`0 6 * * MON-FRI` for 45m in Europe/Berlin"
    );
}

#[test]
fn windows_longer_than_the_gap_between_them_stay_open() {
    let schedule = schedule("0 * * * *", 90, "UTC");
    for minute in 0..600 {
        let moment = at("2026-11-23T00:00:00Z") + SignedDuration::from_mins(minute);
        assert!(schedule.is_open(moment), "{moment}");
    }
}

#[rstest]
#[case::four_fields("0 6 * *", "five fields")]
#[case::six_fields("0 0 6 * * *", "seconds")]
#[case::words("every morning at six please", "names such as `MON`")]
#[case::empty("", "five fields")]
#[case::minute_too_large("60 6 * * *", "from 0 to 59")]
#[case::sunday_is_not_seven("0 6 * * 7", "`SUN`")]
#[case::no_weekday("0 6 * * NOD", "names such as `MON`")]
#[case::a_long_name("0 6 * * MONDAY", "names such as `MON`")]
#[case::backwards("0 6 * * FRI-MON", "two ranges")]
#[case::last_day("0 6 L * *", "has no `L`")]
#[case::no_step("*/0 6 * * *", "steps `*/10`")]
#[case::three_parts("1-2-3 6 * * *", "ranges `1-5`")]
#[case::unknown_short_form("@reboot", "`@daily`")]
#[case::capitals("@Daily", "`@daily`")]
#[case::from_the_last_run("@every 1h", "`0 * * * *`")]
#[case::zone_in_it("TZ=UTC 0 6 * * *", "`timeZone`")]
#[case::zone_in_it_otherwise("CRON_TZ=Europe/Berlin 0 6 * * *", "`timeZone`")]
fn is_no_cron_expression(#[case] cron: &str, #[case] remedy: &str) {
    let error = Schedule::parse(cron, MINUTE, "UTC").expect_err("an error");
    let ScheduleError::Cron(error) = error else {
        panic!("{error:?}");
    };
    assert!(error.remedy().contains(remedy), "{}", error.remedy());
}

#[rstest]
#[case("europe/berlin", "Europe/Berlin")]
#[case("utc", "UTC")]
fn capitals_of_a_time_zone_count(#[case] written: &str, #[case] spelled: &str) {
    let error = Schedule::parse("0 6 * * *", MINUTE, written).expect_err("an error");
    assert_eq!(error, ScheduleError::Spelling(spelled.to_owned()));
}

#[rstest]
#[case("Etc/UTC")]
#[case("Europe/Kiev")]
#[case("America/Argentina/Buenos_Aires")]
#[case("EST5EDT")]
fn zones_keep_the_name_that_they_are_written_with(#[case] written: &str) {
    let schedule = schedule("0 6 * * *", 45, written);
    assert_eq!(
        schedule.to_string(),
        format!("`0 6 * * *` for 45m in {written}")
    );
}

#[rstest]
#[case("0 0 31 2 *", MINUTE, "UTC", ScheduleError::Never)]
#[case("0 0 30 2 *", MINUTE, "Europe/Berlin", ScheduleError::Never)]
#[case("0 6 * * *", MINUTE, "Europe/Bielefeld", ScheduleError::TimeZone)]
#[case("0 6 * * *", MINUTE, "", ScheduleError::TimeZone)]
#[case("0 6 * * *", MINUTE, "Local", ScheduleError::TimeZone)]
#[case("0 6 * * *", MINUTE, "Etc/Unknown", ScheduleError::TimeZone)]
#[case(", 6 * * *", MINUTE, "UTC", ScheduleError::Never)]
#[case("0 6 * * *", Duration::ZERO, "UTC", ScheduleError::Duration)]
#[case("0 6 * * *", MAX_DURATION + MINUTE, "UTC", ScheduleError::Duration)]
#[case(
    "0 6 * * *",
    Duration::from_millis(1500),
    "UTC",
    ScheduleError::Duration
)]
fn cannot_be_used(
    #[case] cron: &str,
    #[case] duration: Duration,
    #[case] zone: &str,
    #[case] expected: ScheduleError,
) {
    let error = Schedule::parse(cron, duration, zone).expect_err("an error");
    assert_eq!(error, expected);
}

#[test]
fn a_leap_day_is_no_impossible_day() {
    let schedule = schedule("0 0 29 2 *", 60, "UTC");
    assert!(schedule.is_open(at("2028-02-29T00:30:00Z")));
    assert!(!schedule.is_open(at("2027-03-01T00:30:00Z")));
}

/// One schedule with a memory, one made anew for each question, and a reference that walks through all
/// firings, over both changes of the clock.
#[rstest]
#[case("30 2 * * *", 45)]
#[case("15 1 * * *", 100)]
#[case("0 3 * * *", 30)]
#[case("*/7 * * * *", 3)]
#[case("0 * * * *", 20)]
#[case("*/30 2 * * SUN", 10)]
fn remembering_changes_no_answer(#[case] cron: &str, #[case] minutes: u32) {
    let remembering = schedule(cron, minutes, "Europe/Berlin");
    for day in ["2026-03-28T22:00:00Z", "2026-10-24T22:00:00Z"] {
        let mut fires = Vec::new();
        let mut last = at(day) - SignedDuration::from_hours(24);
        while last < at(day) + SignedDuration::from_hours(8) {
            last = remembering.next_open(last).expect("it fires again");
            fires.push(last);
        }
        for step in 0..480 {
            let moment = at(day) + SignedDuration::from_mins(step);
            let length = SignedDuration::from_mins(minutes.into());
            let walked = fires
                .iter()
                .any(|from| (*from..*from + length).contains(&moment));
            let anew = schedule(cron, minutes, "Europe/Berlin");
            assert_eq!(anew.is_open(moment), walked, "{moment} anew");
            assert_eq!(remembering.is_open(moment), walked, "{moment} remembered");
        }
    }
}
