//! The logs of an installation, for a command that works on them without a service: those on Kafka, or those in the data
//! directory of an instance that does not run.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::ensure;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::data_dir::DataDir;
use super::{Opened, open_log};
use crate::clock::Clocks;
use crate::config::KafkaArgs;
use crate::contract::ProjectionBody;
use crate::control;
use crate::journal::Journal;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::kafka::{KafkaConfig, KafkaJournal};
use crate::projection::Payments;
use crate::projection::versions::{Effort, Rebuilds, Versions};

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
    versions: Arc<Versions<Payments>>,
    stop: CancellationToken,
    folding: Option<JoinHandle<anyhow::Result<()>>>,
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
        let Opened { versions, folds, data, .. } = open_log(kafka, &Clocks::system(), &data, Effort::FULL, None)?;
        let (stop, folded) = (CancellationToken::new(), Arc::clone(&versions));
        let stopped = stop.clone();
        let fold = move || {
            let ended = folded.run(folds, &stopped);
            drop(data);
            ended
        };
        let folding = thread::Builder::new().name("fold".to_owned()).spawn(fold)?;
        Ok(Self { versions, stop, folding: Some(folding) })
    }

    /// As the operator's list says it.
    pub fn list(&self) -> anyhow::Result<Value> {
        let failed = self.folding.as_ref().is_none_or(JoinHandle::is_finished);
        ensure!(!failed, "the fold of what is served has ended: see the log");
        Ok(serde_json::to_value([ProjectionBody::new(self.versions.as_ref())])?)
    }

    pub fn of(&self, projection: &str) -> anyhow::Result<Arc<dyn Rebuilds>> {
        ensure!(projection == self.versions.name(), "there is no projection {projection}");
        Ok(Arc::clone(&self.versions) as Arc<dyn Rebuilds>)
    }
}

impl Drop for Projections {
    fn drop(&mut self) {
        self.stop.cancel();
        match self.folding.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => tracing::error!(error = %format!("{error:#}"), "folding failed"),
            Some(Err(_)) => tracing::error!("folding panicked"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}
