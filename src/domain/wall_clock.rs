//! Wall-clock times written by senders. Parsing checks only the format. Valid calendar times are kept unchanged, and
//! invalid times are replaced with the server's time ([`WireOffset::repaired`]).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};

/// Local time written by a client: `YYYY-MM-DDTHH:MM:SS` with 0 to 6 fractional digits and no time zone (SPEC 4). Only
/// the format is guaranteed. The day or time may not exist ([`is_valid`](Self::is_valid)).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WallClock(Box<str>);

/// Error for a string that does not have the format of a [`WallClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected YYYY-MM-DDTHH:MM:SS with up to 6 decimals and no zone")]
pub struct InvalidWallClock;

impl WallClock {
    /// Maximum length, in characters: the length with six fractional digits.
    pub const MAX_LEN: usize = 26;

    /// Returns the string as it was received.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the value is a valid calendar time. The day must exist and be in year 1 or later, and the time
    /// must be between 00:00:00 and 23:59:59.
    pub fn is_valid(&self) -> bool {
        let number = |at: std::ops::Range<usize>| {
            self.0.as_bytes()[at].iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
        };
        let year = number(0..4);
        let is_day = NaiveDate::from_ymd_opt(year as i32, number(5..7), number(8..10)).is_some();
        year > 0 && is_day && number(11..13) < 24 && number(14..16) < 60 && number(17..19) < 60
    }

    /// Returns the value without fractional seconds. The widget uses this form to request older messages.
    pub fn whole_seconds(&self) -> &str {
        &self.0[..19]
    }
}

impl FromStr for WallClock {
    type Err = InvalidWallClock;
    fn from_str(text: &str) -> Result<Self, InvalidWallClock> {
        const SHAPE: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";
        let bytes = text.as_bytes();
        let head = bytes.len() >= SHAPE.len()
            && SHAPE
                .iter()
                .zip(bytes)
                .all(|(want, got)| if *want == b'd' { got.is_ascii_digit() } else { want == got });
        let decimals = match bytes.get(SHAPE.len()..) {
            Some([]) => true,
            Some([b'.', decimals @ ..]) => decimals.len() <= 6 && decimals.iter().all(u8::is_ascii_digit),
            _ => false,
        };
        // A trailing dot without fractional digits is rejected.
        if head && decimals && !text.ends_with('.') { Ok(Self(text.into())) } else { Err(InvalidWallClock) }
    }
}

impl fmt::Display for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({})", self.0)
    }
}

/// Offset of clients' wall-clock times from UTC (`wire-offset`). The default is the offset of Korea.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireOffset(FixedOffset);

/// UTC+9.
const KOREA_OFFSET: FixedOffset = match FixedOffset::east_opt(9 * 3_600) {
    Some(offset) => offset,
    None => panic!("less than a day"),
};

impl Default for WireOffset {
    fn default() -> Self {
        Self::KOREA
    }
}

impl WireOffset {
    /// Offset of Korea, UTC+9.
    pub const KOREA: Self = Self(KOREA_OFFSET);

    /// Returns the offset in minutes. Offsets east of UTC are positive.
    pub fn minutes(self) -> i32 {
        self.0.local_minus_utc() / 60
    }

    /// Converts an instant to a wall-clock time in whole seconds.
    pub fn wall_clock(self, at: DateTime<Utc>) -> WallClock {
        WallClock(at.with_timezone(&self.0).format("%Y-%m-%dT%H:%M:%S").to_string().into())
    }

    /// Returns `written` if it is a valid calendar time, and the time of acceptance otherwise. The legacy admin page
    /// fails on invalid times (SPEC 4).
    pub fn repaired(self, written: WallClock, accepted_at: DateTime<Utc>) -> WallClock {
        if written.is_valid() {
            return written;
        }
        self.of_acceptance(accepted_at)
    }

    /// Formats the time of acceptance as a wall-clock time with milliseconds.
    pub fn of_acceptance(self, accepted_at: DateTime<Utc>) -> WallClock {
        WallClock(accepted_at.with_timezone(&self.0).format("%Y-%m-%dT%H:%M:%S%.3f").to_string().into())
    }

    /// Converts a client's wall-clock time to an instant. Fractional seconds are ignored. Returns `None` if the day
    /// does not exist. Seconds above 59 carry over into the next minute, because an example in the specification
    /// contains such a time.
    pub fn instant(self, shown: &WallClock) -> Option<DateTime<Utc>> {
        let (day, time) = shown.whole_seconds().split_once('T')?;
        let mut parts = time.split(':').map(str::parse::<i64>);
        let mut next = || parts.next()?.ok();
        let seconds = (next()? * 60 + next()?) * 60 + next()?;
        let midnight = chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()?.and_time(chrono::NaiveTime::MIN);
        let naive = midnight + chrono::TimeDelta::seconds(seconds);
        naive.and_local_timezone(self.0).single().map(|at| at.with_timezone(&Utc))
    }
}

/// Error for a string that is not an offset such as `+09:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an offset from UTC such as +09:00")]
pub struct InvalidWireOffset;

impl FromStr for WireOffset {
    type Err = InvalidWireOffset;
    fn from_str(text: &str) -> Result<Self, InvalidWireOffset> {
        text.parse().map(Self).map_err(|_| InvalidWireOffset)
    }
}

impl fmt::Display for WireOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shape_of_a_wall_clock_is_checked() {
        for good in [
            "2023-03-23T08:15:07",
            "2023-03-23T08:15:77",
            "2023-03-23T08:15:07.1",
            "2023-03-23T08:15:07.123456",
            "9999-99-99T99:99:99",
        ] {
            assert_eq!(good.parse::<WallClock>().map(|clock| clock.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "2023-03-23T08:15",
            "2023-03-23T08:15:07.",
            "2023-03-23T08:15:07.1234567",
            "2023-03-23T08:15:07Z",
            "2023-03-23 08:15:07",
            "2023-03-23T08:15:07+09:00",
            "２023-03-23T08:15:07",
        ] {
            assert!(bad.parse::<WallClock>().is_err(), "{bad}");
        }
    }

    #[test]
    fn invalid_calendar_time_is_replaced_by_acceptance_time() {
        let korea = WireOffset::default();
        let accepted_at = DateTime::from_timestamp_millis(1_679_527_007_900).unwrap();
        let repaired = |text: &str| korea.repaired(text.parse().unwrap(), accepted_at).to_string();
        for valid in [
            "2023-03-23T08:15:07",
            "2024-02-29T23:59:59.999999",
            "0001-01-01T00:00:00",
            "9999-12-31T23:59:59.9",
            "2000-02-29T00:00:00.0",
        ] {
            assert_eq!(repaired(valid), valid);
        }
        for invalid in [
            "2023-03-23T08:15:77",
            "2023-03-23T08:15:60",
            "2016-12-31T23:59:60.5",
            "2023-03-23T08:60:07",
            "2023-03-23T24:00:00",
            "2023-13-23T08:15:07",
            "2023-00-23T08:15:07",
            "2023-03-32T08:15:07",
            "2023-03-00T08:15:07",
            "2023-02-29T08:15:07",
            "1900-02-29T08:15:07",
            "2023-04-31T08:15:07.123456",
            "0000-01-01T00:00:00",
            "9999-99-99T99:99:99",
        ] {
            assert_eq!(repaired(invalid), "2023-03-23T08:16:47.900", "{invalid}");
        }
    }

    #[test]
    fn instant_is_converted_to_korean_wall_clock() {
        let korea: WireOffset = "+09:00".parse().unwrap();
        let at = DateTime::parse_from_rfc3339("2023-03-22T23:15:07.900Z").unwrap().with_timezone(&Utc);
        let shown = korea.wall_clock(at);
        assert_eq!(shown.as_str(), "2023-03-23T08:15:07");
        assert_eq!(korea.instant(&shown).unwrap().to_rfc3339(), "2023-03-22T23:15:07+00:00");
        assert_eq!(korea.instant(&"2023-99-23T08:15:07".parse().unwrap()), None);
        let late = korea.instant(&"2023-03-23T08:15:77.5".parse().unwrap()).unwrap();
        assert_eq!(late.to_rfc3339(), "2023-03-22T23:16:17+00:00");
    }
}
