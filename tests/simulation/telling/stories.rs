//! What happens to payments: events in their order, some of which have no effect, put on the log by nobody who is simulated.

use std::collections::VecDeque;

use paylog::journal::{NewRecord, Partition};
use paylog::payment::event::{
    PaymentFailed, PaymentInProgress, PaymentOutcomeUnknown, PaymentRetryScheduled, PaymentSuccessful, Private,
};
use paylog::payment::{Event, EventData, EventId, MerchantId, NewPayment, PaymentId, RequestId, Timestamp};
use paylog::projection::home_of;
use paylog::schema::headers;

use super::{PAYMENTS, World};
use crate::client::{at, payment_id};
use crate::log::Life;
use crate::random::Random;

/// Whoever charges is somewhere else.
const SOMEBODY: Life = Life { process: 9, start: 0 };
const BODY: &[u8] = br#"{"amount":1999,"currency":"EUR","customer_id":"cus_1","payment_method":"pm_card_visa"}"#;

pub struct Story {
    pub id: PaymentId,
    left: VecDeque<EventData>,
}

fn in_progress() -> EventData {
    let (merchant_id, request) = (MerchantId::default(), NewPayment::parse(BODY).expect("a request"));
    let fingerprint = request.fingerprint(&merchant_id);
    EventData::PaymentInProgress(PaymentInProgress {
        merchant_id,
        customer_id: request.customer_id,
        money: request.money,
        payment_method: request.payment_method,
        gateway: "simulator".to_owned(),
        gateway_request_version: 1,
        request_id: RequestId::parse("req_1").expect("an id"),
        fingerprint,
        private: Private::plain(None, None),
    })
}

fn between(random: &mut Random, attempt: u32) -> EventData {
    let (reason, soon) = ("connection refused".to_owned(), Timestamp::MIN);
    if random.chance(500) {
        EventData::PaymentRetryScheduled(PaymentRetryScheduled { attempt, reason, not_before: soon })
    } else {
        EventData::PaymentOutcomeUnknown(PaymentOutcomeUnknown { attempt, reason, next_inquiry_at: soon })
    }
}

fn end(random: &mut Random) -> EventData {
    let (gateway, code) = ("simulator".to_owned(), "card_declined".to_owned());
    if random.chance(500) {
        let gateway_reference = "ch_1".to_owned();
        EventData::PaymentSuccessful(PaymentSuccessful { gateway, gateway_reference, attempt: 1 })
    } else {
        EventData::PaymentFailed(PaymentFailed { code, message: "declined".to_owned(), attempt: 1 })
    }
}

impl Story {
    pub fn new(random: &mut Random, order: usize) -> Self {
        let mut left = VecDeque::from([in_progress()]);
        if random.chance(200) {
            left.push_back(in_progress()); // which changes nothing
        }
        for attempt in 1..=random.between(0, 3) as u32 {
            left.push_back(between(random, attempt));
        }
        left.push_back(end(random));
        if random.chance(200) {
            left.push_back(end(random));
        }
        Self { id: payment_id(&format!("order-{order}")), left }
    }
}

/// The next thing happens to a payment, if there is one.
pub fn go_on(world: &World, which: usize) {
    let occurred_at = at(world.core().now_us);
    let event = {
        let mut people = world.people();
        let Some(data) = people.stories[which].left.pop_front() else { return };
        people.happened += 1;
        let event_id = EventId::parse(&format!("019ab5a8-0000-7000-8000-{:012x}", people.happened)).expect("an id");
        Event { event_id, payment_id: people.stories[which].id, occurred_at, data }
    };
    let Ok(value) = world.codec.encode(&event) else { return };
    let mut core = world.core();
    let partition = home_of(event.payment_id, core.plan.partitions);
    let (key, headers) = (event.payment_id.to_string().into_bytes(), headers(&world.codec, &event, None));
    let now = core.now_us;
    core.trace.line(now, format_args!("{} of {}", event.data.name(), event.payment_id));
    core.append(SOMEBODY, PAYMENTS, NewRecord { partition, key, headers, value });
}

/// By partition: where the log of payments ends.
pub fn ends(world: &World) -> Vec<u64> {
    let core = world.core();
    let topic = core.topic_of(PAYMENTS);
    topic.partitions().map(|partition: Partition| topic.end(partition).0).collect()
}
