//! Intake that is killed, joined and left by others, or finds its topic shortened: nothing lost, nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paylog::service::Role;
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;

use crate::cluster::{Bed, Running, ends_of, until};
use crate::crashes::Process;
use crate::foreign::{Foreign, Sent, id};
use crate::intake::initiations;

/// Every second request is garbage: a payment that is moved on twice is known the second time, but a dead letter is not.
const BAD_EVERY: usize = 2;

async fn unlimited() -> Bed {
    Bed::kafka().await.with(&["--dead-letters-per-minute", "1000000"])
}

fn is_bad(n: usize) -> bool {
    n.is_multiple_of(BAD_EVERY)
}

/// Sends one request after the other, some of them bad, from number `first` on while `goes_on` says so. Answers with the
/// number after the last.
fn send_while(
    foreign: &Arc<Foreign>,
    first: usize,
    goes_on: impl Fn(usize) -> bool + Send + 'static,
) -> JoinHandle<usize> {
    let foreign = Arc::clone(foreign);
    tokio::spawn(async move {
        let mut n = first;
        while goes_on(n) {
            let key = format!("order-{n}");
            let request = if is_bad(n) { Sent::bytes(&key, b"garbage") } else { Sent::json(&key) };
            foreign.send(&request).await;
            n += 1;
        }
        n
    })
}

/// Each good one is one payment that began once and ended once; each bad one is one dead letter.
async fn each_exactly_once(front: &Running, foreign: &Foreign, count: usize) {
    foreign.all_taken().await;
    let good: Vec<_> = (0..count).filter(|n| !is_bad(*n)).map(|n| id("default", &format!("order-{n}"))).collect();
    for id in &good {
        until("every payment ends", async || {
            front.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal())
        })
        .await;
    }
    let log = front.log().await;
    for id in &good {
        assert_eq!((initiations(&log, *id), ends_of(&log, *id)), (1, 1), "{id} begins once and ends once");
    }
    let letters = foreign.dead_letters().await;
    let mut keys: Vec<_> =
        letters.iter().map(|letter| String::from_utf8(letter.key.clone().unwrap()).unwrap()).collect();
    let mut bad: Vec<_> = (0..count).filter(|n| is_bad(*n)).map(|n| format!("order-{n}")).collect();
    keys.sort();
    bad.sort();
    assert_eq!(keys, bad, "each dead letter once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn killed_in_the_middle_of_intake_nothing_is_lost_and_nothing_twice() {
    const KILLS: usize = 4;
    let bed = unlimited().await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let foreign = Arc::new(Foreign::new(&bed));
    let mut process = Process::start(bed.words("process", "process", &[])).await;
    let mut count = 0;
    for round in 0..KILLS {
        let probe = id("default", &format!("probe-{round}"));
        foreign.send(&Sent::json(&format!("probe-{round}"))).await;
        until("this process takes requests in", async || front.view.payment(probe).unwrap().is_some()).await;
        let killed = Arc::new(AtomicBool::new(false));
        let is_killed = Arc::clone(&killed);
        let sending = send_while(&foreign, count, move |_| !is_killed.load(Ordering::Acquire));
        // At another moment each time, and always with more on its way.
        let taken = count + 37 * round + 1;
        let kill_at = id("default", &format!("order-{}", taken + usize::from(is_bad(taken))));
        until("so many are taken in", async || front.view.payment(kill_at).unwrap().is_some()).await;
        process.kill();
        killed.store(true, Ordering::Release);
        count = sending.await.unwrap();
        process = Process::start(bed.words("process", "process", &[])).await;
    }
    each_exactly_once(&front, &foreign, count).await;
    drop(process);
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn others_join_and_leave_while_requests_come_in() {
    const REQUESTS: usize = 600;
    let bed = unlimited().await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let foreign = Arc::new(Foreign::new(&bed));
    let first = bed.run(Role::Process, "process-1", &[]).await;
    let sending = send_while(&foreign, 0, |n| n < REQUESTS);
    let second = bed.run(Role::Process, "process-2", &[]).await;
    let third = bed.run(Role::Process, "process-3", &[]).await;
    first.stop().await;
    third.stop().await;
    sending.await.unwrap();
    each_exactly_once(&front, &foreign, REQUESTS).await;
    second.stop().await;
    front.stop().await;
}

/// Nothing can be done about what retention removed, but that it is said, and that the rest is taken in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn what_retention_removed_is_counted_and_the_rest_is_taken_in() {
    let bed = Bed::kafka().await;
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let foreign = Foreign::new(&bed);
    let process = bed.run(Role::Process, "process", &[]).await;
    foreign.send(&Sent::json("before").to(0)).await;
    foreign.all_taken().await;
    process.stop().await;
    for n in 0..10 {
        foreign.send(&Sent::json(&format!("order-{n}")).to(0)).await;
    }
    let mut removed = TopicPartitionList::new();
    removed.add_partition_offset(&foreign.requests(), 0, Offset::Offset(5)).unwrap();
    foreign.admin().delete_records(&removed, &AdminOptions::new()).await.unwrap();

    let process = Process::start(bed.words("process", "process", &[])).await;
    for n in 4..10 {
        let id = id("default", &format!("order-{n}"));
        until("what is still there is paid", async || front.view.payment(id).unwrap().is_some()).await;
    }
    assert_eq!(front.view.payment(id("default", "order-3")).unwrap(), None, "gone");
    let metrics = reqwest::get(format!("{}/metrics", process.client.url)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("\npaylog_requests_gone_total 4\n"), "offsets 1 to 4 are gone: {metrics}");
    assert!(metrics.contains("\npaylog_requests_taken_total{result=\"accepted\"} 6\n"), "{metrics}");
    drop(process);
    front.stop().await;
}
