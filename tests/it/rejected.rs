//! Records that cannot be folded, and what an operator does about them.

use paylog::control::{Decided, NewRejection};
use paylog::journal::{NewRecord, Partition, Position};
use paylog::payment::event::PaymentSuccessful;
use paylog::payment::{Event, EventData, IdempotencyKey, MerchantId, PaymentId, Signed, Timestamp};
use paylog::projection::home_of;
use paylog::schema::Codec;
use paylog::service::Role;
use serde_json::{Value, json};

use crate::client::{Answer, body};
use crate::cluster::{Bed, PARTITIONS, PATIENCE, Running, System, until};
use crate::foreign_hands::{append_event, key_on};
use crate::operations::{paylog, refusal};

pub fn front_of(bed: &Bed) -> (Role, &'static str) {
    if bed.is_kafka() { (Role::Serve, "serve") } else { (Role::All, "up") }
}

/// A record that nobody can read, on partition 1; returns when the front has halted there.
pub async fn garbage(front: &Running) -> Position {
    halting(front, b"{x}").await
}

async fn halting(front: &Running, value: &[u8]) -> Position {
    let record = NewRecord { partition: Partition(1), key: Vec::new(), headers: Vec::new(), value: value.to_vec() };
    let position = front.journal.append(record).await.unwrap();
    until("it has halted", async || front.view.is_halted(Partition(1))).await;
    position
}

pub async fn reject(front: &Running, position: &str) -> Answer {
    let body = json!({"position": position, "operator": "ada", "reason": "garbage of a test tool"});
    front.client.post("/v1/operator/rejected", &body).await
}

/// What a client can see, so that two instances can be compared.
async fn seen(front: &Running, ids: &[String]) -> Vec<Value> {
    let mut seen = vec![front.client.get("/v1/payments?customer_id=cus_1").await.body];
    for id in ids {
        seen.push(front.client.get(&format!("/v1/payments/{id}")).await.body);
        seen.push(front.client.get(&format!("/v1/payments/{id}/events?all=true")).await.body);
    }
    seen.push(json!(front.view.folded().as_slice().iter().map(|offset| offset.0).collect::<Vec<_>>()));
    seen
}

pub async fn a_rejected_record_is_passed_over_and_its_partition_goes_on(bed: &Bed) {
    let mut system = bed.start().await;
    let pay = async |front: &Running, key: &str| {
        let paid = front.client.pay_to_the_end(key, &body("cus_1", "pm_card_visa")).await;
        assert_eq!((paid.status, paid.text("status")), (200, "successful"), "{paid:?}");
        paid.text("id").to_owned()
    };
    let mut ids = vec![pay(&system.front, &key_on(1)).await];
    let initiation = system.front.log().await.remove(0).data;
    let first = garbage(&system.front).await;
    ids.push(pay_behind(&system.front, initiation).await); // not met before the first is passed over
    let second = garbage(&system.front).await;
    for position in [first, second] {
        until("it has halted", async || system.front.view.is_halted(Partition(1))).await;
        let added = reject(&system.front, &position.to_string()).await;
        assert_eq!((added.status, &added.body["passed"]), (201, &true.into()), "{added:?}");
        assert_eq!((added.text("position"), added.text("operator")), (position.to_string().as_str(), "ada"));
    }
    until("it says no more that it has halted", async || {
        system.front.client.get("/readyz").await.body["halted"].is_null()
    })
    .await;
    let behind = format!("/v1/payments/{}", ids[1]);
    until("what was accepted meanwhile has ended", async || {
        system.front.client.get(&behind).await.body["status"] == "successful"
    })
    .await;
    ids.push(pay(&system.front, "order-behind").await);
    for n in 0..8 {
        ids.push(pay(&system.front, &format!("order-{n}-behind")).await); // some of them on that partition
    }
    listed(&system.front, &[first, second]).await;

    // Replay equals live: through a restart, and for an instance that starts with nothing.
    settle_positions(&system, first).await;
    let live = seen(&system.front, &ids).await;
    let (role, name) = front_of(bed);
    system.front.stop().await;
    system.front = bed.run(role, name, &[]).await;
    assert_eq!(seen(&system.front, &ids).await, live, "after a restart");
    system.front.stop().await;
    std::fs::remove_dir_all(bed.data_dir(name).join("store")).unwrap();
    system.front = bed.run(role, name, &[]).await;
    assert_eq!(seen(&system.front, &ids).await, live, "by an instance that starts empty");
    listed(&system.front, &[first, second]).await;
    system.stop().await;
}

/// Another instance, which has not halted, accepts a payment.
async fn pay_behind(front: &Running, initiation: EventData) -> String {
    let keys = (0..).map(|n| IdempotencyKey::parse(&format!("behind-{n}")).unwrap());
    let mut ids = keys.map(|key| PaymentId::derive(&MerchantId::default(), &key));
    let id = ids.find(|id| home_of(*id, PARTITIONS) == Partition(1)).unwrap();
    let value = Codec::new().unwrap().encode(&Event::new(id, Timestamp::now(), initiation)).unwrap();
    let record = NewRecord { partition: Partition(1), key: id.to_string().into_bytes(), headers: Vec::new(), value };
    front.journal.append(record).await.unwrap();
    id.to_string()
}

/// The fold has reached the end of every partition, transaction markers included.
async fn settle_positions(system: &System, rejected: Position) {
    assert!(system.front.view.has_folded(rejected));
    until("the fold has reached the end", async || {
        let folded: u64 = system.front.view.folded().as_slice().iter().map(|offset| offset.0).sum();
        folded == system.front.log_end().await
    })
    .await;
}

async fn listed(front: &Running, positions: &[Position]) {
    let list = front.client.get("/v1/operator/rejected").await;
    let rejected: Vec<&str> =
        list.body["data"].as_array().unwrap().iter().map(|one| one["position"].as_str().unwrap()).collect();
    assert_eq!(rejected, positions.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(list.body["halted"], json!([]));
}

pub async fn only_the_record_at_which_it_has_halted_can_be_rejected(bed: &Bed) {
    let system = bed.start().await;
    let front = &system.front;
    let early = reject(front, "1:0").await;
    assert_eq!((early.status, early.text("code")), (409, "not_halted_there"));
    let position = garbage(front).await;
    let offset = position.offset.0;
    for other in [format!("1:{}", offset + 1), format!("0:{offset}"), format!("9:{offset}")] {
        let refused = reject(front, &other).await;
        assert_eq!((refused.status, refused.text("code")), (409, "not_halted_there"), "{other}");
        assert!(refused.text("detail").contains(&position.to_string()), "{refused:?}");
    }
    assert!(front.control.rejections().is_empty() && front.view.is_halted(Partition(1)));
    for (body, status, code) in [
        (json!({"position": position.to_string(), "operator": "ada"}), 422, "missing_field"),
        (json!({"position": "here", "operator": "ada", "reason": "x"}), 422, "invalid_position"),
        (
            json!({"position": position.to_string(), "operator": "ada", "reason": "4242424242424242"}),
            422,
            "card_number",
        ),
    ] {
        let refused = front.client.post("/v1/operator/rejected", &body).await;
        assert_eq!((refused.status, refused.text("code")), (status, code), "{body}");
    }
    // The command, as an operator uses it.
    let run = |words: &[&str]| {
        let words: Vec<String> = ["paylog", "rejected"].iter().chain(words).map(|word| (*word).to_owned()).collect();
        let output = paylog(&words);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (text, url) = (position.to_string(), front.client.url.as_str());
    let (code, halted, _) = run(&["ls", "--url", url]);
    assert!(code == Some(0) && halted.contains(&format!("halted   {text}")), "{halted}");
    let add = ["add", &text, "--reason", "garbage", "--operator", "ada", "--url", url];
    let (code, added, error) = run(&add);
    assert!(code == Some(0) && added.contains("the partition goes on"), "{added} {error}");
    let (code, listed, _) = run(&["ls", "--url", url]);
    assert!(code == Some(0) && listed.contains(&format!("rejected {text}")) && !listed.contains("halted"), "{listed}");
    let (code, _, error) = run(&add);
    assert!(code == Some(1) && error.contains("has not halted anywhere"), "{error}");
    system.stop().await;
}

/// An event that a later version of paylog wrote is a payment, and not garbage.
pub async fn what_a_newer_paylog_may_have_written_is_not_rejected_by_mistake(bed: &Bed) {
    let system = bed.start().await;
    let front = &system.front;
    for (value, signs) in
        [(&[0xC3, 1, 9, 9, 9, 9, 9, 9, 9, 9, 0][..], "fingerprint"), (&[0, 0, 0, 0, 9, 0], "registry")]
    {
        let position = halting(front, value).await.to_string();
        let list = front.client.get("/v1/operator/rejected").await;
        assert_eq!(list.body["halted"][0]["may_be_newer"], true, "{list:?}");
        assert!(list.body["halted"][0]["reason"].as_str().unwrap().contains(signs), "{list:?}");
        let refused = reject(front, &position).await;
        assert_eq!((refused.status, refused.text("code")), (409, "unknown_schema"));
        assert!(refused.text("detail").contains("upgrade this instance"), "{refused:?}");
        let add = ["paylog", "rejected", "add", &position, "--reason", "a connector's", "--operator", "ada", "--url"];
        let mut words: Vec<String> = add.iter().map(|word| (*word).to_owned()).collect();
        words.push(front.client.url.clone());
        let error = String::from_utf8(paylog(&words).stderr).unwrap();
        assert!(error.contains("despite unknown_schema"), "{error}");
        assert!(front.view.is_halted(Partition(1)));
        words.extend(["--despite", "unknown_schema"].map(str::to_owned));
        let added = String::from_utf8(paylog(&words).stdout).unwrap();
        assert!(added.contains("the partition goes on"), "{added}");
    }
    system.stop().await;
}

/// As when a newer version could read what an older one halted at, and had it in its rows.
pub async fn rows_that_hold_a_rejected_record_are_folded_anew(bed: &Bed) {
    let mut system = bed.start().await;
    let paid = system.front.client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let again = PaymentSuccessful { gateway: "elsewhere".to_owned(), gateway_reference: "x".to_owned(), attempt: 1 };
    append_event(&system.front, paid.id(), EventData::PaymentSuccessful(again)).await;
    let path = format!("/v1/payments/{}/events?all=true", paid.text("id"));
    let history = system.front.client.get(&path).await.body;
    let last = history["data"][2]["position"].as_str().unwrap().rsplit('.').next().unwrap().parse().unwrap();
    let partition = home_of(paid.id(), PARTITIONS);
    let position = Position::new(partition, paylog::journal::Offset(last));
    let signed = Signed::new("ada", "forged").unwrap();
    // Another instance, which had halted there, has rejected it.
    let decided = system.front.control.reject(NewRejection { position, signed, at: Timestamp::now() }, PATIENCE).await;
    assert!(matches!(decided, Ok(Decided::Effective(_))), "{decided:?}");
    let why = system.front.failure().await;
    assert!(why.contains("has rejected it since") && why.contains("restart"), "{why}");
    if let Some(processor) = system.processor {
        assert!(processor.failure().await.contains("has rejected it since"));
    }

    let (role, name) = front_of(bed);
    system.front = bed.run(role, name, &[]).await;
    let anew = system.front.client.get(&path).await.body;
    assert_eq!(anew["data"].as_array().unwrap()[..], history["data"].as_array().unwrap()[..2], "without it");
    system.front.stop().await;
    bed.run(role, name, &[]).await.stop().await;
}

/// A control log that has forgotten why a record was passed over would let another instance halt, or fold it.
#[tokio::test]
async fn rows_without_the_control_log_that_explains_them_are_refused() {
    let bed = Bed::embedded();
    let system = bed.start().await;
    let position = garbage(&system.front).await;
    assert_eq!(reject(&system.front, &position.to_string()).await.status, 201);
    system.stop().await;
    std::fs::remove_dir_all(bed.data_dir("up").join("control")).unwrap();
    let text = refusal(&bed.words("up", "up", &[]));
    assert!(text.contains("the control log has lost records"), "{text}");
}
