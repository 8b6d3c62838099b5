//! Merchants' backends: they ask for payments, repeat themselves, change their minds under the same key, give up waiting,
//! and read. What they were told is kept for the checker.

use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Full};
use paylog::checker::{Answer, Body, Kind, Operation, Outcome, Place};
use paylog::payment::{IdempotencyKey, MerchantId, PaymentId, Timestamp};
use warp::http::{Request, StatusCode};

use crate::plan::{ORIGIN_US, Plan, SECOND_US};
use crate::process::Service;
use crate::random::Random;
use crate::world::World;

/// They are on the machine of who answers, and so need no key.
const HOST: &str = "127.0.0.1";
/// A client waits this long for an answer.
const PATIENCE_US: u64 = 40 * SECOND_US;

pub struct Clients {
    /// What is to be paid, each with a key of its own.
    pub orders: Vec<Order>,
    open: Vec<Call>,
    pub done: Vec<Operation>,
}

pub struct Order {
    pub key: String,
    body: Body,
    asked: bool,
    /// The last position that an answer named, to be read from.
    known: Option<String>,
    /// Somebody was told for good what became of it.
    pub answered: bool,
}

/// An operation under way.
struct Call {
    operation: Operation,
    order: usize,
    process: usize,
    start: u32,
    reply: Arc<Mutex<Option<Reply>>>,
}

#[derive(Clone)]
struct Reply {
    status: StatusCode,
    position: Option<String>,
    replayed: bool,
    body: serde_json::Value,
}

pub fn at(us: u64) -> Timestamp {
    Timestamp::from_micros(ORIGIN_US + us as i64).unwrap_or(Timestamp::MIN)
}

impl Clients {
    pub fn new(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed ^ 0xc11e);
        let order = |n: usize| {
            let methods = ["pm_card_visa", "pm_card_visa", "pm_card_visa_chargeDeclined"];
            let body = Body {
                amount: 1000 + n as i64,
                currency: "EUR".to_owned(),
                customer_id: format!("cus_{}", random.below(2)),
                payment_method: (*random.pick(&methods)).to_owned(),
                description: None,
                metadata: None,
            };
            Order { key: format!("order-{n}"), body, asked: false, known: None, answered: false }
        };
        Self { orders: (0..plan.payments).map(order).collect(), open: Vec::new(), done: Vec::new() }
    }

    pub fn are_waiting(&self) -> bool {
        !self.open.is_empty()
    }
}

pub fn payment_id(key: &str) -> PaymentId {
    let key = IdempotencyKey::parse(key).expect("our keys are keys");
    PaymentId::derive(&MerchantId::default(), &key)
}

/// One client does one thing, at any process that is up.
pub fn act(world: &Arc<World>, except: Option<usize>) {
    let (process, choice, order) = {
        let mut core = world.core();
        let (count, orders) = (world.count(), core.plan.payments);
        (core.random.below(count), core.random.below(10), core.random.below(orders))
    };
    if Some(process) == except || !world.is_here(process) {
        return;
    }
    let next = world.clients().orders.iter().position(|order| !order.asked);
    match (choice, next) {
        (0..=5, Some(next)) => pay(world, process, next),
        (0..=7, _) if world.clients().orders[order].asked => pay(world, process, order),
        (8.., _) if world.clients().orders[order].known.is_some() => get(world, process, order),
        _ => {}
    }
}

pub fn pay(world: &Arc<World>, process: usize, order: usize) {
    let other = {
        let mut core = world.core();
        let conflicting_body = core.plan.rates.conflicting_body;
        core.happens(conflicting_body)
    };
    let (key, mut body) = {
        let mut clients = world.clients();
        let order = &mut clients.orders[order];
        order.asked = true;
        (order.key.clone(), order.body.clone())
    };
    if other {
        world.core().trace.fault("a key is used again for something else");
        body.amount += 5_000;
    }
    let text = serde_json::json!({
        "amount": body.amount, "currency": body.currency, "customer_id": body.customer_id,
        "payment_method": body.payment_method,
    });
    let request = Request::post("/v1/payments")
        .header("idempotency-key", &key)
        .header("content-type", "application/json")
        .header("host", HOST);
    let request = request.body(Full::from(text.to_string())).expect("a request that we made");
    let operation = Operation { key: Some(key), body: Some(body), ..operation(world, process, Kind::Pay) };
    call(world, process, order, operation, request);
}

pub fn get(world: &Arc<World>, process: usize, order: usize) {
    let (key, known) = {
        let clients = world.clients();
        let order = &clients.orders[order];
        (order.key.clone(), order.known.clone())
    };
    let id = payment_id(&key).to_string();
    let least = known.as_ref().map(|position| format!("?at_least={position}")).unwrap_or_default();
    let request = Request::get(format!("/v1/payments/{id}{least}")).header("host", HOST).body(Full::default());
    let at_least = known.as_deref().and_then(place);
    let operation = Operation { payment_id: Some(id), at_least, ..operation(world, process, Kind::Get) };
    call(world, process, order, operation, request.expect("a request that we made"));
}

fn operation(world: &World, process: usize, kind: Kind) -> Operation {
    let invoked_at = at(world.core().now_us);
    let outcome = Outcome::Indeterminate { reason: "not answered".to_owned() };
    Operation {
        client: "client".to_owned(),
        instance: process.to_string(),
        kind,
        merchant: MerchantId::default().as_str().to_owned(),
        key: None,
        body: None,
        payment_id: None,
        at_least: None,
        invoked_at,
        completed_at: invoked_at,
        outcome,
    }
}

fn call(world: &Arc<World>, process: usize, order: usize, operation: Operation, request: Request<Full<bytes::Bytes>>) {
    let reply = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&reply);
    let start = world.with(process, |here| {
        let answer = answer(here.service.clone(), request, slot);
        paylog::executor::Executor::spawn(here.tasks.as_ref(), Box::pin(answer));
        here.life.start
    });
    let Some(start) = start else { return };
    {
        let mut core = world.core();
        let (now, kind) = (core.now_us, operation.kind);
        core.trace.line(now, format_args!("client: {kind:?} of order {order} at {process}"));
    }
    world.clients().open.push(Call { operation, order, process, start, reply });
}

async fn answer(service: Service, request: Request<Full<bytes::Bytes>>, slot: Arc<Mutex<Option<Reply>>>) {
    let response = service(request).await;
    let (parts, body) = response.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (position, replayed) = (header("paylog-position"), header("idempotent-replayed").is_some());
    let Ok(bytes) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return };
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    let reply = Reply { status: parts.status, position, replayed, body };
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
}

/// Clients take the answers that have come, and give up on others.
pub fn hear(world: &World) {
    let mut clients = world.clients();
    for call in std::mem::take(&mut clients.open) {
        let reply = call.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (now, gone) = {
            let core = world.core();
            let machine = &core.machines[call.process];
            (core.now_us, machine.dead || machine.start != call.start)
        };
        let mut operation = call.operation;
        operation.completed_at = at(now);
        match reply {
            Some(reply) => operation.outcome = take(&mut clients.orders[call.order], operation.kind, reply),
            None if gone => operation.outcome = Outcome::Indeterminate { reason: "connection reset".to_owned() },
            None if at(now).since(operation.invoked_at).as_micros() > u128::from(PATIENCE_US) => {}
            None => {
                clients.open.push(Call { operation, ..call });
                continue;
            }
        }
        world.core().trace.line(now, format_args!("client: order {}: {}", call.order, shown(&operation.outcome)));
        clients.done.push(operation);
    }
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok(answer) => format!("{} version {:?} {:?}", answer.status, answer.version, answer.payment_status),
        Outcome::Fail { status, code } => format!("{status} {code}"),
        Outcome::Indeterminate { reason } => reason.clone(),
    }
}

fn take(order: &mut Order, kind: Kind, reply: Reply) -> Outcome {
    let text = |name: &str| reply.body.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    let status = reply.status.as_u16();
    if !reply.status.is_success() {
        let code = text("code").unwrap_or_default();
        order.answered |= code == "idempotency_key_reused";
        // The API's own word for "perhaps": everything else is a no.
        let perhaps = reply.status.is_server_error() && code != "not_appended" && code != "halted";
        return if perhaps { Outcome::Indeterminate { reason: code } } else { Outcome::Fail { status, code } };
    }
    let confirmed = reply.body.get("confirmed").and_then(serde_json::Value::as_bool).unwrap_or(true);
    let answer = Answer {
        status,
        payment_id: text("id").unwrap_or_default(),
        confirmed,
        replayed: reply.replayed,
        request_id: text("request_id"),
        appended_at: reply.position.as_deref().filter(|_| kind == Kind::Pay).and_then(place),
        version: reply.body.get("version").and_then(serde_json::Value::as_u64),
        payment_status: text("status"),
        events: Vec::new(),
    };
    order.answered |= confirmed && kind == Kind::Pay;
    order.known = reply.position.or(order.known.take());
    Outcome::Ok(Box::new(answer))
}

/// `<log8>.<partition>.<offset>`; a cursor over all partitions is none.
fn place(text: &str) -> Option<Place> {
    let mut parts = text.split('.').skip(1);
    let (partition, offset) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some(Place { partition, offset })
}
