//! The face of the simulator: the part of Stripe's API that paylog uses, and `GET /ledger`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use warp::http::{HeaderMap, HeaderValue, StatusCode};
use warp::reply::{Reply, Response};

use super::answer::{Answer, Manner};
use super::book::LedgerLine;
use super::ledger::Ledger;
use super::request::Request;
use crate::clock::Clock;
use crate::http::{Query, query, read_body};
use crate::payment::Timestamp;

const BODY_MAX: usize = 64 * 1024;
/// What never answers gives up its connection after this.
const SILENCE_MAX: Duration = Duration::from_secs(10 * 60);
const PAGE_MAX: usize = 100;
const PAGE: usize = 10;
/// Lines of the ledger that are read in one turn.
const LEDGER_PAGE: usize = 1000;
const HUGE_BYTES: usize = 10 * 1024 * 1024;
const HUGE_PIECE: usize = 64 * 1024;
/// Where no client may let itself be sent: the address at which clouds hand out credentials.
const FORBIDDEN: &str = "http://169.254.169.254/latest/meta-data/";

/// What the handlers share.
pub struct Simulator {
    pub ledger: Ledger,
    pub clock: Arc<dyn Clock>,
    pub stop: CancellationToken,
}

pub fn routes(simulator: &Arc<Simulator>) -> BoxedFilter<(Response,)> {
    let with = {
        let simulator = Arc::clone(simulator);
        warp::any().map(move || Arc::clone(&simulator))
    };
    let intents = warp::path!("v1" / "payment_intents");
    let headers = warp::header::headers_cloned;
    let charge = intents.and(warp::post()).and(with.clone()).and(headers()).and(warp::body::stream()).then(
        async |simulator: Arc<Simulator>, headers: HeaderMap, body| match read_body(body, BODY_MAX).await {
            Ok(body) => simulator.charge(&headers, body).await,
            Err(problem) => problem.into_response(),
        },
    );
    let list = intents.and(warp::get()).and(with.clone()).and(headers()).and(query()).then(
        async |simulator: Arc<Simulator>, headers: HeaderMap, query| {
            simulator.ask(&headers, simulator.list(&query)).await
        },
    );
    let search = warp::path!("v1" / "payment_intents" / "search").and(warp::get()).and(with.clone()).and(headers());
    let search = search.and(query()).then(async |simulator: Arc<Simulator>, headers: HeaderMap, query| {
        simulator.ask(&headers, simulator.search(&query)).await
    });
    let one = warp::path!("v1" / "payment_intents" / String).and(warp::get()).and(with.clone()).and(headers()).then(
        async |id, simulator: Arc<Simulator>, headers: HeaderMap| simulator.ask(&headers, simulator.one(id)).await,
    );
    let ledger = warp::path!("ledger").and(warp::get()).and(with).and(query());
    let ledger = ledger.then(async |simulator: Arc<Simulator>, query| simulator.lines(&query));
    let live = warp::path!("livez").and(warp::get()).map(|| "ok\n".into_response());
    let api = charge.or(list).unify().or(search).unify().or(one).unify();
    api.or(ledger).unify().or(live).unify().boxed()
}

impl Simulator {
    async fn charge(&self, headers: &HeaderMap, body: Bytes) -> Response {
        if !authorized(headers) {
            return whole(&Answer::unauthorized());
        }
        let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned) else {
            let message = "This simulator charges nothing without a key.";
            return whole(&Answer::invalid("idempotency_key_missing", "Idempotency-Key", message));
        };
        let now = self.clock.now();
        let request = Request::parse(&key, &body);
        let answer = self.ledger.turn(move |book, changes| book.charge(&key, &body, request, now, changes)).await;
        self.give(answer.unwrap_or_else(Answer::unavailable)).await
    }

    async fn ask(&self, headers: &HeaderMap, question: impl Future<Output = Option<Answer>>) -> Response {
        match authorized(headers) {
            true => whole(&question.await.unwrap_or_else(Answer::unavailable)),
            false => whole(&Answer::unauthorized()),
        }
    }

    /// In the manner that the fault wants.
    async fn give(&self, answer: Answer) -> Response {
        match answer.manner {
            Manner::Whole => whole(&answer),
            Manner::After(delay) => {
                self.wait(delay).await;
                whole(&answer)
            }
            Manner::Never => {
                self.wait(SILENCE_MAX).await;
                broken(&answer)
            }
            Manner::Broken => broken(&answer),
            Manner::Truncated => {
                let text = answer.body.to_string();
                with_body(&answer, text[..text.len() / 2].to_owned().into_bytes())
            }
            Manner::WrongJson => with_body(&answer, br#"{"object": "balance", "available": []}"#.to_vec()),
            Manner::NotUtf8 => with_body(&answer, b"{\"id\": \"pi_\xff\xfe\", \"status\": \"succeeded\"}".to_vec()),
            Manner::Huge => huge(),
            Manner::Redirect => {
                let mut response = with_body(&answer, Vec::new());
                response.headers_mut().insert(LOCATION, HeaderValue::from_static(FORBIDDEN));
                response
            }
        }
    }

    async fn wait(&self, delay: Duration) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn one(&self, id: String) -> Option<Answer> {
        let now = self.clock.now();
        let look = move |book: &super::book::Book| match book.intent(&id) {
            Some(intent) => Answer::new(200, intent.body(intent.status_at(now))),
            None => Answer::missing(&id),
        };
        self.ledger.turn(move |book, _| look(book)).await
    }

    /// Newest first, by pages.
    async fn list(&self, query: &Query) -> Option<Answer> {
        let now = self.clock.now();
        let number = |name| query.get(name).map(str::parse::<i64>).transpose().map_err(|_| invalid(name));
        if query.only(&["created[gte]", "limit", "starting_after"]).is_err() {
            return Some(invalid("list"));
        }
        let (from, limit) = match (number("created[gte]"), number("limit")) {
            (Ok(from), Ok(limit)) => (from.unwrap_or(0), limit.unwrap_or(PAGE as i64)),
            (Err(answer), _) | (_, Err(answer)) => return Some(answer),
        };
        let Some(limit) = usize::try_from(limit).ok().filter(|limit| (1..=PAGE_MAX).contains(limit)) else {
            return Some(invalid("limit"));
        };
        let from = Timestamp::from_micros(from.saturating_mul(1_000_000)).unwrap_or(Timestamp::MIN);
        let after = query.get("starting_after").map(str::to_owned);
        let look = move |book: &super::book::Book| {
            let before = match after.as_deref().map(|id| book.intent(id).ok_or_else(|| Answer::missing(id))) {
                Some(Err(missing)) => return missing,
                Some(Ok(intent)) => Some(intent),
                None => None,
            };
            let found: Vec<_> = book.newest_first(from, before, now).take(limit + 1).collect();
            let data: Vec<Value> = found.iter().take(limit).map(|i| i.body(i.status_at(now))).collect();
            let has_more = found.len() > limit;
            Answer::new(
                200,
                json!({"object": "list", "url": "/v1/payment_intents", "has_more": has_more, "data": data}),
            )
        };
        self.ledger.turn(move |book, _| look(book)).await
    }

    /// `query=metadata['payment_id']:'...'`, and nothing else.
    async fn search(&self, query: &Query) -> Option<Answer> {
        let now = self.clock.now();
        let payment = query
            .get("query")
            .and_then(|text| text.strip_prefix("metadata['payment_id']:'")?.strip_suffix('\'').map(str::to_owned));
        let (Some(payment), Ok(())) = (payment, query.only(&["query", "limit"])) else {
            return Some(invalid("query"));
        };
        let look = move |book: &super::book::Book| {
            let data: Vec<Value> =
                book.of_payment(&payment, now).take(PAGE_MAX).map(|i| i.body(i.status_at(now))).collect();
            let url = "/v1/payment_intents/search";
            Answer::new(200, json!({"object": "search_result", "url": url, "has_more": false, "data": data}))
        };
        self.ledger.turn(move |book, _| look(book)).await
    }

    /// The ledger, as an array: all of it, or a page.
    fn lines(self: Arc<Self>, query: &Query) -> Response {
        let limit = match query.get("limit").map(str::parse::<usize>) {
            None => usize::MAX,
            Some(Ok(limit)) => limit,
            Some(Err(_)) => return whole(&invalid("limit")),
        };
        if query.only(&["after", "limit"]).is_err() {
            return whole(&invalid("ledger"));
        }
        let (send, mut pieces) = mpsc::channel(2);
        let after = query.get("after").map(str::to_owned);
        tokio::spawn(async move { self.write_lines(after, limit, &send).await });
        let mut response = warp::reply::stream(stream::poll_fn(move |cx| pieces.poll_recv(cx))).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// A reader that has gone away, or a ledger that has, ends it; the array then has no end either.
    async fn write_lines(
        &self,
        mut after: Option<String>,
        mut limit: usize,
        pieces: &mpsc::Sender<Result<Bytes, std::io::Error>>,
    ) -> Option<()> {
        let mut separator = "[";
        loop {
            let (now, from, count) = (self.clock.now(), after.clone(), limit.min(LEDGER_PAGE));
            let page = self.ledger.turn(move |book, _| {
                let accounts = book.accounts_after(from.as_deref()).take(count);
                let line = |(key, account)| json!(LedgerLine::new(book, key, account, now)).to_string();
                accounts.map(|(key, account)| (key.clone(), line((key, account)))).collect::<Vec<_>>()
            });
            let page = page.await?;
            let mut piece = String::new();
            for (_, line) in &page {
                piece += separator;
                piece += line;
                separator = ",\n";
            }
            limit -= page.len();
            let last = page.len() < LEDGER_PAGE || limit == 0;
            if last {
                piece += if separator == "[" { "[]\n" } else { "]\n" };
            }
            pieces.send(Ok(piece.into())).await.ok()?;
            after = page.into_iter().next_back().map(|(key, _)| key);
            if last {
                return Some(());
            }
        }
    }
}

fn authorized(headers: &HeaderMap) -> bool {
    let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .is_some_and(|key| key.starts_with("sk_") || key.starts_with("rk_"))
}

fn invalid(parameter: &str) -> Answer {
    Answer::invalid("parameter_invalid", parameter, "A parameter is unknown, comes twice or cannot be read.")
}

fn whole(answer: &Answer) -> Response {
    with_body(answer, answer.body.to_string().into_bytes())
}

fn with_body(answer: &Answer, body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = answer.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    if answer.replayed {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// Says how long it is, sends half, and breaks off.
fn broken(answer: &Answer) -> Response {
    let text = answer.body.to_string();
    let half = Ok(Bytes::from(text[..text.len() / 2].to_owned()));
    let end = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let mut response = warp::reply::stream(stream::iter([half, end])).into_response();
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    response
}

fn huge() -> Response {
    let piece = || Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; HUGE_PIECE]));
    warp::reply::stream(stream::iter((0..HUGE_BYTES / HUGE_PIECE).map(move |_| piece()))).into_response()
}
