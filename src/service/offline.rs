//! The logs of an installation, for a command that works on them without a service: those on Kafka, or those in the data
//! directory of an instance that does not run.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;

use super::data_dir::DataDir;
use crate::config::KafkaArgs;
use crate::control;
use crate::journal::Journal;
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::kafka::{KafkaConfig, KafkaJournal};

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
