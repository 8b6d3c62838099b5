use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use tokio_util::sync::CancellationToken;
use warp::http::header::{CONTENT_TYPE, HOST};
use warp::http::{HeaderMap, HeaderValue, StatusCode};

use super::{Counts, How, answer, deliver, may_deliver};
use crate::access::Access;
use crate::api::{Api, ApiConfig};
use crate::clock::Clocks;
use crate::http::Problem;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::{Partition, Reader};
use crate::payment::samples::payment_id;
use crate::projection::Folder;
use crate::schema::Codec;
use crate::store::Store;

/// The bound on the wait for a fact.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn only_who_is_named_is_allowed_to_deliver() {
    let origins = ["eventgrid.azure.net".to_owned()];
    let ask = |name: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        name.map(|name| headers.insert("webhook-request-origin", HeaderValue::from_static(name)));
        may_deliver(&origins, &headers)
    };
    for (name, status, allowed) in [
        (Some("eventgrid.azure.net"), 200, true),
        (Some("EventGrid.azure.net"), 200, true),
        (Some("evil.example"), 403, false),
        (Some("*"), 403, false),
        (None, 204, false),
    ] {
        let answer = ask(name);
        let headers = answer.headers();
        assert_eq!(answer.status().as_u16(), status, "{name:?}");
        assert_eq!(headers.contains_key("webhook-allowed-origin"), allowed, "{name:?}");
        assert_eq!(headers.contains_key("webhook-allowed-rate"), allowed, "{name:?}");
        assert_eq!(headers["allow"], "OPTIONS, POST");
    }
    assert_eq!(ask(Some("EventGrid.azure.net")).headers()["webhook-allowed-origin"], "EventGrid.azure.net");
}

#[test]
fn what_may_yet_be_a_payment_comes_again_before_what_can_never_be_one_is_given_up() {
    let problem = |status| Problem::new(status, "code", "why");
    let (never, later) = (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::SERVICE_UNAVAILABLE);
    let made = |problems: &[Option<StatusCode>]| {
        let paid = || Ok((payment_id("a"), How::New));
        let one = |status: &Option<StatusCode>| status.map_or_else(paid, |status| Err(problem(status)));
        answer(problems.iter().map(one).collect()).1
    };
    assert_eq!(made(&[None, None]).unwrap().status(), StatusCode::OK);
    assert_eq!(made(&[]).unwrap().status(), StatusCode::OK);
    let refused = made(&[None, Some(never)]).unwrap_err();
    assert_eq!((refused.status(), refused.code()), (StatusCode::BAD_REQUEST, "events_refused"));
    assert!(refused.detail().starts_with("1 of 2 events") && refused.detail().contains("event 1: code: why"));
    assert_eq!(made(&[Some(never), Some(later), None]).unwrap_err().status(), later);
}

/// What comes again was accepted once, and what is refused is so when it does not come again.
#[test]
fn events_are_counted_as_what_they_came_to() {
    let refused = |status| Err(Problem::new(status, "code", "why"));
    let made = |more: Option<StatusCode>| {
        let each = [How::New, How::Repeated, How::Repeated, How::Unconfirmed];
        let paid = each.into_iter().map(|how| Ok((payment_id("a"), how)));
        let never = std::iter::once(refused(StatusCode::UNPROCESSABLE_ENTITY));
        answer(paid.chain(never).chain(more.map(refused)).collect()).0
    };
    let expected = Counts { accepted: 1, repeated: 2, unconfirmed: 1, refused: 1 };
    assert_eq!(made(None), expected);
    assert_eq!(made(Some(StatusCode::SERVICE_UNAVAILABLE)), Counts { refused: 0, ..expected });
}

/// However short a POST is waited for: who is answered 200 does not come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_key_belongs_to_another_payment_is_refused_though_the_fold_comes_late() {
    let directory = tempfile::tempdir().unwrap();
    let journal = EmbeddedJournal::open(&directory.path().join("log"), 1).unwrap();
    let (store, codec) = (Store::open(&directory.path().join("rows")).unwrap(), Arc::new(Codec::new().unwrap()));
    let (folder, view) = Folder::open(store, journal.as_ref(), Arc::clone(&codec), Clocks::system()).unwrap();
    let config = ApiConfig { confirm_wait: Duration::ZERO, ..ApiConfig::new("simulated".to_owned()) };
    let (access, stop) = (Arc::new(Access::of_a_test()), CancellationToken::new());
    let _ends = stop.clone().drop_guard();
    let api =
        Api { journal: Arc::clone(&journal) as _, view, totals: None, codec, access, config, shutdown: stop.clone() };
    let api = Arc::new(api);
    let events = |amounts: &[u32]| {
        let one = |amount: &u32| {
            format!(
                r#"{{"specversion":"1.0","id":"1","source":"/shop","type":"t","data":{{"amount":{amount},"currency":"EUR","customer_id":"cus_1","payment_method":"pm_1"}}}}"#
            )
        };
        format!("[{}]", amounts.iter().map(one).collect::<Vec<_>>().join(","))
    };
    let begin = |amounts: &[u32]| {
        let (api, body) = (Arc::clone(&api), events(amounts));
        tokio::spawn(async move {
            let content_type = HeaderValue::from_static("application/cloudevents-batch+json");
            let host = HeaderValue::from_static("localhost");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type), (HOST, host)]);
            deliver(&api, &headers, stream::iter([Ok(body.as_bytes())])).await
        })
    };
    let both = begin(&[1999, 2000]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while journal.ends(Partition(0)).unwrap().committed.0 < 2 {
        assert!(tokio::time::Instant::now() < deadline, "they are not on the log");
        tokio::task::yield_now().await;
    }
    std::thread::spawn(move || folder.run(journal.as_ref(), &stop).unwrap());
    let refused = tokio::time::timeout(PATIENCE, both).await.unwrap().unwrap().unwrap_err();
    assert_eq!((refused.status(), refused.code()), (StatusCode::BAD_REQUEST, "events_refused"));
    assert!(refused.detail().starts_with("1 of 2 events") && refused.detail().contains("idempotency_key_reused"));
}
