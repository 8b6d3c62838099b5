//! Push subscriptions that are over and that nobody has ended: to a payment whose end was told by somebody who stopped before it
//! could end the subscription, and those whose time is over, or whose key was revoked. Looked for when a partition is
//! taken, and now and then, a page at a time, off the lane's thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::attempt::Attempts;
use crate::control::{KnownSubscription, PushRemoval, PushScope};
use crate::journal::{Offset, Partition, partition_of};

/// How often it is looked for them.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
/// Subscriptions that are looked at together.
const PAGE: usize = 500;

/// Some that are over, and where to go on; `None` at the end.
type Page = (Vec<(Arc<KnownSubscription>, PushRemoval)>, Option<Offset>);

impl Attempts {
    /// Of those at home on these partitions, so that of several notifiers one does it. `false` if it is still being done for
    /// others: one at a time, however long the control log takes nothing.
    pub fn begin_to_sweep(self: &Arc<Self>, partitions: Vec<Partition>, stop: &CancellationToken) -> bool {
        let Ok(turn) = Arc::clone(&self.sweeping).try_acquire_owned() else { return false };
        let (attempts, partitions, stop) = (Arc::clone(self), Arc::new(partitions), stop.clone());
        self.means.executor.spawn(Box::pin(async move {
            let _turn = turn;
            let mut next = Some(Offset(0));
            while let Some(from) = next {
                let (looks, partitions) = (Arc::clone(&attempts), Arc::clone(&partitions));
                let (answer, page) = oneshot::channel();
                let look = move || drop(answer.send(looks.over_from(from, &partitions)));
                attempts.means.executor.block(Box::new(look));
                let Ok((over, more)) = page.await else { return };
                for (known, why) in over {
                    attempts.remove_once(&known, why, &stop).await;
                    if stop.is_cancelled() {
                        return;
                    }
                }
                next = more;
            }
        }));
        true
    }

    fn over_from(&self, from: Offset, partitions: &[Partition]) -> Page {
        let page = self.control.subscriptions().since(from, PAGE);
        let next = page.last().map(|last| last.control_offset.next());
        let over = page.into_iter().filter_map(|known| Some((Arc::clone(&known), self.why_over(&known, partitions)?)));
        (over.collect(), next)
    }

    fn why_over(&self, known: &KnownSubscription, partitions: &[Partition]) -> Option<PushRemoval> {
        let subscription = &known.subscription;
        let home = match &subscription.scope {
            PushScope::Payment(payment) => payment.to_string(),
            PushScope::Customer(customer) => customer.as_str().to_owned(),
        };
        if !partitions.contains(&partition_of(home.as_bytes(), self.view.partitions())) {
            return None;
        }
        if subscription.has_ended(&self.control.keys(), self.clocks.machine()) {
            return Some(PushRemoval::Ended);
        }
        let is_of_payment = matches!(subscription.scope, PushScope::Payment(_));
        let is_told = is_of_payment && self.deliveries.has_ended(subscription.id.into()).unwrap_or(false);
        is_told.then_some(PushRemoval::Told)
    }
}
