//! What may be asked of a gateway for a payment now (DESIGN.md 8). Pure: the one place that decides whether a charge may be
//! sent, and the rule is short. Inside four fifths of the key window every repeat is safe, for the gateway knows the key.
//! Past it the key may be forgotten, a repeat may be a second charge, and only a final "not found" licenses one.

use std::time::Duration;

use crate::gateway::Terms;
use crate::payment::event::{Decision, PaymentFailed, PaymentOutcomeUnknown, PaymentParked, PaymentSuccessful};
use crate::payment::{EventData, Payment, Phase, Timestamp};

/// The part of a gateway's key window within which a key is certainly known: 80 %, in tenths.
const SAFE_TENTHS: u32 = 8;
/// How long after an inquiry was sent its answer licenses a charge: 10 % of the window, in tenths.
const LICENCE_TENTHS: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nobody needs to be asked: this is what is true of it now.
    Record(Box<EventData>),
    Charge,
    Inquire {
        not_found: NotFound,
    },
}

/// What it means if the gateway knows no charge under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotFound {
    /// The key window is open: charge now.
    Charge,
    /// It is over. An inquiry sent from then on is final: charge at once, or not at all.
    FinalFrom(Timestamp),
    /// Whatever it means, nothing is sent.
    Hold,
}

/// What is asked for `payment` at `now`. Nothing was sent for it after `settled_at`: the later of this lane's takeover and
/// the payment's last try.
pub(super) fn plan(payment: &Payment, terms: &Terms, now: Timestamp, settled_at: Timestamp) -> Plan {
    let safe = may_repeat(payment.window_from, terms, now);
    let asks_first = match &payment.phase {
        Phase::Processing { decision, .. } => *decision == Some(Decision::Inquire),
        Phase::Unknown { .. } => true,
        _ => false,
    };
    match (safe, terms.not_found_final_after) {
        (true, Some(_)) if asks_first => Plan::Inquire { not_found: NotFound::Charge },
        (true, _) => Plan::Charge,
        (false, Some(after)) => Plan::Inquire { not_found: NotFound::FinalFrom(settled_at.plus(after)) },
        (false, None) => Plan::Record(Box::new(park(
            "key_window_over",
            "the gateway may have forgotten the key, so a repeat could be a second charge, and it cannot be asked",
        ))),
    }
}

/// What is asked for a payment that began on another log while nobody has said that this one acts for it now: what became of it.
/// `None` for a gateway that cannot be asked. The other log's own processors may be about to charge it.
pub(super) fn not_adopted(terms: &Terms) -> Option<Plan> {
    terms.not_found_final_after.map(|_| Plan::Inquire { not_found: NotFound::Hold })
}

/// What is done in place of a charge while it is not known how this machine's clock stands to the log's, and so how old a
/// payment is: ask, for a charge that the key may be too old to repeat is old enough to be found. What comes of it stands on
/// the log then, with the log's time, and the next payment is not asked about.
pub(super) fn without_a_clock(terms: &Terms, attempt: u32, now: Timestamp) -> Plan {
    if terms.not_found_final_after.is_some() {
        return Plan::Inquire { not_found: NotFound::Charge };
    }
    let reason = "taken over from another process: its time is to be compared first".to_owned();
    let unknown = PaymentOutcomeUnknown { attempt, reason, next_inquiry_at: now };
    Plan::Record(Box::new(EventData::PaymentOutcomeUnknown(unknown)))
}

/// Is the key certainly known to the gateway at `now`?
pub(super) fn may_repeat(window_from: Timestamp, terms: &Terms, now: Timestamp) -> bool {
    now < window_from.plus(terms.key_window / 10 * SAFE_TENTHS)
}

/// Until when an inquiry sent at `asked_at` that found nothing licenses a charge.
pub(super) fn licensed_until(terms: &Terms, asked_at: Timestamp) -> Timestamp {
    asked_at.plus((terms.key_window / 10 * LICENCE_TENTHS).max(Duration::from_millis(1)))
}

pub(super) fn park(reason: &str, detail: &str) -> EventData {
    EventData::PaymentParked(PaymentParked { reason: reason.to_owned(), detail: detail.to_owned() })
}

/// What an operator has settled needs no gateway, and no room at one.
pub(super) fn decided(payment: &Payment, attempt: u32) -> Option<EventData> {
    let Phase::Processing { decision: Some(decision), .. } = &payment.phase else { return None };
    match decision {
        Decision::SettleSuccessful { reference } => Some(EventData::PaymentSuccessful(PaymentSuccessful {
            gateway: payment.initiation.gateway.clone(),
            gateway_reference: reference.clone(),
            attempt,
        })),
        Decision::SettleFailed { code } => {
            let message = "refused by an operator".to_owned();
            Some(EventData::PaymentFailed(PaymentFailed { code: code.clone(), message, attempt }))
        }
        Decision::Inquire | Decision::ChargeAgain => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{NotFound, Plan, licensed_until, plan};
    use crate::gateway::Terms;
    use crate::payment::event::Decision;
    use crate::payment::samples::{at, event, in_progress, parked, resumed, retry, unknown};
    use crate::payment::{EventData, Payment};

    /// A window of 1,000 s, from second 0.
    const TERMS: Terms = Terms {
        key_window: Duration::from_secs(1_000),
        not_found_final_after: Some(Duration::from_secs(60)),
        calls_per_second_max: None,
    };
    const SILENT: Terms = Terms { not_found_final_after: None, ..TERMS };

    fn payment(events: &[EventData]) -> Payment {
        let mut payment = None;
        for (data, seconds) in events.iter().zip(0..) {
            Payment::fold(&mut payment, &event(seconds, data.clone()), at(seconds)).unwrap();
        }
        payment.unwrap()
    }

    fn at_second(payment: &Payment, terms: &Terms, now: i64) -> Plan {
        plan(payment, terms, at(now), at(now - 5))
    }

    #[test]
    fn inside_four_fifths_of_the_window_the_same_key_is_sent_again() {
        let open = [vec![in_progress(1)], vec![in_progress(1), retry(1)]];
        for payment in open.iter().map(|events| payment(events)) {
            for now in [2, 799] {
                assert_eq!(at_second(&payment, &TERMS, now), Plan::Charge);
                assert_eq!(at_second(&payment, &SILENT, now), Plan::Charge);
            }
        }
    }

    #[test]
    fn past_it_nothing_is_sent_without_a_final_not_found() {
        let phases = [
            vec![in_progress(1)],
            vec![in_progress(1), retry(1)],
            vec![in_progress(1), unknown(1)],
            vec![in_progress(1), parked(), resumed(2, Decision::Inquire)],
        ];
        for payment in phases.iter().map(|events| payment(events)) {
            for now in [800, 1_001, 1_000_000] {
                let not_found = NotFound::FinalFrom(at(now - 5 + 60));
                assert_eq!(at_second(&payment, &TERMS, now), Plan::Inquire { not_found });
                let Plan::Record(event) = at_second(&payment, &SILENT, now) else { panic!("it is not asked") };
                let EventData::PaymentParked(why) = *event else { panic!("what cannot be asked about is parked") };
                assert_eq!(why.reason, "key_window_over");
            }
        }
    }

    #[test]
    fn unknown_is_asked_about_before_anything_is_sent() {
        let unknown = payment(&[in_progress(1), unknown(1)]);
        assert_eq!(at_second(&unknown, &TERMS, 10), Plan::Inquire { not_found: NotFound::Charge });
        assert_eq!(
            at_second(&unknown, &SILENT, 10),
            Plan::Charge,
            "the key answers for a gateway that cannot be asked"
        );
    }

    #[test]
    fn charge_again_opens_a_window_and_nothing_else_does() {
        let again = [in_progress(1), parked(), resumed(2, Decision::ChargeAgain)];
        let mut payment = None;
        for (data, seconds) in again.into_iter().zip([0, 5_000, 10_000]) {
            Payment::fold(&mut payment, &event(seconds, data), at(seconds)).unwrap();
        }
        let payment = payment.unwrap();
        assert_eq!(at_second(&payment, &TERMS, 10_799), Plan::Charge);
        assert_ne!(at_second(&payment, &TERMS, 10_800), Plan::Charge);
    }

    #[test]
    fn a_licence_lasts_a_tenth_of_the_window() {
        assert_eq!(licensed_until(&TERMS, at(5)), at(105));
    }
}
