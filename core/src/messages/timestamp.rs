//! When something was said, as its writer puts it. It is shown and never reckoned with.

use alloc::format;
use alloc::string::String;

use core::fmt;
use core::str::FromStr;

/// A time of the calendar in ISO 8601, as text: `2026-11-21T19:00:00Z`, `2026-11-21T20:00:00.123+01:00`.
///
/// It is the form of RFC 3339: a date, `T`, a time with seconds and up to nine digits of a fraction, and `Z` or an offset.
/// The text is kept as it came. Whether the day is in that month is not looked at.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Timestamp(String);

/// A text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("it is not {}", Timestamp::FORM)]
pub struct NotATimestamp;

impl Timestamp {
    /// What complaints call it.
    pub(super) const FORM: &'static str = "a time in ISO 8601";
    /// The last millisecond that four digits of a year can tell.
    const LAST_MILLIS: u64 = 253_402_300_799_999;

    /// Checks the form and keeps the text.
    ///
    /// # Errors
    ///
    /// [`NotATimestamp`].
    pub fn new(text: &str) -> Result<Self, NotATimestamp> {
        if is_timestamp(text.as_bytes()) { Ok(Self(text.into())) } else { Err(NotATimestamp) }
    }

    /// The time so many milliseconds after 1970 began, in UTC. What is after the year 9999 is taken for its end.
    #[must_use]
    pub fn from_unix_millis(millis: u64) -> Self {
        let millis = millis.min(Self::LAST_MILLIS);
        let (secs, millis) = (millis / 1_000, millis % 1_000);
        let (year, month, day) = date(secs / 86_400);
        let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
        Self(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        Self::new(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The day so many days after 1970-01-01: year, month, day. Counted from 0000-03-01, so that the odd day of a leap year comes
/// last, in cycles of 400 years.
const fn date(days: u64) -> (u64, u64, u64) {
    const CYCLE: u64 = 146_097;
    let days = days + 719_468;
    let (cycle, of_cycle) = (days / CYCLE, days % CYCLE);
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (cycle * 400 + year + (month <= 2) as u64, month, day)
}

fn is_timestamp(text: &[u8]) -> bool {
    let Some((date_time, rest)) = text.split_at_checked(19) else { return false };
    let number = |at: usize, len: usize| number(&date_time[at..at + len]);
    let in_range = |at, low, high| number(at, 2).is_some_and(|number| (low..=high).contains(&number));
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let is_date_time = separators.iter().all(|(at, separator)| date_time[*at] == *separator)
        && number(0, 4).is_some()
        && in_range(5, 1, 12)
        && in_range(8, 1, 31)
        && in_range(11, 0, 23)
        && in_range(14, 0, 59)
        && in_range(17, 0, 60);
    is_date_time && is_zone(without_fraction(rest))
}

/// What is left behind a fraction of a second, or all where there is none. A fraction of no digits, or of more than nine, is
/// left too, and then is no zone.
fn without_fraction(rest: &[u8]) -> &[u8] {
    let Some((b'.', fraction)) = rest.split_first() else { return rest };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if (1..=9).contains(&digits) { &fraction[digits..] } else { rest }
}

fn is_zone(zone: &[u8]) -> bool {
    match zone {
        [b'Z'] => true,
        [b'+' | b'-', offset @ ..] if offset.len() == 5 => {
            offset[2] == b':'
                && number(&offset[..2]).is_some_and(|hours| hours <= 23)
                && number(&offset[3..]).is_some_and(|minutes| minutes <= 59)
        }
        _ => false,
    }
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')))
}
