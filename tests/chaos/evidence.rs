//! The history of a run, put together when all is at rest.

use std::collections::BTreeSet;

use paylog::checker::{History, Kind, Liveness, LogRecord, Operation, Options, Parking, ProjectionDigest};
use paylog::payment::PaymentId;
use tokio::task::{block_in_place, spawn_blocking};

use crate::fleet::PARTITIONS;
use crate::foreign::{self, DEAD_LETTERS, REQUESTS, id_of};
use crate::gather::{self, COMMITTED, UNCOMMITTED};
use crate::run::Bed;

/// What no machine can set right: these may be parked, and nothing else may.
const PARKING: &[&str] = &["pm_sim_wrong_amount", "pm_sim_wrong_currency", "pm_sim_wrong_reference"];

impl Bed {
    pub async fn history(&self, liveness: Liveness, earlier: Vec<LogRecord>) -> anyhow::Result<History> {
        let bootstrap = self.brokers.direct.clone();
        let (log, mut uncommitted, partitions) = spawn_blocking(move || {
            anyhow::Ok((
                gather::log(&bootstrap, COMMITTED)?,
                gather::log(&bootstrap, UNCOMMITTED)?,
                gather::ends(&bootstrap)?,
            ))
        })
        .await??;
        let producers = gather::producers(&self.out.join("kafka"))?;
        uncommitted.iter_mut().for_each(|record| record.producer = producers.get(&record.place).copied());
        let bootstrap = self.brokers.direct.clone();
        let (requests, letters) = spawn_blocking(move || {
            let topic = |name| gather::topic(&bootstrap, name, COMMITTED);
            anyhow::Ok((topic(REQUESTS)?, topic(DEAD_LETTERS)?))
        })
        .await??;
        let (requested, injected) = foreign::asked(requests, liveness.observed_at);
        let mut operations = self.recorder.operations.all();
        operations.extend(requested);
        let options = Options {
            partitions: PARTITIONS,
            liveness: Some(liveness),
            clock_skew_ms: 0,
            parking: Parking { reasons: Vec::new(), payments: may_be_parked(&operations) },
            flipped: Vec::new(),
        };
        let ledger = Some(gather::ledger(&self.fleet.provider_url).await?);
        self.stop();
        let ids: BTreeSet<&str> = log.iter().map(|record| record.key.as_str()).collect();
        let ids: Vec<PaymentId> = ids.into_iter().filter_map(PaymentId::parse).collect();
        let projections = self.projections(&ids).await?;
        let (streams, offsets) = (self.recorder.streams.all(), self.recorder.offsets.all());
        Ok(History {
            options,
            operations,
            log,
            uncommitted,
            earlier,
            partitions,
            ledger,
            streams,
            projections,
            offsets,
            dead_letters: foreign::refused(letters),
            injected,
        })
    }

    /// Stops the services, whose stores are then looked into.
    fn stop(&self) {
        self.supervised.cancel();
        for process in self.fleet.regulars() {
            if !block_in_place(|| process.stop()) {
                self.recorder.fault("a process did not stop by itself", &process.name);
            }
        }
    }

    async fn projections(&self, ids: &[PaymentId]) -> anyhow::Result<Vec<ProjectionDigest>> {
        let names = self.fleet.regulars().map(|process| process.name.clone()).chain(["rebuilt".to_owned()]);
        let services = names
            .map(|name| Ok((name.clone(), self.fleet.args(&name, &self.brokers.direct)?)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let ids = ids.to_vec();
        spawn_blocking(move || gather::projections(&services, &ids)).await?
    }
}

/// The payments of which any body that was ever sent asks for a fault that no machine can set right.
fn may_be_parked(operations: &[Operation]) -> Vec<String> {
    let asked = operations.iter().filter(|one| one.kind == Kind::Pay);
    let for_it = asked.filter(|one| one.body.as_ref().is_some_and(|b| PARKING.contains(&b.payment_method.as_str())));
    for_it
        .filter_map(|one| Some(id_of(one.key.as_deref()?)?.to_string()))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}
