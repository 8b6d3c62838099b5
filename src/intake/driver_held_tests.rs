//! What is shown of a partition that waits for somebody.

use super::*;

/// Whoever watches for one that is held for minutes sees it at every look, and since when.
#[test]
fn a_partition_that_is_held_is_shown_as_such_while_others_fill_the_batches() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, view) = view(directory.path());
    let (mut running, fake) = running(1, 0, &journal, &view);
    running.intake.requests = Codec::that_has_heard_nothing().requests();
    let (held, busy) = (Partition(0), Partition(1));
    fake.model().offered = BTreeSet::from([held, busy]);
    fake.model().stands = BTreeMap::from([(held, 100), (busy, 100)]);
    running.turn().unwrap();
    running.listen().unwrap();
    let waiting = SourceRecord { value: Some(vec![0, 0, 0, 0, 7]), ..record(held, 100) };
    let others = (100..140).map(|offset| record(busy, offset));
    fake.model().news = std::iter::once(waiting).chain(others).map(Incoming::Record).collect();
    running.listen().unwrap();
    let mut shown = Vec::new();
    for _ in 0..5 {
        running.move_on().unwrap();
        running.move_not_before = Instant::now();
        shown.push(running.sources[&held].held().map(|held| held.since));
    }
    assert_eq!(fake.model().stands[&busy], 140, "each batch was full");
    assert!(shown[1].is_some() && shown[1..].iter().all(|since| *since == shown[1]), "{shown:?}");
}
