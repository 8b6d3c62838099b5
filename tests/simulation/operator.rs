//! A person who looks at what is parked, and at the provider's books, and decides; honestly, but by what one process shows.

use std::sync::Arc;

use paylog::executor::Executor;
use paylog::journal::{Journal, NewRecord};
use paylog::payment::event::{Decision, PaymentResumed};
use paylog::payment::{Event, EventData, PaymentId, Phase};
use paylog::projection::home_of;
use paylog::schema::headers;

use crate::client::{at, payment_id};
use crate::core::Core;
use crate::door::Door;
use crate::log::Log;
use crate::provider::What;
use crate::world::World;

/// Decides about one parked payment, if the process shows one.
pub fn act(world: &Arc<World>, process: usize) {
    let ids: Vec<PaymentId> = world.clients().orders.iter().map(|order| payment_id(&order.key)).collect();
    let parked = world.with(process, |here| {
        let rows = ids.iter().filter_map(|id| here.view.payment(*id).ok().flatten());
        let parked = rows.map(|row| row.payment).find(|payment| matches!(payment.phase, Phase::Parked { .. }));
        parked.map(|payment| (here.life, payment.id, payment.version))
    });
    let Some((life, id, at_version)) = parked.flatten() else { return };
    let (decision, now, partitions) = {
        let mut core = world.core();
        let decision = core.decide_on(id);
        core.operated.insert(id);
        let now = core.now_us;
        core.trace.line(now, format_args!("operator: {decision:?} for {id} at version {at_version}"));
        core.trace.fault("an operator decides");
        (decision, now, core.plan.partitions)
    };
    let (operator, reason) = ("ada".to_owned(), "seen in the provider's books".to_owned());
    let resumed = EventData::PaymentResumed(PaymentResumed { operator, reason, at_version, decision });
    let event = Event::new(id, at(now), resumed);
    let Ok(value) = world.codec.encode(&event) else { return };
    let partition = home_of(id, partitions);
    let (key, headers) = (id.to_string().into_bytes(), headers(&world.codec, &event, None));
    let door = Door { world: Arc::clone(world) as _, life, log: Log::Own, is_scan: false };
    let append = door.append(NewRecord { partition, key, headers, value });
    world.with(process, |here| {
        // Whether it was acknowledged is the operator's to see in what the payment becomes.
        here.tasks.spawn(Box::pin(async move { drop(append.await) }));
    });
}

impl Core {
    fn decide_on(&mut self, id: PaymentId) -> Decision {
        let made = self.provider.made.get(&id).map(Vec::as_slice).unwrap_or_default();
        let charged = made.iter().find_map(|made| match &made.what {
            What::Charged(receipt) => Some(receipt.reference.clone()),
            What::Began | What::Declined { .. } => None,
        });
        let (open, choice) = (self.provider.is_open(id), self.random.below(3));
        match (charged, choice) {
            (Some(reference), 1..) => Decision::SettleSuccessful { reference },
            (None, 1) if !open => Decision::SettleFailed { code: "refused_by_operator".to_owned() },
            (None, 2) if !open => Decision::ChargeAgain,
            _ => Decision::Inquire,
        }
    }
}
