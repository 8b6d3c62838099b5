//! How fast the engine is here. Not a judge: it prints.

use std::time::{Duration, Instant};

use paylog::journal::{NewRecord, Position};

use crate::support::{PARTITIONS, append, at, committed, joined, open, read_all, record};

#[test]
#[ignore = "needs Kafka, and prints figures: run alone with --nocapture"]
fn figures() {
    let (_, journal) = open();
    let mut lanes = joined(&*journal);
    for size in [1_u32, 10, 100] {
        let records: Vec<NewRecord> = (0..size).map(|i| record(i % PARTITIONS, &"x".repeat(200))).collect();
        let next: Vec<Position> = (0..PARTITIONS.min(size)).map(|p| at(p, 1)).collect();
        print_percentiles(&format!("transaction of {size}"), || {
            // A member that is not polled loses its lanes.
            lanes.poll(Duration::ZERO).expect("poll");
            committed(&mut *lanes, &records, &next).expect("commit");
        });
    }
    print_percentiles("append", || {
        append(&*journal, record(0, &"x".repeat(200)));
    });
    let batch: Vec<NewRecord> = (0..5000).map(|i| record(i % PARTITIONS, &"x".repeat(200))).collect();
    let began = Instant::now();
    for _ in 0..40 {
        committed(&mut *lanes, &batch, &[at(0, 1)]).expect("commit");
    }
    println!("transactions of 5000: {:.0} records/s", 200_000.0 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    let (records, _) = read_all(&*journal);
    println!("tail: {:.0} records/s of {}", records.len() as f64 / began.elapsed().as_secs_f64(), records.len());
}

fn print_percentiles(what: &str, mut once: impl FnMut()) {
    let mut took: Vec<Duration> = (0..200)
        .map(|_| {
            let began = Instant::now();
            once();
            began.elapsed()
        })
        .collect();
    took.sort();
    println!("{what}: p50 {:?}, p99 {:?}", took[100], took[198]);
}
