//! The provider's ledger against the log, payment by payment. Pure.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// One line of the ledger: what was asked and charged under one key, which is a payment's id.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Charged {
    pub key: String,
    /// How often money was taken.
    pub charges: u64,
    pub amount: i64,
    pub currency: String,
    pub references: Vec<String>,
    pub status: String,
}

/// A payment as paylog shows it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Paid {
    pub id: String,
    pub status: Status,
    pub phase: String,
    pub amount: i64,
    pub currency: String,
    pub gateway: Option<ChargedBy>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    InProgress,
    Successful,
    Failed,
}

#[derive(Clone, Debug, serde::Deserialize)]
pub struct ChargedBy {
    pub name: String,
    pub reference: String,
}

/// What does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Also what a decline becomes that turns into a success at the provider.
    ChargedButFailed,
    ChargedMoreThanOnce,
    UnknownToTheLog,
    SuccessfulWithoutACharge,
    ChargedOtherwise,
    /// The provider has an answer that paylog has not recorded yet.
    StillOpen,
}

impl Kind {
    /// Somebody has to act. What is only late settles by itself.
    #[must_use]
    pub fn is_alarm(self) -> bool {
        self != Self::StillOpen
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ChargedButFailed => "charged_but_failed",
            Self::ChargedMoreThanOnce => "charged_more_than_once",
            Self::UnknownToTheLog => "charged_and_unknown_to_the_log",
            Self::SuccessfulWithoutACharge => "successful_without_a_charge",
            Self::ChargedOtherwise => "charged_otherwise",
            Self::StillOpen => "still_open",
        }
    }
}

/// What was found, by payment and kind, so that two looks can be compared; and in words.
pub type Findings = BTreeMap<(String, Kind), String>;

/// Successes of other gateways than `gateway` are not in this ledger.
#[must_use]
pub fn compare(ledger: &[Charged], log: &[Paid], gateway: &str) -> Findings {
    let mut findings = Findings::new();
    let payments: HashMap<&str, &Paid> = log.iter().map(|paid| (paid.id.as_str(), paid)).collect();
    let charged: HashMap<&str, &Charged> = ledger.iter().map(|charged| (charged.key.as_str(), charged)).collect();
    for charged in ledger {
        let mut found = |kind, text| drop(findings.insert((charged.key.clone(), kind), text));
        if charged.charges > 1 {
            let text = format!("{} charges under one key: {}", charged.charges, charged.references.join(", "));
            found(Kind::ChargedMoreThanOnce, text);
        }
        match payments.get(charged.key.as_str()) {
            Some(paid) => of_both(charged, paid, &mut found),
            None if charged.charges > 0 => found(
                Kind::UnknownToTheLog,
                format!(
                    "{} was charged ({}), and no payment has this id",
                    Sum::of(charged),
                    charged.references.join(", ")
                ),
            ),
            None => {}
        }
    }
    for paid in log.iter().filter(|paid| paid.status == Status::Successful) {
        let Some(by) = paid.gateway.as_ref().filter(|by| by.name == gateway) else { continue };
        if charged.get(paid.id.as_str()).is_none_or(|charged| charged.charges == 0) {
            let text = format!("successful as {}, and the ledger has no charge for it", by.reference);
            findings.insert((paid.id.clone(), Kind::SuccessfulWithoutACharge), text);
        }
    }
    findings
}

fn of_both(charged: &Charged, paid: &Paid, found: &mut impl FnMut(Kind, String)) {
    let references = charged.references.join(", ");
    if charged.charges == 0 {
        if paid.status == Status::InProgress && charged.status == "requires_payment_method" {
            found(Kind::StillOpen, format!("declined at the provider, and {} here", paid.phase));
        }
        return;
    }
    if charged.amount != paid.amount || charged.currency != paid.currency {
        let (is, asked) = (Sum::of(charged), Sum(paid.amount, &paid.currency));
        found(Kind::ChargedOtherwise, format!("{is} was charged ({references}) where {asked} was asked for"));
    }
    match (paid.status, &paid.gateway) {
        (Status::Failed, _) => {
            found(
                Kind::ChargedButFailed,
                format!("{} was charged ({references}), and the payment failed", Sum::of(charged)),
            );
        }
        (Status::InProgress, _) => {
            found(Kind::StillOpen, format!("charged at the provider ({references}), and {} here", paid.phase));
        }
        (Status::Successful, Some(by)) if !charged.references.contains(&by.reference) => {
            found(Kind::ChargedOtherwise, format!("successful as {}, and charged as {references}", by.reference));
        }
        (Status::Successful, _) => {}
    }
}

/// In minor units, for a reader.
struct Sum<'a>(i64, &'a str);

impl<'a> Sum<'a> {
    fn of(charged: &'a Charged) -> Self {
        Self(charged.amount, &charged.currency)
    }
}

impl fmt::Display for Sum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Charged, ChargedBy, Kind, Paid, Status, compare};

    fn charged(charges: u64) -> Charged {
        let references = (1..=charges).map(|n| format!("pi_{n}")).collect();
        let status = if charges > 0 { "succeeded" } else { "requires_payment_method" }.to_owned();
        Charged { key: "pay_1".to_owned(), charges, amount: 1999, currency: "EUR".to_owned(), references, status }
    }

    fn paid(status: Status) -> Paid {
        let by = ChargedBy { name: "stripe".to_owned(), reference: "pi_1".to_owned() };
        let gateway = (status == Status::Successful).then_some(by);
        let (id, phase) = ("pay_1".to_owned(), "unknown".to_owned());
        Paid { id, status, phase, amount: 1999, currency: "EUR".to_owned(), gateway }
    }

    fn kinds(ledger: &[Charged], log: &[Paid]) -> Vec<Kind> {
        let findings = compare(ledger, log, "stripe");
        assert!(findings.keys().all(|(payment, _)| payment == "pay_1"), "{findings:?}");
        findings.into_keys().map(|(_, kind)| kind).collect()
    }

    #[test]
    fn what_agrees_is_no_finding() {
        for (ledger, log) in [
            (vec![], vec![]),
            (vec![charged(1)], vec![paid(Status::Successful)]),
            (vec![charged(0)], vec![paid(Status::Failed)]),
            (vec![], vec![paid(Status::Failed)]),
            (vec![], vec![paid(Status::InProgress)]),
            (vec![charged(0)], vec![]),
        ] {
            assert_eq!(kinds(&ledger, &log), [], "{ledger:?} {log:?}");
        }
    }

    #[test]
    fn charged_but_failed() {
        assert_eq!(kinds(&[charged(1)], &[paid(Status::Failed)]), [Kind::ChargedButFailed]);
    }

    #[test]
    fn charged_more_than_once_whatever_the_log_says() {
        assert_eq!(kinds(&[charged(2)], &[paid(Status::Successful)]), [Kind::ChargedMoreThanOnce]);
        assert_eq!(kinds(&[charged(2)], &[]), [Kind::ChargedMoreThanOnce, Kind::UnknownToTheLog]);
        assert_eq!(kinds(&[charged(2)], &[paid(Status::Failed)]), [Kind::ChargedButFailed, Kind::ChargedMoreThanOnce]);
    }

    #[test]
    fn charged_and_unknown_to_the_log() {
        assert_eq!(kinds(&[charged(1)], &[]), [Kind::UnknownToTheLog]);
    }

    #[test]
    fn successful_without_a_charge() {
        assert_eq!(kinds(&[charged(0)], &[paid(Status::Successful)]), [Kind::SuccessfulWithoutACharge]);
        assert_eq!(kinds(&[], &[paid(Status::Successful)]), [Kind::SuccessfulWithoutACharge]);
        let mut elsewhere = paid(Status::Successful);
        elsewhere.gateway.as_mut().unwrap().name = "simulator".to_owned();
        assert_eq!(kinds(&[], &[elsewhere]), [], "another gateway's is in another ledger");
    }

    #[test]
    fn charged_otherwise_than_asked_or_than_recorded() {
        let more = Charged { amount: 2000, ..charged(1) };
        let dollars = Charged { currency: "USD".to_owned(), ..charged(1) };
        let another = Charged { references: vec!["pi_9".to_owned()], ..charged(1) };
        for wrong in [more, dollars, another] {
            assert_eq!(kinds(&[wrong], &[paid(Status::Successful)]), [Kind::ChargedOtherwise]);
        }
        let parked = Charged { amount: 2000, ..charged(1) };
        assert_eq!(kinds(&[parked], &[paid(Status::InProgress)]), [Kind::ChargedOtherwise, Kind::StillOpen]);
    }

    #[test]
    fn still_open_is_told_and_is_no_alarm() {
        for charges in [0, 1] {
            assert_eq!(kinds(&[charged(charges)], &[paid(Status::InProgress)]), [Kind::StillOpen]);
        }
        let processing = Charged { status: "processing".to_owned(), ..charged(0) };
        assert_eq!(kinds(&[processing], &[paid(Status::InProgress)]), [], "the provider has no answer either");
        assert!(!Kind::StillOpen.is_alarm() && Kind::ChargedButFailed.is_alarm());
    }
}
