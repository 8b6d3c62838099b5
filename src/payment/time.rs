//! An instant on the log: microseconds since 1970, UTC. Nothing here asks a clock but [`Timestamp::now`], which the
//! writers of events use and the fold cannot name by accident: it takes its instants from records.

use std::fmt;
use std::time::Duration;

/// An instant between 2000 and 2100: anything else on a record is a mistake (seconds or nanoseconds for microseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    const MIN_US: i64 = 946_684_800_000_000; // 2000-01-01T00:00:00Z
    const MAX_US: i64 = 4_102_444_800_000_000; // 2100-01-01T00:00:00Z
    pub const MIN: Self = Self(Self::MIN_US);
    pub const MAX: Self = Self(Self::MAX_US);

    /// From microseconds since 1970; `None` outside 2000 to 2100.
    #[must_use]
    pub fn from_micros(us: i64) -> Option<Self> {
        (Self::MIN_US..=Self::MAX_US).contains(&us).then_some(Self(us))
    }

    /// From RFC 3339; `None` outside 2000 to 2100. Parts of a microsecond are cut off.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_micros(text.parse::<jiff::Timestamp>().ok()?.as_microsecond())
    }

    /// The wall clock, held inside the valid range.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond().clamp(Self::MIN_US, Self::MAX_US))
    }

    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// This instant later by `by`, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let us = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(us).min(Self::MAX_US))
    }

    /// How long from `earlier` to this; zero if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0 - earlier.0).unwrap_or(0))
    }
}

/// RFC 3339 with microseconds, in UTC.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => write!(f, "{instant:.6}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn only_2000_to_2100_is_an_instant() {
        assert!(Timestamp::from_micros(946_684_799_999_999).is_none());
        assert!(Timestamp::from_micros(4_102_444_800_000_001).is_none());
        assert!(Timestamp::from_micros(1_700_000_000).is_none(), "seconds are not microseconds");
    }

    #[test]
    fn it_is_shown_as_rfc_3339() {
        let instant = Timestamp::from_micros(1_764_000_000_000_001).unwrap();
        assert_eq!(instant.to_string(), "2025-11-24T16:00:00.000001Z");
        for text in ["2025-11-24T16:00:00.000001Z", "2025-11-24T17:00:00.000001+01:00"] {
            assert_eq!(Timestamp::parse(text), Some(instant), "{text}");
        }
        for wrong in ["", "2025-11-24", "2025-11-24T16:00:00", "1999-11-24T16:00:00Z", "tomorrow", "1764000000"] {
            assert_eq!(Timestamp::parse(wrong), None, "{wrong}");
        }
    }
}
