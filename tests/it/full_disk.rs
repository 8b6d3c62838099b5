//! A disk that is full while a service runs, and while it starts: it ends and says so, nothing that was acknowledged is lost,
//! nothing is served that is not so, and when there is space again it goes on with the rows that it had.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use paylog::payment::PaymentId;
use paylog::service::{Role, Service};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, body};
use crate::cluster::{Bed, PATIENCE, Running, ends_of, until};
use crate::rebuild::{other, reaches, rebuild, wish};
use crate::small_disk::SmallDisk;
use crate::verify::{load, run, verify};

const DISK_MIB: usize = 32;
/// Room for some payments more, and for their rows, but not for many.
const LEFT: usize = 256 * 1024;
const BEFORE: usize = 10;

/// What this service keeps is there.
fn on_a_small_disk(bed: &Bed, name: &str) -> SmallDisk {
    let disk = SmallDisk::new(DISK_MIB);
    std::fs::create_dir(disk.path("data")).unwrap();
    std::os::unix::fs::symlink(disk.path("data"), bed.data_dir(name)).unwrap();
    disk
}

/// The directory of each store below, by its inode: one that was made anew has another.
fn stores(data: &Path) -> BTreeSet<(String, u64)> {
    let entries = std::fs::read_dir(data.join("store")).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino())).collect()
}

async fn pay(client: &Client, name: &str, count: usize) -> Vec<PaymentId> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(client.pay_to_the_end(&format!("{name}-{n}"), &body("cus_1", "pm_card_visa")).await.id());
    }
    ids
}

/// Payments of a client that asks on and on, until nobody answers.
#[derive(Default)]
struct Asked {
    taken: Vec<PaymentId>,
    /// The keys of those that were refused, or may have been.
    refused: Vec<String>,
}

impl Asked {
    async fn until_it_ends(&mut self, client: &Client, name: &str) {
        for n in 0.. {
            let key = format!("{name}-{n}");
            // What comes when the process has begun to end finds nobody there, and was told nothing.
            let Ok(answer) = client.try_pay(&key, &body("cus_1", "pm_card_visa")).await else { break };
            match (answer.status, answer.body["code"].as_str()) {
                (200 | 202, _) => self.taken.push(answer.id()),
                (503, Some("append_unknown" | "not_appended" | "shutting_down")) => self.refused.push(key),
                _ => panic!("{answer:?}"),
            }
        }
    }

    /// Starts a service where there is no room, asks it as long as it is there, and answers with what it says at its end. It
    /// may come as far as that: what was there before is served, as long as there is nothing to write.
    async fn of_one_without_room(&mut self, bed: &Bed, role: Role, name: &str, keys: &str) -> String {
        let command = if role == Role::All { "up" } else { "serve" };
        let service = match Service::open(bed.args(command, name, &[]), role).await {
            Ok(service) => service,
            Err(error) => return format!("{error:#}"),
        };
        let client = Client::new(&format!("http://{}", service.address().unwrap()));
        let ended = tokio::spawn(service.run(CancellationToken::new()));
        self.until_it_ends(&client, keys).await;
        let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it goes on").unwrap();
        format!("{:#}", ended.expect_err("it ended well"))
    }
}

fn says_so(text: &str) {
    assert!(text.contains("full") && text.contains("start paylog again"), "{text}");
    assert!(!text.contains("damaged"), "{text}");
}

async fn all_end_once(running: &Running, ids: &[PaymentId]) {
    for id in ids {
        until("it ends", async || running.view.payment(*id).unwrap().is_some_and(|row| row.payment.is_terminal()))
            .await;
    }
    let log = running.log().await;
    assert!(ids.iter().all(|id| ends_of(&log, *id) == 1), "each ends exactly once");
}

/// The log and the rows are on the disk that is full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a file system of its own: see CONTRIBUTING.md"]
async fn an_embedded_log_on_a_full_disk_loses_nothing_that_it_acknowledged() {
    let bed = Bed::embedded();
    let (disk, data) = (on_a_small_disk(&bed, "up"), bed.data_dir("up"));
    let up = bed.run(Role::All, "up", &[]).await;
    let mut paid = pay(&up.client, "before", BEFORE).await;
    let stores_before = stores(&data);
    disk.fill(LEFT);
    let mut asked = Asked::default();
    asked.until_it_ends(&up.client, "during").await;
    says_so(&up.fails().await);
    assert!(!asked.taken.is_empty(), "some were taken before it was full");
    disk.fill(0);
    for keys in ["once", "twice"] {
        says_so(&asked.of_one_without_room(&bed, Role::All, "up", keys).await);
    }
    paid.extend(asked.taken);
    disk.make_space();
    let up = bed.run(Role::All, "up", &[]).await;
    assert_eq!(stores(&data), stores_before, "neither damaged nor folded anew");
    all_end_once(&up, &paid).await;
    // With the same key, as whoever was told 503 repeats it.
    for key in &asked.refused {
        paid.push(up.client.pay_to_the_end(key, &body("cus_1", "pm_card_visa")).await.id());
    }
    paid.extend(pay(&up.client, "after", BEFORE).await);
    all_end_once(&up, &paid).await;
    up.stop().await;
    let said = verify(&bed, &[]).await;
    assert!(said.code == Some(0) && said.out.ends_with("violations: 0, warnings: 0\n"), "{said:?}");
}

/// The rows are on the disk that is full, and the log is elsewhere: others go on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a file system of its own, and needs Kafka: see CONTRIBUTING.md"]
async fn an_instance_on_a_full_disk_ends_and_comes_back_to_the_same_rows() {
    let bed = Bed::kafka().await;
    let (disk, data) = (on_a_small_disk(&bed, "serve"), bed.data_dir("serve"));
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let (other, processor) = (bed.run(Role::Serve, "other", &[]).await, bed.run(Role::Process, "process", &[]).await);
    let mut paid = pay(&front.client, "before", BEFORE).await;
    let stores_before = stores(&data);
    disk.fill(LEFT);
    // It appends to a log that has room, and what it answers is so, as long as it answers.
    let mut asked = Asked::default();
    asked.until_it_ends(&front.client, "during").await;
    says_so(&front.fails().await);
    assert!(!asked.taken.is_empty(), "some were taken before it was full");
    paid.extend(pay(&other.client, "elsewhere", BEFORE).await);
    disk.fill(0);
    for keys in ["once", "twice"] {
        says_so(&asked.of_one_without_room(&bed, Role::Serve, "serve", keys).await);
    }
    paid.extend(asked.taken);
    disk.make_space();
    let front = bed.run(Role::Serve, "serve", &[]).await;
    assert_eq!(stores(&data), stores_before, "neither damaged nor folded anew");
    all_end_once(&front, &paid).await;
    for id in &paid {
        let path = format!("/v1/payments/{id}");
        assert_eq!(front.client.get(&path).await.body, other.client.get(&path).await.body, "{id}");
    }
    front.stop().await;
    let said = verify(&bed, &["--data-dir", data.to_str().unwrap()]).await;
    assert!(said.code == Some(0) && said.out.ends_with("violations: 0, warnings: 0\n"), "{said:?}");
    processor.stop().await;
    other.stop().await;
}

/// The very first start: nothing of it is in the way of the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a file system of its own: see CONTRIBUTING.md"]
async fn a_first_start_on_a_full_disk_leaves_nothing_in_the_way_of_the_next() {
    const STEP: usize = 16 * 1024;
    let bed = Bed::embedded();
    let disk = on_a_small_disk(&bed, "up");
    for left in (0..12).map(|step| step * STEP) {
        disk.fill(left);
        let text = Asked::default().of_one_without_room(&bed, Role::All, "up", "never").await;
        assert!(text.contains("full") || text.contains("No space left"), "{left} bytes left: {text}");
        disk.make_space();
        let up = bed.run(Role::All, "up", &[]).await;
        pay(&up.client, "order", 1).await;
        up.stop().await;
        for entry in std::fs::read_dir(disk.path("data")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }
}

/// What is built beside the rows that are served takes as much room again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a file system of its own: see CONTRIBUTING.md"]
async fn a_rebuild_for_which_there_is_no_room_fails_and_harms_nothing() {
    /// Enough that one is written for far longer than it takes to fill the disk.
    const PAYMENTS: usize = 600;
    let (bed, nothing) = (Bed::embedded(), serde_json::json!({}));
    let disk = on_a_small_disk(&bed, "up");
    let up = bed.run(Role::All, "up", &[]).await;
    let (mut paid, client) = (load(&up, "before", PAYMENTS).await, &up.client);
    // None for its tables; and some for them, but not for its rows.
    for room in [64 * 1024, 192 * 1024] {
        disk.fill(room);
        let begun = client.post("/v1/operator/projections/payments/rebuild", &nothing).await;
        assert_eq!(begun.status, 202, "{begun:?}");
        until("it fails", async || other(client).await.is_some_and(|other| other["phase"] == "failed")).await;
        let failed = other(client).await.unwrap();
        assert!(failed["note"].as_str().unwrap().contains("full"), "{failed}");
        // There is the room again that there was.
        paid.extend(pay(client, &format!("beside-{room}"), 3).await);
        disk.make_space();
        assert_eq!(wish(client, "cancel", failed["version"].as_str().unwrap()).await.status, 200);
    }
    rebuild(client, &nothing).await;
    reaches(client, "verified").await;
    paid.extend(pay(client, "after", 3).await);
    all_end_once(&up, &paid).await;
    up.stop().await;
}

/// A copy takes none of the room that what is served needs.
async fn a_checkpoint_without_room_fails_and_harms_nothing(bed: &Bed) {
    const PAYMENTS: usize = 150;
    /// A sixteenth of the disk: what is left to others.
    const ROOM: usize = DISK_MIB * 1024 * 1024 / 16;
    let (name, role) = if bed.is_kafka() { ("serve", Role::Serve) } else { ("up", Role::All) };
    let disk = on_a_small_disk(bed, name);
    let front = bed.run(role, name, &[]).await;
    let processor = if bed.is_kafka() { Some(bed.run(Role::Process, "process", &[]).await) } else { None };
    let (client, address) = (&front.client, "/v1/operator/checkpoints");
    let mut paid = load(&front, "before", PAYMENTS).await;
    let wanted = |effort: u32| serde_json::json!({"projection": "payments", "effort": effort});
    let latest = async || client.get(address).await.body["data"][0]["latest"].clone();
    // There is none when it begins; and it is gone while it is written, slowly.
    for is_written in [false, true] {
        if !is_written {
            disk.fill(ROOM);
        }
        assert_eq!(client.post(address, &wanted(1)).await.status, 202);
        if is_written {
            until("it has begun", async || latest().await["rows"] != 0).await;
            disk.fill(ROOM);
        }
        until("it has ended", async || latest().await["state"] != "writing").await;
        let failed = latest().await;
        assert_eq!(failed["state"], "failed", "{is_written}: {failed}");
        assert!(failed["error"].as_str().unwrap().contains("the disk is full, or would be soon"), "{failed}");
        let left = std::fs::read_dir(disk.path("data").join("checkpoints")).unwrap().count();
        assert_eq!(left, 0, "nothing of it is left, and nothing can be taken for a whole one");
        paid.extend(pay(client, &format!("beside-{is_written}"), 3).await);
        disk.make_space();
    }
    assert_eq!(client.post(address, &wanted(100)).await.status, 202);
    until("it is whole", async || latest().await["state"] == "whole").await;
    let file = latest().await["file"].as_str().unwrap().to_owned();
    let said = run(["paylog", "checkpoint", "check", &file].map(str::to_owned).to_vec()).await;
    assert!(said.code == Some(0) && said.out.starts_with("whole and unchanged: "), "{said:?}");
    all_end_once(&front, &paid).await;
    front.stop().await;
    if let Some(processor) = processor {
        processor.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a file system of its own: see CONTRIBUTING.md"]
async fn a_checkpoint_for_which_there_is_no_room_fails_and_harms_nothing() {
    a_checkpoint_without_room_fails_and_harms_nothing(&Bed::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts a file system of its own, and needs Kafka: see CONTRIBUTING.md"]
async fn a_checkpoint_for_which_an_instance_has_no_room_fails_and_harms_nothing() {
    a_checkpoint_without_room_fails_and_harms_nothing(&Bed::kafka().await).await;
}
