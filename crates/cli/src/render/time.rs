//! Times: in the local zone for people, RFC 3339 in UTC for programs; and times that people give.

use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// `2026-11-23 20:13:05`.
const FOR_PEOPLE: DateTimePrinter = DateTimePrinter::new().separator(b' ');

/// A time zone, looked up once a run.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    zone: TimeZone,
}

impl Times {
    /// In the zone of this machine, or of `TZ`.
    pub(crate) fn local() -> Self {
        Self { zone: TimeZone::system() }
    }

    /// `2026-11-23 20:13:05`, in the zone. A time beyond the calendar is given as its seconds.
    pub(crate) fn human(&self, epoch_seconds: u64) -> String {
        match timestamp(epoch_seconds) {
            Some(time) => FOR_PEOPLE.datetime_to_string(&self.zone.to_datetime(time)),
            None => format!("@{epoch_seconds}"),
        }
    }

    /// The epoch seconds that a person means: RFC 3339, seconds since 1970, a date (midnight in the zone), or a span
    /// from `now`.
    pub(crate) fn parse(&self, text: &str, now: u64) -> Result<u64, String> {
        let expected =
            "it is no time (2027-01-31T12:00:00Z, 2027-01-31), no seconds since 1970 and no span (7d, 36h)";
        if let Ok(seconds) = text.parse::<u64>() {
            return Ok(seconds);
        }
        let time = if let Ok(time) = text.parse::<Timestamp>() {
            time
        } else if let Ok(date) = text.parse::<jiff::civil::DateTime>() {
            self.zone.to_timestamp(date).map_err(|e| e.to_string())?
        } else {
            let span: Span = text.parse().map_err(|_| expected.to_owned())?;
            let now = timestamp(now).ok_or("the clock of this machine is beyond the calendar")?;
            let now = now.to_zoned_datetime(self.zone.clone());
            now.checked_add(span).map_err(|e| format!("{expected}: {e}"))?.timestamp()
        };
        u64::try_from(time.as_second()).map_err(|_| "it is before 1970".to_owned())
    }
}

/// RFC 3339 in UTC; `None` beyond the calendar.
pub(crate) fn rfc3339(epoch_seconds: u64) -> Option<String> {
    timestamp(epoch_seconds).map(|time| time.to_string())
}

fn timestamp(epoch_seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(epoch_seconds).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc() -> Times {
        Times { zone: TimeZone::UTC }
    }

    #[test]
    fn times_for_people_and_programs() {
        assert_eq!(utc().human(1_421_234_567), "2015-01-14 11:22:47");
        assert_eq!(rfc3339(1_421_234_567).unwrap(), "2015-01-14T11:22:47Z");
        assert_eq!(utc().human(u64::MAX), "@18446744073709551615");
        assert_eq!(rfc3339(u64::MAX), None);
    }

    #[test]
    fn times_that_people_give() {
        let now = 1_421_234_567;
        for (text, epoch) in [
            ("1421234567", 1_421_234_567),
            ("2015-01-14T11:22:47Z", 1_421_234_567),
            ("2015-01-14T12:22:47+01:00", 1_421_234_567),
            ("2015-01-14", 1_421_193_600),
            ("7d", now + 7 * 86_400),
            ("36h", now + 36 * 3_600),
            ("2 weeks", now + 14 * 86_400),
        ] {
            assert_eq!(utc().parse(text, now), Ok(epoch), "{text}");
        }
        for text in ["", "soon", "1960-01-01T00:00:00Z", "99999999999y"] {
            assert!(utc().parse(text, now).is_err(), "{text}");
        }
    }
}
