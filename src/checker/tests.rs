//! A good history passes, and for every invariant one that was spoilt is caught.

use super::good::{CHARGED, CONTESTED, DECLINED, LOST_ANSWER, PARKED, PARTITIONS, Story, body, good, id_of};
use super::{Checker, History, Invariant, Kind, LedgerEntry, Outcome, Report};
use crate::payment::samples::{at, failed, successful};

fn check(history: &History) -> Report {
    Checker::new().unwrap().check(history)
}

/// Spoils the good history, and asks that the violation is found under its name.
#[track_caller]
fn caught(invariant: Invariant, spoil: impl FnOnce(&mut History)) -> Report {
    let mut history = good();
    spoil(&mut history);
    let report = check(&history);
    assert!(report.of(invariant) > 0, "{invariant} was not found:\n{report}");
    assert!(report.violations.iter().all(|violation| !violation.evidence.contains('\n')), "{report}");
    report
}

fn ledger<'h>(history: &'h mut History, key: &str) -> &'h mut LedgerEntry {
    let id = id_of(key).to_string();
    history.ledger.as_mut().unwrap().iter_mut().find(|entry| entry.key == id).unwrap()
}

/// Takes the records of `key` that `which` names (counted from 0) off the log, for all readers.
fn lose(history: &mut History, key: &str, which: std::ops::RangeFrom<usize>) {
    let id = id_of(key).to_string();
    let of_it = history.log.iter().filter(|record| record.key == id).map(|record| record.place);
    let lost: Vec<_> = of_it.collect::<Vec<_>>().split_off(which.start);
    for records in [&mut history.log, &mut history.uncommitted, &mut history.earlier] {
        records.retain(|record| !lost.contains(&record.place));
    }
}

/// The same history, with one more record at the end.
fn appended(key: &str, data: crate::payment::EventData) -> History {
    let mut story = Story::new();
    story.pay(key, "req_1");
    story.append(key, successful("ch_1"));
    story.charge(key, Some("ch_1"), 1);
    story.append(key, data);
    story.history
}

#[test]
fn a_good_history_passes() {
    let report = check(&good());
    assert!(report.is_clean() && report.not_judged.is_empty(), "{report}");
    let counts = &report.counts;
    assert_eq!((counts.payments, counts.successful, counts.failed, counts.open), (5, 3, 1, 0));
    assert_eq!((counts.charges, counts.requests_at_the_provider), (4, 8));
    assert_eq!((counts.repeats, counts.conflicts, counts.repeated_ends), (1, 2, 1));
    assert_eq!((counts.records_aborted, counts.parked["unknown_too_long"]), (1, 1));
}

#[test]
fn what_the_history_does_not_hold_is_named_and_not_passed_over() {
    let report = check(&History::default());
    let missing = [Invariant::ChargedOnce, Invariant::StreamsAreWhole, Invariant::EndsInTime, Invariant::LogIsKept];
    assert!(missing.iter().all(|invariant| report.not_judged.contains(invariant)), "{report}");
    assert!(report.to_string().contains("not judged"), "{report}");
}

#[test]
fn a_second_charge_is_found() {
    caught(Invariant::ChargedOnce, |history| ledger(history, CHARGED).charges = 2);
    caught(Invariant::ChargedOnce, |history| {
        let again = ledger(history, CHARGED).clone();
        history.ledger.as_mut().unwrap().push(again);
    });
}

#[test]
fn a_charge_under_another_key_is_found() {
    caught(Invariant::ChargedAsAccepted, |history| {
        let another = LedgerEntry { key: format!("{}-2", id_of(CHARGED)), ..ledger(history, CHARGED).clone() };
        history.ledger.as_mut().unwrap().push(another);
    });
}

#[test]
fn a_charge_of_another_amount_or_currency_is_found() {
    caught(Invariant::ChargedAsAccepted, |history| ledger(history, CHARGED).amount = 2000);
    caught(Invariant::ChargedAsAccepted, |history| ledger(history, CHARGED).currency = "usd".to_owned());
    caught(Invariant::ChargedAsAccepted, |history| ledger(history, CONTESTED).amount = 2001);
}

#[test]
fn a_body_that_differs_between_tries_is_found() {
    caught(Invariant::SameBodyEveryTry, |history| ledger(history, LOST_ANSWER).body_digests[2] = "d2".to_owned());
}

#[test]
fn a_success_without_a_charge_is_found() {
    caught(Invariant::EndAsCharged, |history| ledger(history, CHARGED).charges = 0);
    let id = id_of(CHARGED).to_string();
    caught(Invariant::EndAsCharged, |history| history.ledger.as_mut().unwrap().retain(|entry| entry.key != id));
}

#[test]
fn a_success_by_another_charge_is_found() {
    caught(Invariant::EndAsCharged, |history| ledger(history, CHARGED).references[0] = "ch_9".to_owned());
}

#[test]
fn a_wrong_charge_of_a_parked_payment_is_its_cause() {
    let mut history = good();
    ledger(&mut history, PARKED).amount = 2000;
    assert!(check(&history).is_clean());
    history.options.parking.reasons.clear();
    assert_eq!(check(&history).of(Invariant::ChargedAsAccepted), 1);
}

#[test]
fn a_failure_with_a_charge_is_found_and_one_that_the_provider_never_gave() {
    caught(Invariant::EndAsCharged, |history| ledger(history, DECLINED).charges = 1);
    let id = id_of(DECLINED).to_string();
    caught(Invariant::EndAsCharged, |history| history.ledger.as_mut().unwrap().retain(|entry| entry.key != id));
}

#[test]
fn two_different_ends_are_found() {
    for other in [failed("card_declined"), successful("ch_2")] {
        let report = check(&appended(CHARGED, other));
        assert_eq!(report.of(Invariant::EndedOnce), 1, "{report}");
    }
    let same = check(&appended(CHARGED, successful("ch_1")));
    assert!(same.is_clean() && same.counts.repeated_ends == 1, "{same}");
}

#[test]
fn a_lost_acknowledged_payment_is_found() {
    caught(Invariant::AcceptedIsDurable, |history| lose(history, DECLINED, 0..));
    caught(Invariant::AcceptedIsDurable, |history| {
        let pay = history.operations.iter_mut().find(|one| one.kind == Kind::Pay).unwrap();
        let Outcome::Ok(answer) = &mut pay.outcome else { unreachable!() };
        answer.appended_at.as_mut().unwrap().offset += 1;
    });
}

#[test]
fn a_payment_that_was_refused_or_never_asked_for_is_found_on_the_log() {
    caught(Invariant::AcceptedIsDurable, |history| history.operations.retain(|one| one.key.as_deref() != Some(PARKED)));
    let refused = Outcome::Fail { status: 503, code: "not_appended".to_owned() };
    caught(Invariant::AcceptedIsDurable, |history| {
        for one in history.operations.iter_mut().filter(|one| one.key.as_deref() == Some(DECLINED)) {
            one.outcome = refused.clone();
        }
    });
}

#[test]
fn one_key_with_two_payments_and_two_keys_with_one_are_found() {
    let told = |history: &mut History, key: &str, id: &str| {
        let pay = history.operations.iter_mut().rfind(|one| one.key.as_deref() == Some(key)).unwrap();
        let Outcome::Ok(answer) = &mut pay.outcome else { unreachable!() };
        answer.payment_id = id_of(id).to_string();
    };
    caught(Invariant::SameKeySamePayment, |history| told(history, CHARGED, DECLINED));
    caught(Invariant::SameKeySamePayment, |history| told(history, DECLINED, CHARGED));
}

#[test]
fn a_success_for_a_conflicting_body_is_found_and_a_conflict_for_the_same_body() {
    caught(Invariant::OneBodyWins, |history| {
        for one in history.operations.iter_mut().filter(|one| one.key.as_deref() == Some(CONTESTED)) {
            if let Outcome::Ok(answer) = &mut one.outcome {
                answer.confirmed = true;
            }
        }
    });
    caught(Invariant::OneBodyWins, |history| {
        for one in history.operations.iter_mut().filter(|one| matches!(one.outcome, Outcome::Fail { status: 422, .. }))
        {
            one.body = Some(body(1999));
        }
    });
}

#[test]
fn an_aborted_record_that_was_seen_is_found() {
    // The client was told of a success that only the aborted transaction held.
    caught(Invariant::OnlyCommittedIsSeen, |history| {
        lose(history, LOST_ANSWER, 3..);
    });
    // And a stream was.
    caught(Invariant::OnlyCommittedIsSeen, |history| {
        history.operations.retain(|one| one.kind == Kind::Pay);
        lose(history, LOST_ANSWER, 3..);
    });
}

#[test]
fn what_was_shown_before_it_was_written_or_otherwise_than_written_is_found() {
    caught(Invariant::OnlyCommittedIsSeen, |history| history.operations[0].completed_at = at(-100));
    caught(Invariant::OnlyCommittedIsSeen, |history| {
        let get = history.operations.iter_mut().find(|one| one.kind == Kind::Get).unwrap();
        let Outcome::Ok(answer) = &mut get.outcome else { unreachable!() };
        answer.payment_status = Some("failed".to_owned());
    });
    caught(Invariant::OnlyCommittedIsSeen, |history| history.streams[0].frames[1].event = "PaymentParked".to_owned());
}

#[test]
fn two_records_at_one_place_are_found() {
    caught(Invariant::OneRecordAtAPlace, |history| history.uncommitted[0].value.push(0));
    caught(Invariant::OneRecordAtAPlace, |history| {
        let (place, mut other) = (history.log[0].place, history.log[1].clone());
        other.place = place;
        history.log.push(other);
    });
    caught(Invariant::OneRecordAtAPlace, |history| history.streams[0].frames[1].place.as_mut().unwrap().offset += 1);
}

#[test]
fn a_log_without_its_beginning_is_found() {
    caught(Invariant::VersionsWithoutGap, |history| {
        let id = id_of(LOST_ANSWER).to_string();
        let first = history.log.iter().position(|record| record.key == id).unwrap();
        history.log.remove(first);
    });
}

#[test]
fn a_version_gap_in_a_history_is_found() {
    caught(Invariant::VersionsWithoutGap, |history| {
        let read = history.operations.iter_mut().find(|one| one.kind == Kind::History).unwrap();
        let Outcome::Ok(answer) = &mut read.outcome else { unreachable!() };
        answer.events.remove(1);
    });
}

#[test]
fn a_record_on_the_wrong_partition_or_under_another_key_is_found() {
    caught(Invariant::OnItsPartition, |history| {
        let place = &mut history.log[1].place;
        (place.partition, place.offset) = ((place.partition + 1) % PARTITIONS, 1_000);
    });
    caught(Invariant::OnItsPartition, |history| history.log[1].key = id_of(PARKED).to_string());
}

#[test]
fn a_record_that_cannot_be_read_is_found() {
    caught(Invariant::Readable, |history| history.log[0].value = b"{}".to_vec());
}

#[test]
fn projections_that_differ_are_found() {
    caught(Invariant::ReplayEqualsLive, |history| history.projections[1].digest = "00".to_owned());
    caught(Invariant::ReplayEqualsLive, |history| history.projections[0].offsets[0] = 0);
    caught(Invariant::ReplayEqualsLive, |history| {
        let mut totals = history.projections.clone();
        totals.iter_mut().for_each(|one| one.kind = "totals".to_owned());
        totals[1].digest = "00".to_owned();
        history.projections.extend(totals);
    });
}

#[test]
fn a_gap_a_repetition_and_a_step_back_in_a_stream_are_found() {
    caught(Invariant::StreamsAreWhole, |history| drop(history.streams[0].frames.remove(1)));
    caught(Invariant::StreamsAreWhole, |history| drop(history.streams[1].frames.remove(0)));
    caught(Invariant::StreamsAreWhole, |history| {
        let frames = &mut history.streams[0].frames;
        frames.push(frames[2].clone());
    });
    caught(Invariant::StreamsAreWhole, |history| history.streams[0].frames.swap(1, 2));
    caught(Invariant::StreamsAreWhole, |history| drop(history.streams[4].frames.remove(0)));
    caught(Invariant::StreamsAreWhole, |history| drop(history.streams[1].frames.pop()));
    caught(Invariant::StreamsAreWhole, |history| drop(history.streams[4].frames.pop()));
}

#[test]
fn a_stream_that_begins_anew_goes_on_after_the_end_or_ends_before_it_is_found() {
    caught(Invariant::StreamsAreWhole, |history| history.streams[1].frames[0].event = "snapshot".to_owned());
    caught(Invariant::StreamsAreWhole, |history| {
        let frames = &mut history.streams[1].frames;
        frames.push(frames[1].clone());
    });
    caught(Invariant::StreamsAreWhole, |history| {
        history.streams[2].last_event_id = history.streams[0].frames[1].id.clone();
    });
    caught(Invariant::StreamsAreWhole, |history| history.streams[0].frames[1].event = "reset".to_owned());
    caught(Invariant::WellFormed, |history| history.streams[1].last_event_id = Some("0a0a0a0a.9".to_owned()));
}

#[test]
fn a_read_that_goes_back_is_found() {
    caught(Invariant::ReadsDoNotGoBack, |history| {
        let last = history.log.iter().rfind(|record| record.key == id_of(CHARGED).to_string()).unwrap().place;
        let get = history.operations.iter_mut().find(|one| one.kind == Kind::Get).unwrap();
        let Outcome::Ok(answer) = &mut get.outcome else { unreachable!() };
        (get.at_least, answer.version, answer.payment_status) = (Some(last), Some(1), Some("in_progress".to_owned()));
    });
    caught(Invariant::ReadsDoNotGoBack, |history| {
        let get = history.operations.iter_mut().find(|one| one.kind == Kind::Get).unwrap();
        get.outcome = Outcome::Fail { status: 404, code: "payment_not_found".to_owned() };
    });
}

#[test]
fn an_offset_that_goes_back_is_found_unless_it_was_set_back() {
    caught(Invariant::OffsetsOnlyGrow, |history| {
        for of_partition in history.offsets.chunks_mut(3) {
            (of_partition[1].offset, of_partition[2].offset) = (of_partition[2].offset, of_partition[1].offset);
        }
    });
    let mut reset = good();
    let mut back = reset.offsets[0].clone();
    (back.at, back.reset) = (at(500), true);
    let mut forth = reset.offsets[2].clone();
    forth.at = at(501);
    reset.offsets.extend([back, forth]);
    assert!(check(&reset).is_clean(), "{}", check(&reset));
}

#[test]
fn an_older_epoch_that_still_writes_is_found() {
    caught(Invariant::OneEpochAtATime, |history| {
        let first = history.log.iter_mut().find(|record| record.producer.unwrap().transactional).unwrap();
        first.producer.as_mut().unwrap().epoch = 4;
    });
}

#[test]
fn a_dead_letter_that_is_lost_altered_or_too_many_is_found() {
    caught(Invariant::DeadLettersAsInjected, |history| history.dead_letters.clear());
    caught(Invariant::DeadLettersAsInjected, |history| history.dead_letters[0].value.push(b'}'));
    caught(Invariant::DeadLettersAsInjected, |history| {
        let again = history.dead_letters[0].clone();
        history.dead_letters.push(again);
    });
}

#[test]
fn a_log_that_lost_changed_or_gained_something_behind_is_found() {
    caught(Invariant::LogIsKept, |history| drop(history.log.remove(0)));
    caught(Invariant::LogIsKept, |history| history.earlier[0].value.push(0));
    caught(Invariant::LogIsKept, |history| drop(history.earlier.remove(0)));
    caught(Invariant::LogIsKept, |history| history.partitions[0].start = 1);
}

#[test]
fn another_merchants_payment_in_an_answer_or_a_stream_is_found() {
    caught(Invariant::MerchantsApart, |history| history.operations.last_mut().unwrap().merchant = "acme".to_owned());
    caught(Invariant::MerchantsApart, |history| history.streams[0].merchant = "acme".to_owned());
}

#[test]
fn a_payment_open_too_long_or_for_ever_is_found_and_its_time_is_counted() {
    let late = |history: &mut History| history.options.liveness.as_mut().unwrap().bar_ms = 1_000;
    let report = caught(Invariant::EndsInTime, late);
    assert!(report.counts.longest_open_ms >= 4_000, "{report}");
    let open = caught(Invariant::EndsInTime, |history| {
        lose(history, DECLINED, 1..);
        history.options.liveness.as_mut().unwrap().observed_at = at(200);
    });
    assert_eq!(open.counts.open, 1, "{open}");
}

#[test]
fn a_payment_parked_without_cause_is_found() {
    caught(Invariant::ParkedForCause, |history| history.options.parking.reasons.clear());
    let mut named = good();
    named.options.parking.reasons.clear();
    named.options.parking.payments.push(id_of(PARKED).to_string());
    assert!(check(&named).is_clean());
}

#[test]
fn a_transaction_that_hangs_and_a_group_that_stays_behind_are_found() {
    caught(Invariant::NothingHangs, |history| history.partitions[0].uncommitted += 1);
    caught(Invariant::OffsetsReachTheEnd, |history| {
        history.partitions[0].committed += 1;
        history.partitions[0].uncommitted += 1;
    });
}

#[test]
fn an_instance_that_does_not_show_everything_in_the_end_is_found() {
    caught(Invariant::SeenEverywhere, |history| {
        let last = history.operations.iter().rposition(|one| one.kind == Kind::Get).unwrap();
        history.operations.remove(last);
    });
    caught(Invariant::WellFormed, |history| history.operations.retain(|one| one.kind == Kind::Pay));
}
