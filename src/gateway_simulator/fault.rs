//! What can go wrong at a provider: every fault by name, chosen for one payment by its token `pm_sim_<name>`, or at a rate
//! for any payment that would have gone well. A draw depends on the seed, the key and the number of the request alone, so
//! that a run can be repeated whatever the threads do.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// Tokens that choose a fault begin with this.
const TOKEN_PREFIX: &str = "pm_sim_";
/// Of the requests for one key, how many a fault that passes hits.
const PASSING_REQUESTS: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    Decline,
    Delay,
    Silent,
    ChargedThenSilent,
    Stall,
    Reset,
    Truncated,
    WrongJson,
    NotUtf8,
    Huge,
    Error500AfterCharge,
    Error500Forever,
    InProgress,
    RateLimited,
    Transient,
    Unavailable,
    Redirect,
    WrongAmount,
    WrongCurrency,
    WrongReference,
    LateSuccess,
    Flip,
    DoubleCharge,
}

/// Each fault, its name and what it does.
const FAULTS: &[(Fault, &str, &str)] = &[
    (Fault::Decline, "decline", "declined"),
    (Fault::Delay, "delay", "charged; answers after --delay-ms, and meanwhile a repeat gets 409"),
    (Fault::Silent, "silent", "the first request is neither charged nor answered; a repeat is"),
    (Fault::ChargedThenSilent, "charged_then_silent", "charged, and the first request is never answered"),
    (Fault::Stall, "stall", "never charged, never answered"),
    (Fault::Reset, "reset", "charged; the connection breaks in the middle of the answer"),
    (Fault::Truncated, "truncated", "charged; the first answer is JSON that breaks off"),
    (Fault::WrongJson, "wrong_json", "charged; the first answer is JSON of something else"),
    (Fault::NotUtf8, "not_utf8", "charged; the first answer is no UTF-8"),
    (Fault::Huge, "huge", "charged; the first answer has 10 MB"),
    (Fault::Error500AfterCharge, "500_after_charge", "charged; answers 500, to every repeat too"),
    (Fault::Error500Forever, "500_forever", "never charged; answers 500, to every repeat too"),
    (Fault::InProgress, "in_progress", "charged; answers 409 (in progress) until --late-ms have passed"),
    (Fault::RateLimited, "rate_limited", "429 with Retry-After: 1 for the first two requests, then charged"),
    (Fault::Transient, "transient", "503 for the first two requests, then charged"),
    (Fault::Unavailable, "unavailable", "never charged; answers 503"),
    (Fault::Redirect, "redirect", "the first request is answered 302 to a forbidden address; a repeat is charged"),
    (Fault::WrongAmount, "wrong_amount", "charged, one minor unit too much"),
    (Fault::WrongCurrency, "wrong_currency", "charged in another currency"),
    (Fault::WrongReference, "wrong_reference", "charged, with the metadata of another payment"),
    (Fault::LateSuccess, "late_success", "processing; charged when --late-ms have passed"),
    (Fault::Flip, "flip", "declined, and charged all the same when --late-ms have passed"),
    (Fault::DoubleCharge, "double_charge", "charged twice under one key, as no provider should"),
];

impl Fault {
    pub fn all() -> impl Iterator<Item = (Self, &'static str)> {
        FAULTS.iter().map(|(fault, name, _)| (*fault, *name))
    }

    fn named(name: &str) -> Option<Self> {
        Self::all().find(|(_, known)| *known == name).map(|(fault, _)| fault)
    }

    /// The fault that this token asks for.
    #[must_use]
    pub fn of_token(token: &str) -> Option<Self> {
        Self::named(token.strip_prefix(TOKEN_PREFIX)?)
    }

    /// How many requests for one key it hits, from the first, when a token asked for it. What happens to a charge happens
    /// once in any case; this counts for what happens to requests.
    fn requests_hit(self) -> u32 {
        match self {
            Self::RateLimited | Self::Transient => PASSING_REQUESTS,
            Self::Silent
            | Self::ChargedThenSilent
            | Self::Reset
            | Self::Truncated
            | Self::WrongJson
            | Self::NotUtf8
            | Self::Huge
            | Self::Redirect => 1,
            _ => u32::MAX,
        }
    }
}

/// For `--help`.
#[must_use]
pub fn help() -> String {
    // Lines short enough for a terminal of 80 columns, or clap would break them once more.
    let mut text = String::from(
        "Payment methods: Stripe's test tokens (pm_card_visa, pm_card_mastercard and\n\
         pm_card_amex succeed, pm_card_visa_chargeDeclined and its like are declined,\n\
         pm_card_authenticationRequired needs its owner), and one for each fault. With\n\
         --fault NAME=RATE a fault strikes single requests of payments that would succeed;\n\
         the next request for the same payment is drawn anew.\n\n",
    );
    for (_, name, what) in FAULTS {
        let _ = writeln!(text, "  {TOKEN_PREFIX}{name:<20} {what}"); // a String takes everything
    }
    text
}

/// How often a fault strikes, of all requests for payments that would go well: `name=0.02`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    fault: Fault,
    share: f64,
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, share) = text.split_once('=').ok_or("must be NAME=RATE, such as charged_then_silent=0.02")?;
        let fault = Fault::named(name).ok_or_else(|| format!("there is no fault {name:?}: --help lists them"))?;
        match share.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self { fault, share }),
            _ => Err("the rate must be between 0 and 1".to_owned()),
        }
    }
}

/// Which faults strike by themselves, and the dice.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    pub rates: Vec<Rate>,
    pub seed: u64,
}

impl Rates {
    /// The fault of request number `nth` for this key, from 1. `token` decides if it is one of a fault.
    #[must_use]
    pub fn fault(&self, token: &str, key: &str, nth: u32) -> Option<Fault> {
        match Fault::of_token(token) {
            Some(fault) => (nth <= fault.requests_hit()).then_some(fault),
            None => self.draw(key, nth),
        }
    }

    /// The share of requests that any of them hits.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.rates.iter().map(|rate| rate.share).sum()
    }

    fn draw(&self, key: &str, nth: u32) -> Option<Fault> {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(nth.to_be_bytes());
        hash.update(key);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        let mut drawn = f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0);
        for rate in &self.rates {
            if drawn < rate.share {
                return Some(rate.fault);
            }
            drawn -= rate.share;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Rates, help};

    #[test]
    fn every_fault_has_a_token_of_its_own_and_is_explained() {
        for (fault, name) in Fault::all() {
            assert_eq!(Fault::of_token(&format!("pm_sim_{name}")), Some(fault));
            assert!(help().contains(name));
        }
        assert_eq!(Fault::of_token("pm_card_visa"), None);
    }

    #[test]
    fn a_token_s_fault_passes_and_another_does_not() {
        let rates = Rates::default();
        assert_eq!(rates.fault("pm_sim_silent", "k", 1), Some(Fault::Silent));
        assert_eq!(rates.fault("pm_sim_silent", "k", 2), None);
        assert_eq!(rates.fault("pm_sim_transient", "k", 2), Some(Fault::Transient));
        assert_eq!(rates.fault("pm_sim_transient", "k", 3), None);
        assert_eq!(rates.fault("pm_sim_unavailable", "k", 1_000), Some(Fault::Unavailable));
    }

    #[test]
    fn rates_are_met_and_a_draw_can_be_repeated() {
        let rates = vec!["stall=0.1".parse().unwrap(), "flip=0.2".parse().unwrap()];
        let rates = Rates { rates, seed: 7 };
        let draws =
            |fault| (0..10_000).filter(|n| rates.fault("pm_card_visa", &n.to_string(), 1) == Some(fault)).count();
        assert!((900..1_100).contains(&draws(Fault::Stall)), "{}", draws(Fault::Stall));
        assert!((1_800..2_200).contains(&draws(Fault::Flip)), "{}", draws(Fault::Flip));
        for wrong in ["stall", "stall=2", "stall=-1", "stall=x", "nothing=0.1"] {
            assert!(wrong.parse::<super::Rate>().is_err(), "{wrong}");
        }
    }
}
