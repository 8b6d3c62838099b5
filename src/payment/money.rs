//! Money: a positive whole number of minor units, and an ISO 4217 currency that has minor units.

use std::fmt;

use crate::payment::request::Invalid;

/// The largest amount, in minor units: 15 digits, so that it is exact in a JavaScript number (2^53) with room for sums.
pub const AMOUNT_MAX: i64 = 999_999_999_999_999;

/// The code of an ISO 4217 currency. Which of them one can pay in is asked of a new request only: what once was accepted
/// stays readable when a currency is retired.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Money {
    amount: i64,
    currency: Currency,
}

impl Currency {
    /// From the three capital letters of a currency that one can pay in today: it has an exponent and no successor, which
    /// leaves out metals, funds, tests, retired ones and `XXX`.
    pub fn parse(code: &str) -> Result<Self, Invalid> {
        let refuse = |detail: &str| Err(Invalid::field("invalid_currency", "currency", detail.to_owned()));
        if code.len() == 3 && code.bytes().any(|b| b.is_ascii_lowercase()) {
            return refuse("currency must be in capital letters, such as EUR");
        }
        let payable = |c: iso_currency::Currency| {
            c.exponent().is_some() && !c.is_fund() && !c.is_special() && c.is_superseded().is_none()
        };
        match (iso_currency::Currency::from_code(code), Self::recorded(code)) {
            (Some(known), Some(currency)) if payable(known) => Ok(currency),
            _ => refuse("currency must be an ISO 4217 code in which one can pay, such as EUR"),
        }
    }

    /// From a record: any three capital letters.
    #[must_use]
    pub fn recorded(code: &str) -> Option<Self> {
        let code: [u8; 3] = code.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// How many decimal digits a major unit has: 2 for EUR, 0 for JPY, 3 for BHD.
    #[must_use]
    pub fn exponent(self) -> u16 {
        iso_currency::Currency::from_code(self.code()).and_then(|c| c.exponent()).unwrap_or(0)
    }
}

impl Money {
    /// `amount` is in minor units (cents for EUR).
    pub fn new(amount: i64, currency: Currency) -> Result<Self, Invalid> {
        let refuse = |code: &'static str, detail: &str| Err(Invalid::field(code, "amount", detail.to_owned()));
        match amount {
            ..0 => refuse("amount_negative", "amount must be positive"),
            0 => refuse("amount_zero", "amount must not be zero"),
            1..=AMOUNT_MAX => Ok(Self { amount, currency }),
            _ => refuse("amount_too_large", "amount must be at most 999999999999999 minor units"),
        }
    }

    #[must_use]
    pub fn amount(self) -> i64 {
        self.amount
    }

    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// As a person reads it: `19.99 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.currency.exponent());
        let unit = 10_i64.pow(u32::from(self.currency.exponent()));
        match digits {
            0 => write!(f, "{} {}", self.amount, self.currency),
            _ => write!(f, "{}.{:0digits$} {}", self.amount / unit, self.amount % unit, self.currency),
        }
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <&str>::deserialize(deserializer)?;
        Self::recorded(code).ok_or_else(|| serde::de::Error::custom("a currency is three capital letters"))
    }
}

#[cfg(test)]
mod tests {
    use super::{AMOUNT_MAX, Currency, Money};

    #[test]
    fn money_is_shown_with_the_digits_of_its_currency() {
        let show = |amount, code| Money::new(amount, Currency::parse(code).unwrap()).unwrap().to_string();
        assert_eq!(show(1999, "EUR"), "19.99 EUR");
        assert_eq!(show(5, "EUR"), "0.05 EUR");
        assert_eq!(show(500, "JPY"), "500 JPY");
        assert_eq!(show(1234, "BHD"), "1.234 BHD");
    }

    #[test]
    fn currencies_that_are_refused() {
        for code in ["", "eur", "Eur", "EURO", "EU", "XXX", "XTS", "XAU", "XDR", "ZZZ", "978", "EÜR"] {
            assert!(Currency::parse(code).is_err(), "{code}");
        }
    }

    #[test]
    fn amounts_at_the_edges() {
        let eur = Currency::parse("EUR").unwrap();
        let code = |amount| Money::new(amount, eur).unwrap_err().code;
        assert_eq!(code(0), "amount_zero");
        assert_eq!(code(-1), "amount_negative");
        assert_eq!(code(i64::MIN), "amount_negative");
        assert_eq!(code(AMOUNT_MAX + 1), "amount_too_large");
        assert_eq!(code(i64::MAX), "amount_too_large");
        assert_eq!(Money::new(AMOUNT_MAX, eur).unwrap().amount(), AMOUNT_MAX);
    }
}
