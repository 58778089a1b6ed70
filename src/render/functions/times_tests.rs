use super::super::super::engine::go::format::cases::cases;
use super::super::layout::{format, parse};
use super::*;
use jiff::civil::date;
use jiff::tz::Offset;

/// The same times as in the program that made the cases.
fn moments() -> Vec<Moment> {
    let moment = |civil: jiff::civil::DateTime, seconds: i32, zone: &str| {
        let offset = Offset::from_seconds(seconds).unwrap();
        Moment { at: offset.to_timestamp(civil).unwrap(), offset, zone: zone.into() }
    };
    vec![
        moment(date(2009, 11, 10).at(23, 4, 5, 0), 0, "UTC"),
        moment(date(2024, 2, 29).at(0, 0, 0, 123_456_789), 0, "UTC"),
        moment(date(2025, 7, 4).at(12, 30, 9, 120_000_000), 7200, "CEST"),
        moment(date(1999, 12, 31).at(11, 59, 59, 999_000_000), -12600, ""),
        moment(date(33, 1, 1).at(13, 0, 0, 1000), 12345, "LMT"),
    ]
}

#[test]
fn layouts_show_times_as_go_does() {
    let moments = moments();
    let (mut compared, mut wrong) = (0, Vec::new());
    for row in cases("time") {
        let layout = String::from_utf8(row[0].clone()).unwrap();
        for (moment, want) in moments.iter().zip(&row[1..]) {
            compared += 1;
            let (got, want) = (format(moment, &layout), String::from_utf8_lossy(want));
            if got != want {
                wrong.push(format!("{layout}: {got}, Go: {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 150, "only {compared} were compared");
}

#[test]
fn times_are_read_in_the_form_in_which_they_are_shown() {
    for (layout, text, want) in [
        ("2006-01-02", "2024-02-29", Ok("2024-02-29T00:00:00Z")),
        ("2006-01-02T15:04:05Z07:00", "2025-07-04T12:30:09.5+02:00", Ok("2025-07-04T10:30:09.5Z")),
        ("2006-01-02T15:04:05Z07:00", "2025-07-04T12:30:09Z", Ok("2025-07-04T12:30:09Z")),
        ("Jan _2 3:04PM 06", "Feb  3 1:05AM 99", Ok("1999-02-03T01:05:00Z")),
        ("02 January 2006 MST", "03 march 2020 UTC", Ok("2020-03-03T00:00:00Z")),
        ("05.000 2006", "07.125 2020", Ok("2020-01-01T00:00:07.125Z")),
        ("-0700 2006", "-0330 2020", Ok("2020-01-01T03:30:00Z")),
        ("2006-01-02", "2024-02-30", Err("day out of range")),
        ("2006-01-02", "2024-2-3", Err("cannot parse \"2-3\" as \"01\"")),
        ("2006", "2024x", Err("extra text: \"x\"")),
        ("PM", "xx", Err("cannot parse \"xx\" as \"PM\"")),
        ("-07:00", "é", Err("cannot parse \"é\" as \"-07:00\"")),
    ] {
        let got = parse(layout, text, &TimeZone::UTC).map(|moment| moment.at.to_string());
        match (got, want) {
            (Ok(got), Ok(want)) => assert_eq!(got, want, "{layout} {text}"),
            (Err(got), Err(want)) => assert!(got.contains(want), "{layout} {text}: {got}"),
            (got, want) => panic!("{layout} {text}: {got:?}, not {want:?}"),
        }
    }
}
