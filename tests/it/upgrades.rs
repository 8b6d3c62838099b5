//! The first start of code that folds otherwise than the code before it: its rows are held against those that the older code
//! has left in the data directory. `payments@3` had no index of a merchant's events, and was otherwise as `payments@4` is.

use std::path::Path;

use paylog::payment::PaymentId;
use paylog::projection::{Payments, versioned_name};
use paylog::service::{Role, Service};
use paylog::store::Store;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, body};
use crate::cluster::{Bed, PATIENCE, until};
use crate::rebuild::wish;
use crate::verify::front_dir;

const OLDER: &str = "payments@3";

/// The rows in this data directory become those of the older code. `change` is what that one has otherwise.
fn grow_older(data: &Path, change: impl Fn(&str, &[u8], &mut Vec<u8>)) {
    let stores = data.join("store");
    let newer = stores.join(versioned_name::<Payments>());
    {
        let (from, to) = (Store::open(&newer).unwrap(), Store::open(&stores.join(OLDER)).unwrap());
        let mut batch = to.batch();
        for name in from.snapshot().unwrap().tables().iter().filter(|name| *name != "merchants") {
            let table = to.table(name).unwrap();
            for row in from.snapshot().unwrap().range(name, &[], &[0xFF; 33]) {
                let (key, value) = row.unwrap();
                let mut value = if (name.as_str(), &*key) == ("meta", b"name") { OLDER.into() } else { value.to_vec() };
                change(name, &key, &mut value);
                batch.insert(&table, &key, &value);
            }
        }
        batch.commit_synced().unwrap();
    }
    Store::discard(&newer).unwrap();
}

async fn pay(client: &Client, from: usize, to: usize) -> Vec<PaymentId> {
    let mut ids = Vec::new();
    for n in from..to {
        ids.push(client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await.id());
    }
    ids
}

async fn in_use(client: &Client) -> Value {
    let list = client.get("/v1/operator/projections").await;
    assert_eq!(list.status, 200, "{list:?}");
    list.body["data"][0]["versions"][0].clone()
}

pub async fn rows_of_newer_code_are_held_against_those_of_the_code_before_it(bed: &Bed) {
    let system = bed.start().await;
    let ids = pay(&system.front.client, 0, 5).await;
    system.stop().await;
    grow_older(&front_dir(bed), |_, _, _| {});
    let system = bed.start().await;
    let version = in_use(&system.front.client).await;
    let note = version["note"].as_str().unwrap();
    assert!(note.starts_with("the same as payments@3 in ") && note.ends_with(" in what both define"), "{version}");
    assert!(version["rows_compared"].as_u64().unwrap() >= 3 * ids.len() as u64, "{version}");
    assert_eq!((&version["phase"], &version["differences"]), (&json!("serving"), &json!(0)), "{version}");
    pay(&system.front.client, 5, 6).await;
    system.stop().await;
}

pub async fn rows_that_differ_from_those_of_the_code_before_are_withheld_until_somebody_accepts_them(bed: &Bed) {
    let system = bed.start().await;
    let id = pay(&system.front.client, 0, 3).await[1];
    system.stop().await;
    grow_older(&front_dir(bed), |table, key, value| {
        if table == "payments" && key == id.as_bytes() {
            let at = value.windows(5).position(|bytes| bytes == b"cus_1").unwrap();
            value[at + 4] = b'7';
        }
    });
    let mut paid = None;
    let (role, command) = if bed.is_kafka() { (Role::Serve, "serve") } else { (Role::All, "up") };
    for accepts in [false, true] {
        let service = Service::open(bed.args(command, command, &[]), role).await.unwrap();
        let client = Client::new(&format!("http://{}", service.address().unwrap()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(service.run(stop.clone()));
        until("it is held against the older rows", async || {
            client.get("/readyz").await.body["code"] == "version_differs"
        })
        .await;
        let version = in_use(&client).await;
        assert_eq!(version["phase"], "different", "{version}");
        let name = version["version"].as_str().unwrap();
        if accepts {
            // All the time that was: nobody has charged it, for nobody may act on rows that are withheld.
            let paid: PaymentId = paid.unwrap();
            assert_eq!(client.get(&format!("/v1/payments/{paid}")).await.text("status"), "in_progress");
            let body = json!({"version": name, "differences": "accepted", "operator": "ada", "reason": "renamed"});
            let done = client.post("/v1/operator/projections/payments/promote", &body).await;
            assert_eq!((done.status, &done.body["versions"][0]["phase"]), (200, &json!("serving")), "{done:?}");
            assert_eq!(client.get("/readyz").await.status, 200);
        } else {
            let found = json!([{
                "table": "payments", "key": id.to_string(), "field": "payment.initiation.customer_id", "left": "cus_7",
                "right": "cus_1",
            }]);
            assert_eq!(version["first_differences"], found, "{version}");
            let refused = wish(&client, "promote", name).await;
            assert_eq!((refused.status, refused.text("code")), (409, "version_differs"), "{refused:?}");
            assert_eq!(client.get("/readyz").await.text("code"), "version_differs", "nothing has changed");
            paid = Some(client.pay("withheld", &body("cus_1", "pm_card_visa")).await.id());
        }
        stop.cancel();
        tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    }
    let system = bed.start().await;
    let (client, paid) = (&system.front.client, format!("/v1/payments/{}", paid.unwrap()));
    until("it is charged", async || client.get(&paid).await.text("status") == "successful").await;
    let note = in_use(&system.front.client).await["note"].as_str().unwrap().to_owned();
    assert!(note.contains("differences to payments@3") && note.ends_with("accepted by ada: renamed"), "{note}");
    system.stop().await;
}
