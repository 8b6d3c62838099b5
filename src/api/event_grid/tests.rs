use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::stream;
use tokio_util::sync::CancellationToken;
use warp::http::header::{CONTENT_TYPE, HOST};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::Response;

use super::{Counts, How, answer, deliver, may_deliver};
use crate::access::Access;
use crate::api::{Api, ApiConfig};
use crate::clock::Clocks;
use crate::http::Problem;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::over::Over;
use crate::journal::{Appending, Journal, JournalError, Lanes, NewRecord, Partition, Reader};
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

/// A log that says of no event, or of some, that it has it.
struct Silent {
    log: Arc<EmbeddedJournal>,
    /// How many it answers for.
    answers: AtomicUsize,
}

impl Over for Silent {
    fn log(&self) -> &dyn Reader {
        self.log.as_ref()
    }
}

impl Journal for Silent {
    fn append(&self, record: NewRecord) -> Appending {
        let take = |left: usize| left.checked_sub(1);
        match self.answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => Box::pin(std::future::ready(at_once(self.log.append(record)))),
            Err(_) => Box::pin(std::future::pending()),
        }
    }

    fn lanes(&self) -> Result<Box<dyn Lanes>, JournalError> {
        self.log.lanes()
    }
}

/// The log answers on threads of its own.
fn at_once<T>(mut answer: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
            return answer;
        }
        std::thread::yield_now();
    }
}

struct Bed {
    _directory: tempfile::TempDir,
    log: Arc<EmbeddedJournal>,
    folder: Folder,
    api: Arc<Api>,
    stop: CancellationToken,
}

impl Bed {
    /// Its log answers for so many appends. Nobody folds it yet.
    fn answering_for(answers: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = EmbeddedJournal::open(&directory.path().join("log"), 1).unwrap();
        let (store, codec) = (Store::open(&directory.path().join("rows")).unwrap(), Arc::new(Codec::new().unwrap()));
        let (folder, view) = Folder::open(store, log.as_ref(), Arc::clone(&codec), Clocks::system()).unwrap();
        let config = ApiConfig { confirm_wait: Duration::ZERO, ..ApiConfig::new("simulated".to_owned()) };
        let (access, stop) = (Arc::new(Access::of_a_test()), CancellationToken::new());
        let journal = Arc::new(Silent { log: Arc::clone(&log), answers: AtomicUsize::new(answers) });
        let api = Api { journal, view, totals: None, codec, access, config, shutdown: stop.clone() };
        Self { _directory: directory, log, folder, api: Arc::new(api), stop }
    }

    /// A batch of events with these ids and amounts.
    fn deliver(&self, events: &[(&str, u32)]) -> tokio::task::JoinHandle<Result<Response, Problem>> {
        let one = |(id, amount): &(&str, u32)| {
            format!(
                r#"{{"specversion":"1.0","id":"{id}","source":"/shop","type":"t","data":{{"amount":{amount},"currency":"EUR","customer_id":"cus_1","payment_method":"pm_1"}}}}"#
            )
        };
        let body = format!("[{}]", events.iter().map(one).collect::<Vec<_>>().join(","));
        let api = Arc::clone(&self.api);
        tokio::spawn(async move {
            let content_type = HeaderValue::from_static("application/cloudevents-batch+json");
            let host = HeaderValue::from_static("localhost");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type), (HOST, host)]);
            deliver(&api, &headers, stream::iter([Ok(body.as_bytes())])).await
        })
    }
}

/// However short a POST is waited for: who is answered 200 does not come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_key_belongs_to_another_payment_is_refused_though_the_fold_comes_late() {
    let bed = Bed::answering_for(usize::MAX);
    let both = bed.deliver(&[("1", 1999), ("1", 2000)]);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while bed.log.ends(Partition(0)).unwrap().committed.0 < 2 {
        assert!(tokio::time::Instant::now() < deadline, "they are not on the log");
        tokio::task::yield_now().await;
    }
    let Bed { log, folder, stop, _directory, .. } = bed;
    let _ends = stop.clone().drop_guard();
    std::thread::spawn(move || folder.run(log.as_ref(), &stop).unwrap());
    let refused = tokio::time::timeout(PATIENCE, both).await.unwrap().unwrap().unwrap_err();
    assert_eq!((refused.status(), refused.code()), (StatusCode::BAD_REQUEST, "events_refused"));
    assert!(refused.detail().starts_with("1 of 2 events") && refused.detail().contains("idempotency_key_reused"));
}

/// Time passes by itself here, whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn what_the_log_has_is_accepted_and_what_it_does_not_say_it_has_comes_again() {
    let began = tokio::time::Instant::now();
    let bed = Bed::answering_for(2);
    let accepted = bed.deliver(&[("1", 1999), ("2", 2000)]).await.unwrap().unwrap();
    assert_eq!(accepted.status(), StatusCode::OK, "durable, and nobody folds it here");
    assert_eq!((bed.log.ends(Partition(0)).unwrap().committed.0, began.elapsed()), (2, super::PATIENCE));
    let bed = Bed::answering_for(1);
    let began = tokio::time::Instant::now();
    let again = bed.deliver(&[("1", 1999), ("2", 2000)]).await.unwrap().unwrap_err();
    assert_eq!((again.status(), again.code()), (StatusCode::SERVICE_UNAVAILABLE, "append_unknown"));
    assert_eq!(began.elapsed(), super::APPEND_MAX, "before Event Grid gives up, after 30 s");
}
