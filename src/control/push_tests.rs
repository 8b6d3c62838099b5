use super::{CREATED, CreatedBody, Document, NewSubscription, PushFrom, PushScope, REMOVED, RemovedBody};
use crate::control::push::OF_SCOPE_MAX;
use crate::control::seal::SecretsKey;
use crate::control::state::{Folded, State};
use crate::control::subscriptions::{CHANGES_MAX, NoRoom, SubscriptionLimits, Subscriptions};
use crate::control::{Holder, KEY_ID_CHARS, Key, KeyDigest, KeyId, Keys, Lease, SubscriptionId};
use crate::journal::{LogId, Offset, Partition, Position};
use crate::payment::samples::{at, payment_id};
use crate::payment::{CustomerId, MerchantId};

const OURS: LogId = LogId([7; 16]);
const SEALED: &str = r#"{"key_id":"01020304","sealed":"AAAA"}"#;

fn merchant() -> MerchantId {
    MerchantId::parse("acme").unwrap()
}

fn new(n: u8, scope: PushScope) -> NewSubscription {
    let from = match scope {
        PushScope::Payment(_) => PushFrom::One(Offset(7)),
        PushScope::Customer(_) => PushFrom::Each(vec![Offset(3), Offset(0)]),
    };
    let (service, sealed) = ("https://push.example".to_owned(), serde_json::from_str(SEALED).unwrap());
    NewSubscription { id: SubscriptionId([n; 16]), merchant: merchant(), scope, from, service, sealed, lease: None }
}

fn customer() -> PushScope {
    PushScope::Customer(CustomerId::parse("cus_1").unwrap())
}

fn document<T: serde::Serialize>(kind: &str, n: u8, version: u64, at_s: i64, body: T) -> Vec<u8> {
    let entity = format!("push-subscription/{}", SubscriptionId([n; 16]));
    let (kind, log, at) = (kind.to_owned(), OURS.to_string(), at(at_s).to_string());
    serde_json::to_vec(&Document { kind, entity, version, log, at, body }).unwrap()
}

fn created(n: u8, version: u64, scope: PushScope) -> Vec<u8> {
    document(CREATED, n, version, 0, CreatedBody::from(&new(n, scope)))
}

fn removed(n: u8, version: u64) -> Vec<u8> {
    document(REMOVED, n, version, 0, RemovedBody { reason: "gone".to_owned() })
}

/// Folds, and says whether it had an effect.
fn take(state: &mut State, board: &Subscriptions, offset: u64, value: &[u8]) -> bool {
    match state.fold(OURS, Offset(offset), value) {
        Folded::Push(step) => board.tell(&step),
        Folded::Late => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_browser_comes_goes_and_comes_again_and_the_lower_offset_wins() {
    let (mut state, board) = (State::default(), Subscriptions::default());
    assert!(take(&mut state, &board, 0, &created(1, 1, customer())));
    assert!(!take(&mut state, &board, 1, &created(1, 1, customer())), "the same once more");
    assert!(take(&mut state, &board, 2, &created(2, 1, PushScope::Payment(payment_id("a")))));
    let hear = |payment| {
        let who = board.who_hear(&merchant(), payment_id(payment), &CustomerId::parse("cus_1").unwrap());
        who.iter().map(|known| known.subscription.id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!((hear("a"), hear("b")), (vec![2, 1], vec![1]));
    let since = |from| board.since(Offset(from), 9).iter().map(|known| known.subscription.id.0[0]).collect::<Vec<_>>();
    assert_eq!((since(0), since(1)), (vec![1, 2], vec![2]));
    assert!(take(&mut state, &board, 3, &removed(1, 2)) && !take(&mut state, &board, 4, &removed(1, 2)));
    assert_eq!((hear("a"), board.of_merchant(&merchant(), None, 9).len()), (vec![2], 1));
    assert!(take(&mut state, &board, 5, &created(1, 3, customer())));
    assert_eq!((hear("b"), since(3)), (vec![1], vec![1]));
    let page = board.of_merchant(&merchant(), Some(SubscriptionId([1; 16])), 10);
    assert_eq!(page.len(), 1);
    assert!(board.who_hear(&MerchantId::default(), payment_id("a"), &CustomerId::parse("cus_1").unwrap()).is_empty());
}

#[test]
fn what_stands_before_it_subscribed_is_not_for_it() {
    let of = |scope| new(1, scope);
    let position = |partition, offset| Position::new(Partition(partition), Offset(offset));
    let payment = of(PushScope::Payment(payment_id("a")));
    assert!(payment.covers(position(5, 7)) && !payment.covers(position(5, 6)));
    assert!(of(customer()).covers(position(1, 0)) && !of(customer()).covers(position(0, 2)));
}

#[test]
fn no_more_changes_within_an_hour_than_the_control_log_is_to_bear() {
    let board = Subscriptions::default();
    let mut state = State::default();
    let is_busy = |scope, at_s| board.no_room(&new(9, scope), at(at_s), SubscriptionLimits::OURS) == Some(NoRoom::Busy);
    for version in 1..=CHANGES_MAX as u64 {
        assert!(!is_busy(customer(), 0));
        let value = if version % 2 == 1 { created(1, version, customer()) } else { removed(1, version) };
        assert!(take(&mut state, &board, version, &value));
    }
    assert!(is_busy(customer(), 3_599));
    assert!(!is_busy(PushScope::Payment(payment_id("a")), 0) && !is_busy(customer(), 3_600));
}

#[test]
fn there_is_room_for_so_many_of_a_payment_of_a_merchant_and_of_all() {
    let (board, mut state) = (Subscriptions::default(), State::default());
    let of = |n: u8| PushScope::Payment(payment_id(&n.to_string()));
    for n in 1..=4 {
        assert!(take(&mut state, &board, u64::from(n), &created(n, 1, of(n / 2))));
    }
    let no_room = |n, scope, of_scope, of_merchant, all| {
        let limits = SubscriptionLimits { of_scope, of_merchant, all, changes: 99 };
        board.no_room(&new(n, scope), at(0), limits)
    };
    assert_eq!(no_room(9, of(1), 3, 5, 5), None);
    assert_eq!(no_room(9, of(1), 2, 5, 5), Some(NoRoom::OfScope));
    assert_eq!(no_room(9, of(2), 2, 4, 5), Some(NoRoom::OfMerchant));
    assert_eq!(no_room(9, of(2), 2, 5, 4), Some(NoRoom::All));
    assert_eq!(no_room(1, of(0), 1, 4, 4), None, "it takes its own place");
    let busy = SubscriptionLimits { of_scope: 2, of_merchant: 5, all: 5, changes: 1 };
    let why = board.no_room(&new(9, of(1)), at(0), busy);
    assert_eq!(why, Some(NoRoom::Busy), "where nothing may change nobody is ended for room");
}

/// Instances that were asked at once believed each that there was room.
#[test]
fn one_more_than_there_may_be_has_no_effect_in_any_instance() {
    let (board, mut state) = (Subscriptions::default(), State::default());
    let most = u8::try_from(OF_SCOPE_MAX).unwrap();
    for n in 1..=most {
        assert!(take(&mut state, &board, u64::from(n), &created(n, 1, customer())));
    }
    assert!(!take(&mut state, &board, 50, &created(most + 1, 1, customer())), "the last offset loses");
    assert!(board.find(SubscriptionId([most + 1; 16])).is_none());
    assert!(take(&mut state, &board, 51, &created(1, 2, customer())), "one that is there may come anew");
    assert!(take(&mut state, &board, 52, &removed(2, 2)));
    assert!(take(&mut state, &board, 53, &created(most + 1, 2, customer())), "and its version was counted");
}

#[test]
fn what_cannot_be_read_or_is_of_another_log_has_no_effect() {
    let mut state = State::default();
    let good = String::from_utf8(created(1, 1, customer())).unwrap();
    for bad in [
        good.replace("ps_01", "ps_02").replacen("ps_02", "ps_01", 1),
        good.replace("\"acme\"", "\"\""),
        good.replace("cus_1", ""),
        good.replace("\"at\":\"2", "\"at\":\"x2"),
        good.replace("\"scope\"", "\"scape\""),
    ] {
        let folded = state.fold(OURS, Offset(0), bad.as_bytes());
        assert!(matches!(folded, Folded::Unreadable(_)), "{bad}: {folded:?}");
    }
    let other = good.replace(&"07".repeat(16), &"08".repeat(16));
    assert_eq!(state.fold(OURS, Offset(0), other.as_bytes()), Folded::NotForUs);
}

#[test]
fn where_a_browser_is_written_to_stands_on_no_log() {
    let key = SecretsKey::parse(&SecretsKey::generate()).unwrap();
    let mut subscription = new(1, customer());
    let secret = b"https://push.example/secret";
    subscription.sealed = key.seal("ps_1", secret).unwrap();
    let written = serde_json::to_value(CreatedBody::from(&subscription)).unwrap();
    assert_eq!(written["service"], "https://push.example");
    let sealed = written["sealed"]["sealed"].as_str().unwrap();
    let bytes =
        data_encoding::BASE64.decode(sealed.as_bytes()).expect("in base64, so that what is looked for could be found");
    assert!(!bytes.windows(6).any(|six| secret.windows(6).any(|part| part == six)), "{bytes:?}");
    assert_eq!(key.open("ps_1", &subscription.sealed).unwrap(), secret);
    let mut rest = written;
    rest["sealed"]["sealed"] = serde_json::Value::Null;
    assert!(!rest.to_string().contains("secret"), "{rest}");
}

/// Of one that a page made with its token: its end, and the key behind it.
#[test]
fn who_was_let_in_by_a_token_is_told_until_it_ends_or_its_key_is_revoked() {
    let (keys, holder) = (Keys::default(), Holder::Merchant(merchant()));
    let id = KeyId::parse(&"a".repeat(KEY_ID_CHARS)).unwrap();
    let known = Key::of_this_process(id.clone(), holder, KeyDigest([7; 32]), at(0));
    let subscription = NewSubscription { lease: Some(Lease { ends_at: at(60), key: Some(id) }), ..new(1, customer()) };
    let (board, mut state) = (Subscriptions::default(), State::default());
    let value = document(CREATED, 1, 1, 0, CreatedBody::from(&subscription));
    assert!(take(&mut state, &board, 0, &value));
    let read = board.find(SubscriptionId([1; 16])).unwrap();
    assert_eq!(read.subscription, subscription);
    let has_ended = |at_s| read.subscription.has_ended(&keys, at(at_s));
    assert!(!has_ended(59) && has_ended(60), "nobody here knows the key: it is not revoked");
    keys.tell(known.with_end(at(10)));
    assert!(!has_ended(59), "a key that is exchanged for another takes nobody with it");
    keys.tell(known.revoked());
    assert!(has_ended(6));
    assert!(!new(1, customer()).has_ended(&keys, at(9 * 365 * 86_400)), "its merchant's has no end");
    let bad = String::from_utf8(value).unwrap().replace("\"ends_at\":\"2", "\"ends_at\":\"x2");
    assert!(matches!(State::default().fold(OURS, Offset(0), bad.as_bytes()), Folded::Unreadable(_)));
}

/// As they stand on somebody's log: these bytes never change their meaning.
#[test]
fn golden_documents() {
    let id = "01".repeat(16);
    let golden = format!(
        r#"{{"type":"PushSubscriptionCreated","entity":"push-subscription/ps_{id}","version":1,"log":"{OURS}","at":"2025-11-24T16:00:00.000000Z","id":"ps_{id}","merchant_id":"acme","scope":{{"customer":{{"customer_id":"cus_1","from":[3,0]}}}},"service":"https://push.example","sealed":{SEALED}}}"#
    );
    assert_eq!(String::from_utf8(created(1, 1, customer())).unwrap(), golden);
    let payment = String::from_utf8(created(1, 1, PushScope::Payment(payment_id("a")))).unwrap();
    let scope = format!(r#""scope":{{"payment":{{"payment_id":"{}","from":7}}}}"#, payment_id("a"));
    assert!(payment.contains(&scope), "{payment}");
    let gone = format!(
        r#"{{"type":"PushSubscriptionRemoved","entity":"push-subscription/ps_{id}","version":2,"log":"{OURS}","at":"2025-11-24T16:00:00.000000Z","reason":"gone"}}"#
    );
    assert_eq!(String::from_utf8(removed(1, 2)).unwrap(), gone);
    let same = SubscriptionId::of("acme", "customer:cus_1", "https://push.example/1");
    assert_eq!(same.to_string(), "ps_74a559355608e1110fb4dfa6ad9039e5");
    assert_ne!(same, SubscriptionId::of("acme", "customer:cus_", "1https://push.example/1"));
}
