//! Stripe's minor units where they are not those of ISO 4217 (docs.stripe.com/currencies, "zero-decimal" and "special
//! cases"). Who sends these amounts as they are charges a hundredth, or a hundredfold.

use crate::payment::Money;

/// Without minor units in ISO 4217; Stripe counts hundredths, of which there are always none.
const IN_HUNDREDTHS: &[&str] = &["ISK", "UGX"];
/// With hundredths in ISO 4217; Stripe counts whole ones.
const IN_WHOLE: &[&str] = &["MGA"];
const HUNDRED: i64 = 100;

/// `None` for a fraction that cannot be asked for. The largest amount, times a hundred, is far from an i64's end.
pub(super) fn to_stripe(money: Money) -> Option<i64> {
    let (amount, currency) = (money.amount(), money.currency());
    match currency.code() {
        code if IN_HUNDREDTHS.contains(&code) => amount.checked_mul(HUNDRED),
        code if IN_WHOLE.contains(&code) => (amount % HUNDRED == 0).then_some(amount / HUNDRED),
        _ => Some(amount),
    }
}

/// `None` for an amount that cannot be, such as a fraction of a króna.
pub(super) fn from_stripe(amount: i64, currency: &str) -> Option<i64> {
    match currency {
        code if IN_HUNDREDTHS.contains(&code) => (amount % HUNDRED == 0).then_some(amount / HUNDRED),
        code if IN_WHOLE.contains(&code) => amount.checked_mul(HUNDRED),
        _ => Some(amount),
    }
}

#[cfg(test)]
mod tests {
    use super::{from_stripe, to_stripe};
    use crate::payment::{Currency, Money};

    #[test]
    fn stripe_s_units_are_iso_s_but_for_three_currencies() {
        for (code, ours, theirs) in [
            ("EUR", 1999, Some(1999)),
            ("JPY", 500, Some(500)),
            ("BHD", 1230, Some(1230)),
            ("ISK", 5, Some(500)),
            ("UGX", 5, Some(500)),
            ("MGA", 500, Some(5)),
            ("MGA", 501, None),
        ] {
            let money = Money::new(ours, Currency::parse(code).unwrap()).unwrap();
            assert_eq!(to_stripe(money), theirs, "{code}");
            if let Some(theirs) = theirs {
                assert_eq!(from_stripe(theirs, code), Some(ours), "{code}");
            }
        }
        assert_eq!(from_stripe(501, "ISK"), None);
        assert_eq!(from_stripe(i64::MAX, "MGA"), None);
    }
}
