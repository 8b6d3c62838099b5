use std::sync::Arc;

use super::{Recents, SCOPE, lock};
use crate::payment::event::Private;
use crate::payment::samples::{event, payment_id, retry};
use crate::payment::{Event, EventData, MerchantId};
use crate::projection::{Offsets, Scope};
use crate::stream::feed::{Block, Data, Frame, Read};
use crate::stream::step::Step;
use crate::stream::tests::{Growing, of};
use crate::stream::wide::WideFeed;
use crate::stream::{Start, Types};

/// Reads until there is nothing more: what was told, with the ids.
fn read(feed: &mut WideFeed) -> Vec<(Option<String>, Option<Arc<Frame>>)> {
    let mut told = Vec::new();
    while let Some(blocks) = blocks(feed) {
        told.extend(blocks.into_iter().map(|block| match block.data {
            Data::Change(frame) => (block.id, Some(frame)),
            _ => (block.id, None),
        }));
    }
    told
}

/// `None`: nothing until it is woken.
fn blocks(feed: &mut WideFeed) -> Option<Vec<Block>> {
    match feed.read().unwrap() {
        Read::Blocks(blocks) => Some(blocks),
        Read::Step(step, _) => Some(step.blocks.clone()),
        _ => None,
    }
}

fn texts(told: &[(Option<String>, Option<Arc<Frame>>)]) -> Vec<String> {
    told.iter().filter_map(|(_, frame)| Some(frame.as_ref()?.text().to_owned())).collect()
}

fn open(log: &Growing, recents: &Arc<Recents>, types: &Types) -> WideFeed {
    let scope = Scope { merchant: MerchantId::default(), customer: None };
    let cursor = Offsets::start(log.view.partitions()).encode(log.view.log_id());
    let start = Start { last_event_id: Some(cursor), at_least: None, reset: false, types: types.clone() };
    WideFeed::open(&log.view, recents.follow(scope), start).ok().unwrap()
}

fn events(n: usize) -> Vec<Event> {
    let key = format!("order-{n}");
    let again = Event { payment_id: payment_id(&key), ..event(1, retry(1)) };
    vec![of(&MerchantId::default(), &key), again]
}

/// Who reads after so many payments, of two events each, does not find all of it kept.
const SELDOM: usize = SCOPE.frames;

/// Those that read often, seldom, or only some of it: each is told what one is told who is alone.
#[tokio::test]
async fn who_follows_with_others_is_told_what_one_alone_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Growing::of_partitions(3, directory.path());
    let some = Types::listed("PaymentRetryScheduled").unwrap();
    let together: Arc<Recents> = Arc::default();
    let wishes =
        [(1, Types::default()), (1, some.clone()), (7, Types::default()), (SELDOM, Types::default()), (SELDOM, some)];
    // Many, so that what comes next is kept for them.
    let wishes: Vec<_> = wishes.iter().cycle().take(3 * wishes.len()).cloned().collect();
    let mut feeds: Vec<_> = wishes.iter().map(|(_, types)| open(&log, &together, types)).collect();
    let mut alone: Vec<_> = wishes.iter().map(|(_, types)| open(&log, &Arc::default(), types)).collect();
    let mut told: Vec<[Vec<_>; 2]> = wishes.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for round in 1..=2 * SELDOM {
        log.grow(events(round)).await;
        let reads = |every: usize| round % every == 0 || round == 2 * SELDOM;
        for at in (0..wishes.len()).filter(|at| reads(wishes[*at].0)) {
            told[at][0].extend(read(&mut feeds[at]));
            told[at][1].extend(read(&mut alone[at]));
        }
    }
    for (at, wish) in wishes.iter().enumerate() {
        // Between partitions there is no order, and so ids differ; of one payment there is.
        let [mut with, mut without] = [0, 1].map(|which| texts(&told[at][which]));
        let of_last = |told: &[String]| {
            told.iter()
                .filter(|text| text.contains(&payment_id(&format!("order-{}", 2 * SELDOM)).to_string()))
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(of_last(&with), of_last(&without), "{wish:?}");
        with.sort();
        without.sort();
        assert!(with == without && with.len() >= 2 * SELDOM, "{wish:?}: {} and {}", with.len(), without.len());
        // Whoever comes back with the id of the last is told nothing of it again.
        let last = told[at][0].iter().rev().find_map(|(id, _)| id.clone()).unwrap();
        let start = Start { last_event_id: Some(last), at_least: None, reset: false, types: wish.1.clone() };
        let scope = Scope { merchant: MerchantId::default(), customer: None };
        let mut again = WideFeed::open(&log.view, together.follow(scope), start).ok().unwrap();
        assert!(texts(&read(&mut again)).is_empty(), "{wish:?}");
    }
}

/// More at once than is kept, and more than there is room for, read by turns.
#[tokio::test]
async fn what_there_is_no_room_for_is_told_all_the_same() {
    let all = Types::default();
    let some = Types::listed("PaymentInProgress").unwrap();
    for (followers, payments, description) in [(2, 40, 0), (5, 100, 0), (8, 200, 0), (2, 20, 15_000), (9, 30, 15_000)] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Growing::of_partitions(3, directory.path());
        let recents: Arc<Recents> = Arc::default();
        let types = |n: usize| if n % 3 == 2 { &some } else { &all };
        let mut feeds: Vec<_> = (0..followers).map(|n| open(&log, &recents, types(n))).collect();
        for n in 0..2 {
            log.grow(events(n)).await;
            feeds.iter_mut().for_each(|feed| assert!(!read(feed).is_empty()));
        }
        let described = |mut event: Event| {
            if let EventData::PaymentInProgress(data) = &mut event.data {
                data.private = Private::plain(Some("x".repeat(description)), None);
            }
            event
        };
        log.grow((10..10 + payments).flat_map(events).map(described).collect()).await;
        let mut told: Vec<Vec<_>> = (0..followers).map(|_| Vec::new()).collect();
        let mut waiting = 0;
        while waiting < followers {
            waiting = 0;
            for (feed, told) in feeds.iter_mut().zip(&mut told) {
                match blocks(feed) {
                    Some(blocks) => told.extend(blocks.into_iter().filter_map(|block| match block.data {
                        Data::Change(frame) => Some(frame.text().to_owned()),
                        _ => None,
                    })),
                    None => waiting += 1,
                }
            }
        }
        for (n, mut told) in told.into_iter().enumerate() {
            let wanted = if types(n) == &all { 2 * payments } else { payments };
            let count = told.len();
            told.sort();
            told.dedup();
            assert_eq!((count, told.len()), (wanted, wanted), "{followers} followers, {payments} payments: {n}");
        }
        drop(feeds);
        assert_eq!(recents.bytes.load(std::sync::atomic::Ordering::Relaxed), 0, "nothing is left");
    }
}

#[tokio::test]
async fn a_frame_is_written_once_and_kept_while_two_follow() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Growing::open(directory.path());
    let recents: Arc<Recents> = Arc::default();
    let [mut one, mut two] = [(); 2].map(|()| open(&log, &recents, &Types::default()));
    for n in 0..3 {
        log.grow(events(n)).await;
        let [of_one, of_two] = [read(&mut one), read(&mut two)];
        let pairs = of_one.iter().zip(&of_two).filter_map(|(a, b)| Some((a.1.as_ref()?, b.1.as_ref()?)));
        let same = pairs.filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        // The first time each looks for itself: until then nobody had company.
        assert_eq!((of_one.len(), same), (2, if n == 0 { 0 } else { 2 }));
    }
    drop(two);
    let alone = lock(&recents.scopes).values().next().unwrap().upgrade().unwrap();
    assert!(lock(&alone.0).is_none(), "nothing is kept for one alone");
    drop((alone, one));
    assert!(lock(&recents.scopes).is_empty(), "nothing of what nobody follows");
}

/// What `feed` is told next, which it shares, and whether there is more.
fn step(feed: &mut WideFeed) -> (Arc<Step>, bool) {
    match feed.read().unwrap() {
        Read::Step(step, more) => (step, more),
        _ => panic!("nothing that is shared"),
    }
}

#[tokio::test]
async fn what_comes_next_for_many_is_written_once_and_what_came_meanwhile_is_not_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = Growing::of_partitions(3, directory.path());
    let recents: Arc<Recents> = Arc::default();
    let mut feeds: Vec<_> = (0..10).map(|_| open(&log, &recents, &Types::default())).collect();
    log.grow(events(0)).await;
    feeds.iter_mut().for_each(|feed| assert_eq!(read(feed).len(), 2));
    log.grow(events(1)).await;
    let (late, others) = feeds.split_last_mut().unwrap();
    let steps: Vec<_> = others.iter_mut().map(step).collect();
    for (step, more) in &steps {
        assert!(Arc::ptr_eq(step, &steps[0].0) && !more);
        assert_eq!(step.text().as_ptr(), steps[0].0.text().as_ptr(), "one text for all");
    }
    log.grow(events(2)).await;
    let (step_of_late, more) = step(late);
    assert!(Arc::ptr_eq(&step_of_late, &steps[0].0) && more, "what was kept, and there is more");
    assert_eq!((read(late).len(), read(&mut others[0]).len()), (2, 2));
}
