//! Option values that are durations.

use std::str::FromStr;
use std::time::Duration;

use super::InvalidValue;

/// Duration, such as `90s`, `15m` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| InvalidValue::new("expected a duration such as 90s, 15m or 7d"))
    }
}

/// Time for which replaced keys remain valid: from 0 to 366 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyGrace(pub Duration);

impl FromStr for KeyGrace {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.parse::<Span>()? {
            Span(span) if span > Duration::from_secs(366 * 86_400) => Err(InvalidValue::new("expected at most 366d")),
            Span(span) => Ok(Self(span)),
        }
    }
}

/// Duration of at least one second, used for retention periods. Zero is rejected, because it would delete rows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongSpan(pub Duration);

impl FromStr for LongSpan {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.parse::<Span>()? {
            Span(span) if span < Duration::from_secs(1) => Err(InvalidValue::new("expected at least 1s")),
            Span(span) => Ok(Self(span)),
        }
    }
}

/// [`LongSpan`] or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanOrOff(pub Option<Duration>);

impl FromStr for SpanOrOff {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "off" => Ok(Self(None)),
            _ => text.parse::<LongSpan>().map(|LongSpan(span)| Self(Some(span))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_idle_close_can_be_off() {
        assert_eq!("7d".parse(), Ok(Span(Duration::from_secs(604_800))));
        assert_eq!("0s".parse(), Ok(Span(Duration::ZERO)));
        assert_eq!("off".parse(), Ok(SpanOrOff(None)));
        assert_eq!("1h 30m".parse(), Ok(SpanOrOff(Some(Duration::from_secs(5_400)))));
        assert!("7".parse::<Span>().is_err());
        assert!("0s".parse::<SpanOrOff>().is_err());
        assert!("0s".parse::<LongSpan>().is_err());
        assert_eq!("0s".parse(), Ok(KeyGrace(Duration::ZERO)));
        assert!("366d".parse::<KeyGrace>().is_ok() && "367d".parse::<KeyGrace>().is_err());
    }
}
