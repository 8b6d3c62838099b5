//! What may become of a topic under those who use it (research/reliability.md, (b) 27 to 31): every process ends and says what
//! to do, and does not start again until it is done. Only Kafka has this: nobody else's hand is on an embedded log.

use std::collections::HashMap;

use paylog::config::ServiceArgs;
use paylog::journal::kafka;
use paylog::service::{Role, Service};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::client::{Client, body};
use crate::cluster::{Bed, Running, ends_of, until};

const QUICK: [&str; 2] = ["--guard-seconds", "1"];

struct Admin(AdminClient<DefaultClientContext>);

impl Admin {
    fn of(bed: &Bed) -> Self {
        let args = bed.args("serve", "admin", &[]);
        let servers = args.kafka.servers().unwrap();
        Self(ClientConfig::new().set("bootstrap.servers", servers).create().unwrap())
    }

    async fn delete_topic(&self, topic: &str) {
        let deleted = self.0.delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    async fn add_partitions(&self, topic: &str, partitions: usize) {
        let added =
            self.0.create_partitions([&NewPartitions::new(topic, partitions)], &AdminOptions::new()).await.unwrap();
        assert!(added.iter().all(Result::is_ok), "{added:?}");
    }

    /// Sets one setting and leaves the others as they must be.
    async fn set(&self, topic: &str, key: &str, value: &str) {
        let mut entries = HashMap::from([
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("message.timestamp.type", "LogAppendTime"),
            ("unclean.leader.election.enable", "false"),
        ]);
        entries.insert(key, value);
        let alter = AlterConfig { specifier: ResourceSpecifier::Topic(topic), entries };
        let altered = self.0.alter_configs([&alter], &AdminOptions::new()).await.unwrap();
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    }
}

/// A front and a processor whose fold has something of every partition.
async fn at_work(bed: &Bed) -> (Running, Running) {
    let front = bed.run(Role::Serve, "serve", &QUICK).await;
    let processor = bed.run(Role::Process, "process", &QUICK).await;
    for n in 0..20 {
        front.client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await;
    }
    assert!(front.view.folded().positions().all(|next| next.offset.0 > 0), "a payment on every partition");
    (front, processor)
}

/// Pays until nobody listens any more. Answers with the statuses of the answers that came.
async fn pay_until_refused(client: Client) -> Vec<u16> {
    let mut statuses = Vec::new();
    for n in 0.. {
        match client.try_pay(&format!("late-{n}"), &body("cus_1", "pm_card_visa")).await {
            Ok(answer) => statuses.push(answer.status),
            Err(_) => break,
        }
    }
    statuses
}

async fn refusal(args: ServiceArgs, role: Role) -> String {
    let refused = Service::open(args, role).await.err().expect("it must not start");
    format!("{refused:#}")
}

/// (b) 29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_topic_that_was_made_again_ends_every_process_and_takes_no_payment() {
    let bed = Bed::kafka().await;
    let (front, processor) = at_work(&bed).await;
    let log_id = front.journal.log_id();
    let late = tokio::spawn(pay_until_refused(front.client.clone()));
    Admin::of(&bed).delete_topic(&bed.prefix).await;
    let config = bed.args("serve", "topics", &[]).kafka.config("topics").unwrap();
    until("the topic is made again", async || {
        let config = config.clone();
        tokio::task::spawn_blocking(move || kafka::ensure(&config, 1)).await.unwrap().is_ok()
    })
    .await;
    let told = ["made again", "replaced or cut", "changed or replaced", "no longer holds", "does not exist"];
    for text in [front.fails().await, processor.fails().await] {
        assert!(told.iter().any(|told| text.contains(told)), "{text}");
    }
    // What was accepted before the topic went is gone with it. From the moment that it was another topic, nothing is.
    let statuses = late.await.unwrap();
    let accepted = statuses.iter().skip_while(|status| **status == 202).filter(|status| **status != 503).count();
    assert_eq!(accepted, 0, "{statuses:?}");
    for (role, name) in [(Role::Serve, "serve"), (Role::Process, "process")] {
        let text = refusal(bed.args(name, name, &QUICK), role).await;
        assert!(text.contains("another log") && text.contains(&log_id.to_string()), "{text}");
    }
}

/// (b) 30.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn partitions_that_were_added_end_every_process_before_a_payment_moves() {
    let bed = Bed::kafka().await;
    let (front, processor) = at_work(&bed).await;
    Admin::of(&bed).add_partitions(&bed.prefix, 8).await;
    let mut texts = vec![front.fails().await, processor.fails().await];
    texts.push(refusal(bed.args("serve", "serve", &QUICK), Role::Serve).await);
    for text in texts {
        assert!(text.contains("has 8 partitions and not 4") && text.contains("--partitions"), "{text}");
    }
    // Nor with the new number: the rows were folded with the old one.
    let text = refusal(bed.args("serve", "serve", &["--partitions", "8"]), Role::Serve).await;
    assert!(text.contains("with 4 partitions"), "{text}");
}

/// (b) 31.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_setting_that_loses_history_ends_every_process_until_it_is_mended() {
    for (key, wrong, right) in [("cleanup.policy", "compact", "delete"), ("retention.ms", "3600000", "-1")] {
        let bed = Bed::kafka().await;
        let (front, processor) = at_work(&bed).await;
        let client = front.client.clone();
        let admin = Admin::of(&bed);
        admin.set(&bed.prefix, key, wrong).await;
        let mut texts = vec![front.fails().await, processor.fails().await];
        assert!(client.try_pay("late", &body("cus_1", "pm_card_visa")).await.is_err(), "nobody listens any more");
        texts.push(refusal(bed.args("process", "process", &QUICK), Role::Process).await);
        for text in texts {
            assert!(text.contains(&format!("{key}={wrong}")) && text.contains("kafka-configs.sh"), "{text}");
        }
        admin.set(&bed.prefix, key, right).await;
        let front = bed.run(Role::Serve, "serve", &QUICK).await;
        let processor = bed.run(Role::Process, "process", &QUICK).await;
        let paid = front.client.pay_to_the_end("afterwards", &body("cus_1", "pm_card_visa")).await;
        assert_eq!(paid.text("status"), "successful");
        processor.stop().await;
        front.stop().await;
    }
}

/// (b) 27: work comes from the state, so that the group's offsets may go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_group_without_offsets_charges_nothing_again_and_goes_on() {
    let bed = Bed::kafka().await;
    let (front, processor) = at_work(&bed).await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(front.client.pay(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await.id());
    }
    processor.stop().await;
    let open = front.client.pay("open", &body("cus_1", "pm_card_visa")).await.id();
    let before = front.log_end().await;
    let group = bed.args("process", "process", &[]).kafka.group;
    let deleted = Admin::of(&bed).0.delete_groups(&[&group], &AdminOptions::new()).await.unwrap();
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    let processor = bed.run(Role::Process, "process", &QUICK).await;
    until("the open payment ends", async || {
        front.view.payment(open).unwrap().is_some_and(|row| row.payment.is_terminal())
    })
    .await;
    processor.stop().await;
    assert_eq!(front.log_end().await, before + 2, "one end and its transaction's marker, and nothing else");
    let log = front.log().await;
    assert!(ids.iter().chain([&open]).all(|id| ends_of(&log, *id) == 1), "each ends exactly once");
    front.stop().await;
}
