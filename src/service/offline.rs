//! The logs of an installation, for a command that works on them without a service: those on Kafka, or those in the data
//! directory of an instance that does not run.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::data_dir::DataDir;
use super::{Opened, Versioned, open_log};
use crate::clock::Clocks;
use crate::config::KafkaArgs;
use crate::contract::ProjectionBody;
use crate::control;
use crate::journal::Journal;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::kafka::{KafkaConfig, KafkaJournal};
use crate::projection::Served;
use crate::projection::totals::Totals;
use crate::projection::versions::{Effort, Rebuilds, serving_dir};

/// Both logs, and the directory that they are in, held as long as this is.
pub struct Offline {
    pub journal: Arc<dyn Journal>,
    pub control: Arc<dyn Journal>,
    _data: Option<DataDir>,
}

impl Offline {
    /// Logs that are there. Blocks.
    pub fn open(kafka: &KafkaArgs, data_dir: &Path) -> anyhow::Result<Self> {
        match kafka_config(kafka) {
            Some(config) => {
                let (journal, control) = (KafkaJournal::open(config.clone())?, KafkaJournal::open(config.control())?);
                Ok(Self { journal, control, _data: None })
            }
            None => {
                let shown = data_dir.display();
                ensure!(data_dir.join("journal").is_dir(), "there is no log in {shown}: give another --data-dir");
                Self::embedded(kafka.partitions, data_dir)
            }
        }
    }

    /// Logs in a directory, made if they are not there.
    pub fn embedded(partitions: u32, data_dir: &Path) -> anyhow::Result<Self> {
        let data = DataDir::take(data_dir)?;
        let journal = EmbeddedJournal::open(&data.journal(), partitions)?;
        let control = EmbeddedJournal::open(&data.control(), control::PARTITIONS)?;
        Ok(Self { journal, control, _data: Some(data) })
    }

    /// Logs on Kafka that are open already.
    #[must_use]
    pub fn of(journal: Arc<dyn Journal>, control: Arc<dyn Journal>) -> Self {
        Self { journal, control, _data: None }
    }
}

/// `None` without bootstrap servers. The process is a member of no group, and has a name of its own.
#[must_use]
pub fn kafka_config(kafka: &KafkaArgs) -> Option<KafkaConfig> {
    kafka.config(&format!("offline-{}", uuid::Uuid::new_v4()))
}

/// The projections of an instance that does not run, folded as if it did, but for nobody: to have versions built and
/// exchanged.
pub struct Projections {
    all: Vec<Arc<dyn Rebuilds>>,
    stop: CancellationToken,
    folding: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Projections {
    /// Takes the data directory. Blocks.
    pub fn open(kafka: &KafkaArgs, data_dir: &Path) -> anyhow::Result<Self> {
        let shown = data_dir.display();
        ensure!(data_dir.is_dir(), "there is no data directory {shown}: give another --data-dir");
        let data = Arc::new(DataDir::take(data_dir)?);
        if kafka.servers().is_none() {
            ensure!(
                data.journal().is_dir(),
                "there is no log in {shown}: give another --data-dir, or --bootstrap-servers"
            );
        }
        let with_totals = serving_dir::<Totals>(&data.stores())?.is_dir();
        let codec = Arc::new(kafka.registry.folding_codec()?);
        let Opened { payments, totals, data, .. } =
            open_log(kafka, &codec, with_totals, &Clocks::system(), &data, Effort::FULL, &[])?;
        let mut projections = Self { all: Vec::new(), stop: CancellationToken::new(), folding: Vec::new() };
        projections.fold(payments, &data)?;
        totals.map(|totals| projections.fold(totals, &data)).transpose()?;
        Ok(projections)
    }

    fn fold<P: Served + 'static>(&mut self, projection: Versioned<P>, data: &Arc<DataDir>) -> anyhow::Result<()> {
        self.all.push(Arc::clone(&projection.versions) as Arc<dyn Rebuilds>);
        let (data, stop) = (Arc::clone(data), self.stop.clone());
        let fold =
            thread::Builder::new().name(format!("fold-{}", P::NAME)).spawn(move || projection.run(data, &stop))?;
        self.folding.push(fold);
        Ok(())
    }

    /// As the operator's list says it.
    pub fn list(&self) -> anyhow::Result<Value> {
        let failed = self.folding.iter().any(JoinHandle::is_finished);
        ensure!(!failed, "the fold of what is served has ended: see the log");
        let all: Vec<_> = self.all.iter().map(|projection| ProjectionBody::new(projection.as_ref())).collect();
        Ok(serde_json::to_value(all)?)
    }

    pub fn of(&self, projection: &str) -> anyhow::Result<Arc<dyn Rebuilds>> {
        let found = self.all.iter().find(|known| known.name() == projection);
        found.cloned().with_context(|| format!("there is no projection {projection}"))
    }
}

impl Drop for Projections {
    fn drop(&mut self) {
        self.stop.cancel();
        for fold in self.folding.drain(..) {
            match fold.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = %format!("{error:#}"), "folding failed"),
                Err(_) => tracing::error!("folding panicked"),
            }
        }
    }
}
