//! `process` and `notify` describe the routes that they answer, and no others.

use paylog::service::Role;
use paylog::service::described::{openapi, openapi_of};
use reqwest::Method;
use serde_json::Value;

use crate::cluster::{Bed, Running};
use crate::webhooks::flags;

async fn asked(of: &Running, method: &str, path: &str) -> (u16, Value) {
    let method: Method = method.to_uppercase().parse().unwrap();
    let path = path.replace(['{', '}'], "").replace("schema_id", "1");
    let answer = reqwest::Client::new().request(method, format!("{}{path}", of.client.url)).send().await.unwrap();
    (answer.status().as_u16(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

fn paths(document: &Value) -> Vec<(String, Vec<String>)> {
    let methods = |item: &Value| item.as_object().unwrap().keys().cloned().collect();
    document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn who_serves_only_its_keepers_describes_what_it_answers_and_nothing_else() {
    let bed = Bed::kafka().await;
    for (role, name) in [(Role::Process, "process"), (Role::Notify, "notify")] {
        let flags = flags(&bed);
        let running = bed.run(role, name, &flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let (status, document) = asked(&running, "get", "/openapi.json").await;
        assert_eq!((status, &document), (200, &openapi_of(role)), "{name}");
        let described = paths(&document);
        assert!(described.iter().any(|(path, _)| path == "/livez") && described.len() < 10, "{described:?}");
        for (path, methods) in &described {
            for method in methods {
                let (status, body) = asked(&running, method, path).await;
                assert_ne!((status, &body["code"]), (404, &"not_found".into()), "{name} {method} {path}");
            }
            assert_eq!(asked(&running, "patch", path).await.0, 405, "{name} {path}");
        }
        for (path, methods) in paths(&openapi()) {
            if described.iter().all(|(known, _)| *known != path) {
                let (status, body) = asked(&running, &methods[0], &path).await;
                assert_eq!((status, &body["code"]), (404, &"not_found".into()), "{name} {path}");
            }
        }
        running.stop().await;
    }
}

/// Each part is described as in the whole, and every reference leads to something.
#[test]
fn a_part_says_what_the_whole_says() {
    let whole = openapi();
    for role in [Role::Process, Role::Notify] {
        let part = openapi_of(role);
        for (path, item) in part["paths"].as_object().unwrap() {
            assert_eq!(item, &whole["paths"][path], "{path}");
        }
        let text = part.to_string();
        for reference in text.split(r##""$ref":"#"##).skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(part.pointer(pointer).is_some(), "{pointer}");
        }
    }
    assert_eq!(openapi_of(Role::Serve), whole);
}
