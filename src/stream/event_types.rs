//! Which events a client wants to be told of, by their names.

use std::collections::BTreeSet;

use warp::http::StatusCode;

use crate::http::Problem;
use crate::payment::EventData;

/// Snapshots and resets come whatever it says: they are what is, and not what happens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Types {
    /// `None` is all of them. Each once, however often it was named.
    names: Option<BTreeSet<&'static str>>,
}

impl Types {
    /// From a list with commas, as it stands in a query.
    pub(super) fn listed(text: &str) -> Result<Self, Problem> {
        Self::named(text.split(',').map(str::trim))
    }

    pub(super) fn named<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, Problem> {
        let known = |name: &str| EventData::NAMES.into_iter().find(|known| *known == name);
        let names: Option<BTreeSet<_>> = names.map(known).collect();
        match names {
            Some(names) if !names.is_empty() => Ok(Self { names: Some(names) }),
            _ => {
                let detail = format!("types must be one or more of {}", EventData::NAMES.join(", "));
                Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_types", detail))
            }
        }
    }

    pub(super) fn has(&self, data: &EventData) -> bool {
        self.has_name(data.name())
    }

    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Types;
    use crate::payment::{EventData, samples};

    #[test]
    fn every_event_has_its_name_among_the_names() {
        let named: BTreeSet<&str> = samples::all().iter().map(EventData::name).collect();
        assert_eq!(named, BTreeSet::from(EventData::NAMES));
    }

    #[test]
    fn a_name_is_known_or_refused() {
        let some = Types::listed("PaymentSuccessful, PaymentFailed").unwrap();
        assert!(some.has(&samples::successful("r")) && some.has(&samples::failed("c")));
        assert!(!some.has(&samples::parked()) && Types::default().has(&samples::parked()));
        for wrong in ["", ",", "PaymentSuccessful,", "paymentsuccessful", "snapshot"] {
            assert!(Types::listed(wrong).is_err(), "{wrong}");
        }
        assert!(Types::named(std::iter::empty()).is_err());
        let often = Types::named(std::iter::repeat_n("PaymentFailed", 1_000)).unwrap();
        assert_eq!(
            (often.names.as_ref().map(BTreeSet::len), often),
            (Some(1), Types::listed("PaymentFailed").unwrap())
        );
    }
}
