//! Keys and stream tokens: whose request it is, and what it opens.

use std::sync::{Arc, Mutex, PoisonError};

use paylog::service::{Role, Service};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, Stream, body};
use crate::cluster::{Bed, Running, System, until};
use crate::crashes::Process;
use crate::operations::{paylog, refusal};

/// What signs stream tokens, on every instance.
const TOKEN_KEY: &str = "a-key-for-tests-of-32-bytes-or-more";

/// With a key for stream tokens, and nobody let in without a key.
pub fn closed(bed: &Bed) -> Vec<String> {
    let file = bed.data_dir("token-key");
    std::fs::write(&file, TOKEN_KEY).unwrap();
    vec!["--require-keys".to_owned(), "--token-key-file".to_owned(), file.to_str().unwrap().to_owned()]
}

pub async fn start_closed(bed: &Bed) -> System {
    start_closed_with(bed, &[]).await
}

pub async fn start_closed_with(bed: &Bed, more: &[&str]) -> System {
    let flags = [closed(bed), more.iter().map(|flag| (*flag).to_owned()).collect()].concat();
    bed.start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// `paylog keys ...` on the logs of instances that do not run: its standard output.
fn keys(bed: &Bed, words: &[&str]) -> String {
    let mut line = vec!["paylog".to_owned(), "keys".to_owned()];
    line.extend(words.iter().map(|word| (*word).to_owned()));
    // Where the services of this bed have their logs, in their own words.
    let name = if bed.is_kafka() { "serve" } else { "up" };
    let service = bed.words(name, name, &[]);
    for flag in ["--data-dir", "--partitions", "--bootstrap-servers", "--topic-prefix", "--group"] {
        if let Some(at) = service.iter().position(|word| word == flag) {
            line.extend(service[at..at + 2].iter().cloned());
        }
    }
    line.extend(["--offline", "--allow-single-replica"].map(str::to_owned));
    let output = paylog(&line);
    assert!(output.status.success(), "{line:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn create(bed: &Bed, merchant: &str) -> String {
    keys(bed, &["create", "--merchant", merchant, "--reason", "a test", "--operator", "ada"])
}

pub fn for_operators(bed: &Bed) -> String {
    keys(bed, &["create", "--for-operators", "--reason", "a test", "--operator", "ada"])
}

pub fn id_of(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

pub fn challenge(answer: &Answer) -> (u16, &str, &str) {
    (answer.status, answer.text("code"), answer.header("www-authenticate"))
}

pub async fn operator(client: &Client, path: &str, more: Value) -> Answer {
    let mut body = json!({"operator": "ada", "reason": "a test"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.post(path, &body).await
}

pub async fn token(client: &Client, wish: Value) -> String {
    let issued = client.post("/v1/stream_tokens", &wish).await;
    assert_eq!(issued.status, 201, "{issued:?}");
    issued.text("token").to_owned()
}

pub async fn a_merchant_sees_what_is_its_own_and_another_is_told_that_nothing_is_there(bed: &Bed) {
    let (acme, other) = (create(bed, "acme"), create(bed, "other"));
    let system = start_closed(bed).await;
    let nobody = &system.front.client;
    let (acme, other) = (nobody.with_key(&acme), nobody.with_key(&other));
    let asked = acme.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(asked.status, 200, "{asked:?}");
    let id = asked.text("id").to_owned();
    let same_key = other.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    assert!(same_key.status == 200 && same_key.text("id") != id, "a merchant's keys are its own");
    let version = asked.link("self").split("at_least=").nth(1).unwrap().split('.').next().unwrap().to_owned() + ".1";

    let absent = "pay_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for path in ["{}", "{}/events", "{}/events?all=true", "{}?at=2099-01-01T00:00:00Z"] {
        let path = |id: &str| format!("/v1/payments/{}", path.replace("{}", id));
        assert_eq!(acme.get(&path(&id)).await.status, 200, "{path}", path = path(&id));
        let (theirs, nowhere) = (other.get(&path(&id)).await, other.get(&path(absent)).await);
        assert_eq!((theirs.status, &theirs.body), (404, &nowhere.body), "{}", path(&id));
    }
    let known = [("if-none-match", format!("\"{version}\""))];
    let known: Vec<(&str, &str)> = known.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let theirs = other.get_with(&format!("/v1/payments/{id}"), &known).await;
    let nowhere = other.get_with(&format!("/v1/payments/{absent}"), &known).await;
    assert_eq!((theirs.status, &theirs.body), (nowhere.status, &nowhere.body), "nor by a version of it");
    for (path, list) in [("/v1/payments", "data"), ("/v1/payments?customer_id=cus_1", "data"), ("/v1/events", "data")] {
        let (mine, theirs) = (acme.get(path).await, other.get(path).await);
        assert!(mine.body[list].to_string().contains(&id), "{path}: {mine:?}");
        assert!(theirs.status == 200 && !theirs.body[list].to_string().contains(&id), "{path}: {theirs:?}");
    }
    let count = async |client: &Client, paid: &Answer| -> u64 {
        let totals = client.get(&format!("/v1/totals?at_least={}", paid.header("paylog-position"))).await;
        totals.body["data"].as_array().unwrap().iter().map(|total| total["payments"].as_u64().unwrap()).sum()
    };
    assert_eq!((count(&acme, &asked).await, count(&other, &same_key).await), (1, 1));
    let (status, stream) = other.stream(&format!("payment_id={id}"), None).await;
    assert_eq!((status, stream.problem().await["code"].as_str()), (404, Some("payment_not_found")));
    for path in ["/v1/payments", "/v1/events", "/v1/totals", "/v1/stream", "/v1/operator/keys"] {
        let refused = nobody.get(path).await;
        assert_eq!(challenge(&refused), (401, "authentication_required", "Bearer realm=\"paylog\""), "{path}");
    }
    assert_eq!(challenge(&nobody.pay("order-2", &body("cus_1", "pm_card_visa")).await).0, 401);
    let scope = "Bearer realm=\"paylog\", error=\"insufficient_scope\"";
    assert_eq!(challenge(&acme.get("/v1/operator/parked").await), (403, "insufficient_scope", scope));
    assert_eq!(nobody.get("/readyz").await.status, 200);
    system.stop().await;
}

pub async fn a_key_is_rotated_with_an_overlap_and_revoked_at_once(bed: &Bed) {
    let first = create(bed, "acme");
    let ops = for_operators(bed);
    let none = ["create", "--merchant", "acme", "--if-none", "--reason", "again", "--operator", "ada"];
    assert_eq!(keys(bed, &none), "", "there is one");
    let system = start_closed(bed).await;
    let (acme, ops) = (system.front.client.with_key(&first), system.front.client.with_key(&ops));
    let (status, mut stream) = acme.stream("customer_id=cus_1", None).await;
    assert_eq!(status, 200);
    stream.next().await.expect("the cursor");

    let path = format!("/v1/operator/keys/{}", id_of(&first));
    let rotated = operator(&ops, &format!("{path}/rotate"), json!({"overlap_seconds": 3600})).await;
    assert_eq!(rotated.status, 201, "{rotated:?}");
    let second = system.front.client.with_key(rotated.text("key"));
    assert_eq!((acme.get("/v1/payments").await.status, second.get("/v1/payments").await.status), (200, 200));
    assert_eq!(rotated.body["replaces"]["status"], "expiring");
    let listed = ops.get("/v1/operator/keys").await;
    let text = listed.body.to_string();
    assert!(listed.body["data"].as_array().unwrap().len() == 3 && text.contains(id_of(&first)), "{text}");
    assert!(!text.contains("sha256") && !text.contains(&first[21..]), "no more than who needs to know it: {text}");

    let revoked = operator(&ops, &format!("{path}/revoke"), json!({})).await;
    assert_eq!((revoked.status, revoked.text("status")), (200, "revoked"));
    let error = "Bearer realm=\"paylog\", error=\"invalid_token\"";
    assert_eq!(challenge(&acme.get("/v1/payments").await), (401, "key_revoked", error));
    ended(&mut stream).await;
    assert_eq!(second.get("/v1/payments").await.status, 200, "the other goes on");
    let again = operator(&ops, &format!("{path}/revoke"), json!({})).await;
    assert_eq!((again.status, again.text("code")), (409, "key_over"));
    let now = id_of(rotated.text("key"));
    let at_once = operator(&ops, &format!("/v1/operator/keys/{now}/rotate"), json!({"overlap_seconds": 0})).await;
    assert_eq!((at_once.status, second.get("/v1/payments").await.text("code")), (201, "key_expired"));
    let absent = operator(&ops, "/v1/operator/keys/abcdefghijklmn27/revoke", json!({})).await;
    assert_eq!((absent.status, absent.text("code")), (404, "key_not_found"));
    system.stop().await;

    // What was revoked stays so.
    let system = start_closed(bed).await;
    assert_eq!(system.front.client.with_key(&first).get("/v1/payments").await.text("code"), "key_revoked");
    let third = system.front.client.with_key(at_once.text("key"));
    assert_eq!(third.get("/v1/payments").await.status, 200);
    system.stop().await;
}

/// Ended by the server, and not broken.
pub async fn ended(stream: &mut Stream) {
    while stream.next().await.is_some() {}
}

pub async fn without_keys_this_machine_is_let_in_and_no_other_address_is_served(bed: &Bed) {
    let (command, role) = if bed.is_kafka() { ("serve", Role::Serve) } else { ("up", Role::All) };
    let open = bed.args(command, command, &["--listen", "0.0.0.0:0"]);
    let refused = Service::open(open.clone(), role).await.err().expect("it starts");
    let text = format!("{refused:#}");
    assert!(text.contains("paylog keys create") && text.contains("127.0.0.1"), "{text}");
    let words = bed.words(command, command, &["--listen", "0.0.0.0:0"]);
    assert!(refusal(&words).contains("paylog keys create"), "as the command says it");

    let system = bed.start().await;
    let client = system.front.client.clone();
    assert_eq!(client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await.status, 200);
    for relayed in [("x-forwarded-for", "10.0.0.1"), ("host", "pay.example.org")] {
        let refused = client.get_with("/v1/payments", &[relayed]).await;
        assert_eq!(refused.status, 401, "{relayed:?}");
    }
    let made = operator(&client, "/v1/operator/keys", json!({"scope": "merchant", "merchant_id": "acme"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let acme = client.with_key(made.text("key"));
    assert_eq!(acme.get_with("/v1/payments", &[("x-forwarded-for", "10.0.0.1")]).await.status, 200);
    let still = client.get("/v1/payments").await;
    match role {
        Role::All => assert_eq!(still.status, 200, "`up` is for trying out"),
        _ => assert_eq!(challenge(&still).1, "authentication_required", "there are keys now"),
    }
    system.stop().await;
    let service = Service::open(open, role).await.expect("there is a key");
    drop(service);
}

pub async fn the_commands_take_a_key_from_the_environment(bed: &Bed) {
    let acme = create(bed, "acme");
    let ops = keys(bed, &["create", "--for-operators", "--reason", "a test", "--operator", "ada"]);
    let system = start_closed(bed).await;
    let url = system.front.client.url.clone();
    let run = |key: Option<&str>, words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_paylog"));
        command.args(words).args(["--url", &url]).env_remove("PAYLOG_API_KEY");
        key.map(|key| command.env("PAYLOG_API_KEY", key));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let pay = ["pay", "--amount", "5", "--wait", "30", "--key", "order-1"];
    let (code, paid, _) = run(Some(&acme), &pay);
    assert!(code == Some(0) && paid.contains("successful"), "{paid}");
    let (code, _, said) = run(None, &pay);
    assert!(code == Some(1) && said.contains("authentication_required"), "{said}");
    let (code, token, said) = run(Some(&acme), &["token", "--customer", "cus_1", "--expires-in", "60"]);
    assert!(code == Some(0) && token.trim().lines().count() == 1 && said.contains("good until"), "{token} {said}");
    let (code, told, _) = run(Some(token.trim()), &["tail", "--customer", "cus_2"]);
    assert!(code == Some(1) && told.is_empty(), "it opens what it names: {told}");
    assert_eq!(system.front.client.with_key(token.trim()).get("/v1/payments?customer_id=cus_1").await.status, 200);
    assert_eq!(run(Some(&acme), &["token"]).0, Some(2), "for what?");
    let (code, listed, _) = run(Some(&ops), &["keys", "ls"]);
    assert!(code == Some(0) && listed.contains(id_of(&acme)) && listed.contains("merchant acme"), "{listed}");
    let signed = ["--reason", "a test", "--operator", "ada"];
    let (_, rotated, said) = run(Some(&ops), &[&["keys", "rotate", id_of(&acme)][..], &signed].concat());
    assert!(rotated.starts_with("plk_") && rotated.trim().lines().count() == 1, "{rotated} {said}");
    let (code, revoked, _) = run(Some(&ops), &[&["keys", "revoke", id_of(&acme)][..], &signed].concat());
    assert!(code == Some(0) && revoked.contains("revoked at"), "{revoked}");
    let (code, _, said) = run(Some(&acme), &pay);
    assert!(code == Some(1) && said.contains("key_revoked") && !said.contains(&acme[21..]), "{said}");
    system.stop().await;
}

/// A whole scenario of a child process whose log, metrics and answers are looked through.
pub async fn nothing_of_keys_or_tokens_is_written_anywhere(bed: &Bed) {
    let acme = create(bed, "acme");
    let ops = keys(bed, &["create", "--for-operators", "--reason", "a test", "--operator", "ada"]);
    let flags = closed(bed);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let command = if bed.is_kafka() { "serve" } else { "up" };
    let words = bed.words(command, command, &flags);
    let log = bed.data_dir("log.txt");
    let mut process = Process::start_logging(words, "trace", std::fs::File::create(&log).unwrap().into()).await;
    let nobody = process.client.clone();
    let seen = Seen::default();
    let client = nobody.with_key(&acme);
    seen.take(&client.pay("order-1", &body("cus_1", "pm_card_visa")).await);
    let token = token(&client, json!({"customer_id": "cus_1"})).await;
    let browser = nobody.with_key(&token);
    let ticket = browser.send(Method::POST, "/v1/stream_tokens/ticket", &[], None).await.text("ticket").to_owned();
    let (_, mut stream) = nobody.stream(&format!("customer_id=cus_1&ticket={ticket}"), None).await;
    stream.next().await.expect("a frame");
    let half = &acme[..40];
    for wrong in [half, &acme.to_uppercase(), &format!("{token}x"), &ticket] {
        let client = nobody.with_key(wrong);
        for path in ["/v1/payments", "/v1/operator/keys", "/v1/stream?customer_id=cus_1"] {
            seen.take(&client.get(path).await);
        }
    }
    for query in [format!("ticket={ticket}"), format!("ticket={token}&customer_id=cus_1"), format!("key={acme}")] {
        seen.take(&nobody.get(&format!("/v1/stream?{query}")).await);
    }
    let ops_client = nobody.with_key(&ops);
    seen.take(&client.post("/v1/operator/keys", &json!({"scope": acme, "operator": token, "reason": ops})).await);
    seen.take(&ops_client.post("/v1/operator/keys", &json!({"scope": acme, "operator": "a", "reason": "b"})).await);
    seen.take(&client.post("/v1/stream_tokens", &json!({"token": token})).await);
    seen.take(&ops_client.get("/v1/operator/keys").await);
    let rotated = operator(&ops_client, &format!("/v1/operator/keys/{}/rotate", id_of(&acme)), json!({})).await;
    let second = rotated.text("key").to_owned();
    seen.take(&operator(&ops_client, &format!("/v1/operator/keys/{}/revoke", id_of(&acme)), json!({})).await);
    ended(&mut stream).await;
    let metrics = reqwest::get(format!("{}/metrics", nobody.url)).await.unwrap().text().await.unwrap();
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));

    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains(id_of(&acme)), "the log tells of keys by their ids: {logged}");
    let answers = seen.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    let secret = |key: &str| key.split('_').nth(2).unwrap()[..20].to_owned();
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let claims = |token: &str| token.split('.').nth(1).unwrap()[..40].to_owned();
    let secrets = [secret(&acme), secret(&ops), secret(&second), signature(&token), signature(&ticket), claims(&token)];
    for secret in secrets.iter().map(String::as_str).chain([TOKEN_KEY]) {
        for (place, text) in [("the log", &logged), ("the metrics", &metrics), ("an answer", &answers)] {
            assert!(!text.to_lowercase().contains(&secret.to_lowercase()), "{place} has a secret in it");
        }
    }
}

/// Everything that was answered.
#[derive(Default)]
struct Seen(Mutex<String>);

impl Seen {
    fn take(&self, answer: &Answer) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen += &format!("{answer:?}\n");
    }
}

/// On Kafka alone: what one instance is told, the others know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_key_and_a_token_are_good_on_every_instance_and_revoked_on_every_one() {
    let bed = Bed::kafka().await;
    let acme = create(&bed, "acme");
    let ops = keys(&bed, &["create", "--for-operators", "--reason", "a test", "--operator", "ada"]);
    let flags = closed(&bed);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (one, two): (Running, Running) =
        (bed.run(Role::Serve, "one", &flags).await, bed.run(Role::Serve, "two", &flags).await);
    let token = token(&one.client.with_key(&acme), json!({"customer_id": "cus_1"})).await;
    let elsewhere = Arc::new(two.client.with_key(&token));
    let (status, mut stream) = elsewhere.stream("customer_id=cus_1", None).await;
    assert_eq!(status, 200);
    let path = format!("/v1/operator/keys/{}/revoke", id_of(&acme));
    assert_eq!(operator(&one.client.with_key(&ops), &path, json!({})).await.status, 200);
    ended(&mut stream).await;
    let theirs = two.client.with_key(&acme);
    until("the other has heard of it", async || theirs.get("/v1/payments").await.status == 401).await;
    assert_eq!(elsewhere.get("/v1/events?customer_id=cus_1").await.text("code"), "key_revoked");
    one.stop().await;
    two.stop().await;
}
