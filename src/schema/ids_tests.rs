//! What is known of ids and asked of the registry, at instants that are passed in.

use super::*;

fn due(ids: &Ids) -> Option<u32> {
    ids.next().filter(|(_, at)| *at <= Instant::now()).map(|(id, _)| id)
}

fn no_word(alone: bool) -> NoWord {
    NoWord { reason: "403".into(), alone }
}

#[test]
fn what_is_refused_is_asked_no_longer_but_for_a_partition_that_has_halted() {
    let ids = Ids::new(Asking::Meanwhile);
    let refused = RefusedIds::default();
    ids.heed(refused.clone());
    assert!(ids.want(7, false) && !ids.want(7, false), "it is asked already");
    ids.away(7, no_word(true));
    assert!(matches!(ids.standing(7), Standing::NoWord(NoWord { alone: true, .. })));
    refused.tell(7, true);
    refused.tell(8, true);
    ids.want(8, true);
    ids.away(7, no_word(true));
    ids.away(8, no_word(true));
    assert_eq!(ids.next().map(|(id, _)| id), Some(8));
    ids.leave(8);
    assert!(matches!(ids.standing(7), Standing::Unasked) && matches!(ids.standing(8), Standing::NoWord(_)));
    assert_eq!(ids.explained(), None);
    ids.learn(9, Meaning::Other("of an order".into()), 0);
    assert_eq!(ids.explained(), Some(9));
}

/// Somebody made it up, or asked before it was registered: by now it may be there, and closed to us.
#[test]
fn that_there_was_none_does_not_explain_an_id_that_is_asked_for_again() {
    let (ids, at) = (Ids::new(Asking::Meanwhile), Instant::now());
    ids.want(7, false);
    ids.missed(7, at, true);
    ids.missed(7, at + LOOK_AGAIN, true);
    assert!(matches!(ids.standing(7), Standing::Known));
    ids.want(7, false);
    assert!(matches!(ids.standing(7), Standing::Unasked));
    ids.away(7, no_word(true));
    assert!(matches!(ids.standing(7), Standing::NoWord(NoWord { alone: true, .. })));
    // A halted partition has it asked for ever, and it was said of it.
    ids.want(8, true);
    ids.missed(8, at, true);
    ids.missed(8, at + LOOK_AGAIN, true);
    assert!(matches!(ids.standing(8), Standing::Known));
}

/// The registry said it before it was closed to us, or said nothing a while ago, and may answer by now.
#[test]
fn an_inquiry_is_a_question_whatever_was_said_before() {
    let ids = Ids::new(Asking::Meanwhile);
    ids.learn(7, Meaning::Other("of an order".into()), 0);
    ids.want(8, false);
    ids.away(8, no_word(true));
    assert_eq!(due(&ids), None);
    for id in [7, 8] {
        let (since, _) = ids.inquire(id);
        assert!(ids.heard_since(id, since).is_none() && due(&ids) == Some(id), "{id}");
        ids.away(id, no_word(true));
        let heard = ids.heard_since(id, since);
        assert!(matches!(heard, Some(Standing::NoWord(NoWord { alone: true, .. }))), "{id}: {heard:?}");
        ids.learn(id, Meaning::Other("of an order".into()), 0);
        assert!(matches!(ids.heard_since(id, since), Some(Standing::Known)), "{id}");
    }
    let (since, mine) = ids.inquire(ID_MAX + 1);
    assert!(!mine && matches!(ids.heard_since(ID_MAX + 1, since), Some(Standing::Known)));
}

/// The registry may take longer than whoever inquires has patience.
#[test]
fn who_repeats_an_inquiry_finds_what_came_meanwhile() {
    let ids = Ids::new(Asking::Meanwhile);
    let (first, mine) = ids.inquire(7);
    assert!(mine && ids.heard_since(7, first).is_none());
    ids.leave(7);
    ids.away(7, no_word(true));
    let (second, mine) = ids.inquire(7);
    assert!(mine && matches!(ids.heard_since(7, second), Some(Standing::NoWord(_))));
    ids.leave(7);
    let (third, _) = ids.inquire(7);
    assert!(ids.heard_since(7, third).is_none(), "that was the answer to the one before");
    ids.leave(7);
    ids.away(7, no_word(false));
    let (fourth, _) = ids.inquire(7);
    assert!(ids.heard_since(7, fourth).is_none() && due(&ids) == Some(7), "it may be back");
    ids.leave(7);
    lock(&ids.wanted).get_mut(&7).unwrap().left = Instant::now().checked_sub(INQUIRY_KEPT);
    assert_eq!(ids.next(), None, "and nobody wants to know any more");
    ids.inquire(7);
    ids.leave(7);
    ids.want(7, false);
    assert!(lock(&ids.wanted)[&7].left.is_none(), "a request waits for it");
}

#[test]
fn an_id_is_asked_for_once_and_known_from_then_on() {
    let ids = Ids::new(Asking::Meanwhile);
    assert!(ids.meaning(7).is_none() && ids.next().is_none(), "to look is not to ask");
    ids.want(7, false);
    ids.want(7, false);
    assert_eq!(due(&ids), Some(7));
    ids.learn(7, Meaning::Event(2), 9);
    assert!(matches!(ids.meaning(7), Some(Meaning::Event(2))));
    assert_eq!((ids.next(), ids.learnt()), (None, 1));
}

#[test]
fn that_there_is_none_is_believed_when_it_was_said_twice() {
    let (ids, first) = (Ids::new(Asking::Meanwhile), Instant::now());
    ids.want(7, false);
    ids.missed(7, first, true);
    assert!(ids.meaning(7).is_none());
    assert_eq!(ids.next(), Some((7, first + LOOK_AGAIN)));
    ids.missed(7, first + LOOK_AGAIN, true);
    let said = ids.meaning(7);
    assert!(
        matches!(said, Some(Meaning::Missing { first: at, .. }) if at == first),
        "of what was read before the first: {said:?}"
    );
    assert_eq!(ids.next(), None, "and is asked no more");
}

#[test]
fn one_node_alone_is_not_believed_so_soon() {
    let (ids, first) = (Ids::new(Asking::Meanwhile), Instant::now());
    ids.want(7, false);
    for n in 0..4 {
        assert!(ids.meaning(7).is_none(), "{n}");
        ids.missed(7, first + AWAY_PAUSE_MAX * n, false);
        assert_eq!(ids.next(), Some((7, first + AWAY_PAUSE_MAX * (n + 1))));
    }
    ids.missed(7, first + LOOK_AGAIN_UNSURE, false);
    assert!(matches!(ids.meaning(7), Some(Meaning::Missing { first: at, .. }) if at == first));
    // The others are back, and do not have it either.
    ids.want(8, false);
    ids.missed(8, first, false);
    ids.missed(8, first + AWAY_PAUSE_MAX, true);
    assert!(matches!(ids.meaning(8), Some(Meaning::Missing { first: at, .. }) if at == first));
}

#[test]
fn a_halted_partition_has_it_asked_again_and_again() {
    let (ids, at) = (Ids::new(Asking::Meanwhile), Instant::now());
    ids.want(7, false);
    ids.want(7, true);
    ids.missed(7, at, true);
    let again = at + LOOK_AGAIN;
    ids.missed(7, again, true);
    assert_eq!(ids.next(), Some((7, again + ASK_AGAIN)));
    ids.missed(7, again + ASK_AGAIN, true);
    assert_eq!(ids.next(), Some((7, again + ASK_AGAIN * 2)));
    assert!(matches!(ids.meaning(7), Some(Meaning::Missing { first: at, .. }) if at == again));
    ids.learn(7, Meaning::Event(0), 9);
    assert_eq!(ids.next(), None);
}

#[test]
fn a_question_without_an_answer_is_asked_less_and_less_often_and_says_nothing() {
    let ids = Ids::new(Asking::Meanwhile);
    ids.want(7, false);
    let pauses: Vec<Duration> = (0..10).map(|_| ids.away(7, no_word(false))).collect();
    assert_eq!((pauses[0], pauses[1], pauses[9]), (AWAY_PAUSE, AWAY_PAUSE * 2, AWAY_PAUSE_MAX));
    assert!(ids.meaning(7).is_none() && due(&ids).is_none());
    ids.want(8, false);
    assert_eq!(due(&ids), Some(8), "another one is asked at once");
}

fn request() -> Meaning {
    static SCHEMA: std::sync::LazyLock<Arc<serde_avro_fast::Schema>> =
        std::sync::LazyLock::new(|| Arc::new(r#""int""#.parse().unwrap()));
    Meaning::Request(Arc::clone(&SCHEMA))
}

#[test]
fn what_others_made_up_drives_out_nothing_that_is_of_use() {
    let (ids, others) = (Ids::new(Asking::Meanwhile), 10..10 + 3 * KEPT_MAX as u32);
    ids.is(1, request());
    ids.learn(2, request(), 5_000);
    ids.learn(3, Meaning::Event(0), 5_000);
    for id in others {
        let meaning = if id % 2 == 0 {
            Meaning::Missing { first: Instant::now(), of_event: true }
        } else {
            Meaning::Other("none".into())
        };
        ids.learn(id, meaning, 5_000);
    }
    assert!([1, 2, 3].into_iter().all(|id| ids.known(id).is_some()));
    assert!(ids.known(10).is_none());
    assert!(ids.meanings.read().unwrap().heard.len() <= KEPT_MAX);
}

#[test]
fn schemas_of_others_have_a_bound_in_bytes_and_what_was_known_at_the_start_stays() {
    let (ids, large) = (Ids::new(Asking::Meanwhile), 64 * 1024);
    ids.is(1, request());
    ids.learn(2, Meaning::Event(0), large);
    for id in 10..10 + 3 * (KEPT_BYTES_MAX / large) as u32 {
        ids.learn(id, request(), large);
        assert!(ids.meanings.read().unwrap().bytes <= KEPT_BYTES_MAX && ids.known(id).is_some());
    }
    assert!(ids.known(1).is_some() && ids.known(2).is_some() && ids.known(10).is_none());
    // Texts that differ in nothing that counts are all of one event: they have a bound as well.
    for id in 10_000..10_000 + 2 * KEPT_MAX as u32 {
        ids.learn(id, Meaning::Event(0), 0);
    }
    let known = ids.meanings.read().unwrap();
    assert!(known.heard.len() <= KEPT_MAX && known.get(1).is_some());
}

#[test]
fn what_is_larger_than_any_id_is_missing_and_nobody_is_asked() {
    for asking in [Asking::Meanwhile, Asking::First] {
        let (ids, before) = (Ids::new(asking), Instant::now());
        for id in [ID_MAX + 1, u32::MAX] {
            ids.want(id, true);
            assert!(matches!(ids.meaning(id), Some(Meaning::Missing { first: at, .. }) if at >= before), "{id}");
        }
        assert_eq!(ids.next(), None);
    }
    let ids = Ids::new(Asking::Meanwhile);
    ids.want(ID_MAX, false);
    assert_eq!(due(&ids), Some(ID_MAX));
}

#[test]
fn without_a_registry_nothing_is_asked() {
    let ids = Ids::new(Asking::Nobody);
    ids.want(7, true);
    assert!(ids.next().is_none() && ids.meaning(7).is_none());
}

#[test]
fn who_reads_alone_waits_for_the_answer() {
    let ids = Arc::new(Ids::new(Asking::First));
    let (reading, theirs) = (Arc::clone(&ids), Arc::clone(&ids));
    let reader = std::thread::spawn(move || reading.meaning(7));
    while theirs.next().is_none() {
        std::thread::yield_now();
    }
    ids.learn(7, Meaning::Event(3), 9);
    assert!(matches!(reader.join().unwrap(), Some(Meaning::Event(3))));
}

/// Or whoever writes requests by the ids that come next would have the first events by them halt their partition.
#[test]
fn what_was_said_because_of_a_request_is_no_verdict_on_an_event() {
    let (ids, at) = (Ids::new(Asking::Meanwhile), Instant::now());
    let of_event = |ids: &Ids| match ids.meaning(7) {
        Some(Meaning::Missing { of_event, .. }) => of_event,
        other => panic!("{other:?}"),
    };
    ids.want(7, false);
    ids.missed(7, at, true);
    ids.missed(7, at + LOOK_AGAIN, true);
    assert!(!of_event(&ids));
    ids.want(7, false);
    ids.missed(7, at + LOOK_AGAIN * 2, true);
    ids.want(7, true); // an event is read between the two
    ids.missed(7, at + LOOK_AGAIN * 3, true);
    assert!(!of_event(&ids));
    ids.missed(7, at + LOOK_AGAIN * 4, true);
    assert!(of_event(&ids));

    let alone = Ids::new(Asking::First);
    alone.want(7, false);
    alone.missed(7, at, true);
    alone.missed(7, at + LOOK_AGAIN, true);
    assert!(of_event(&alone), "who reads alone reads events");
}
