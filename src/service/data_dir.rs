//! What one process keeps: a directory, held by a lock for as long as the process runs, and the name that it has among its
//! group's.

use std::fs::{File, TryLockError};

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::store::write_whole;

const LOCK: &str = "lock";
const INSTANCE_ID: &str = "instance-id";
const JOURNAL: &str = "journal";
const CONTROL: &str = "control";
const STORES: &str = "store";

pub struct DataDir {
    path: PathBuf,
    instance_id: String,
    _lock: File,
}

impl DataDir {
    /// Creates the directory if it is not there, and takes it. A second process is refused.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        std::fs::create_dir_all(path).with_context(|| format!("cannot create the data directory {shown}"))?;
        if let Some(name) = stranger(path).with_context(|| format!("cannot read {shown}"))? {
            bail!(
                "{shown} is no data directory of paylog, for there is {name} in it and nothing of paylog's: give an empty one \
                 (--data-dir, PAYLOG_DATA_DIR), or one that does not exist"
            );
        }
        let lock = File::create(path.join(LOCK)).with_context(|| format!("cannot write to {shown}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{shown} is in use by another paylog process: stop that one, or give this one another --data-dir \
                 (PAYLOG_DATA_DIR)"
            ),
            Err(TryLockError::Error(e)) => return Err(e).with_context(|| format!("cannot lock {shown}")),
        }
        let instance_id = instance_id(&path.join(INSTANCE_ID))?;
        Ok(Self { path: path.to_owned(), instance_id, _lock: lock })
    }

    /// The same through every restart, so that this process ends its own leftovers at once.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// The embedded control log.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.path.join(CONTROL)
    }

    /// The embedded log of deliveries.
    #[must_use]
    pub fn deliveries(&self) -> PathBuf {
        self.path.join("deliveries")
    }

    /// What that log and the log of payments come to for those who are told.
    #[must_use]
    pub fn delivery_rows(&self) -> PathBuf {
        self.path.join("deliveries-store")
    }

    /// The key that secrets are kept with, if it is kept here.
    #[must_use]
    pub fn secrets_key(&self) -> PathBuf {
        self.path.join("secrets-key")
    }

    /// The checkpoints that this instance makes while it runs.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// What signs stream tokens, where one process has all of the log.
    #[must_use]
    pub fn token_key(&self) -> PathBuf {
        self.path.join("token-key")
    }

    /// The directory of all stores.
    #[must_use]
    pub fn stores(&self) -> PathBuf {
        self.path.join(STORES)
    }
}

/// Something in a directory in which nothing is ours. What a file system puts there, and what is hidden, is nobody's.
fn stranger(path: &Path) -> std::io::Result<Option<String>> {
    let mut stranger = None;
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            LOCK | INSTANCE_ID | JOURNAL | CONTROL | STORES => return Ok(None),
            "lost+found" => {}
            name if name.starts_with('.') => {}
            _ => stranger = Some(name),
        }
    }
    Ok(stranger)
}

fn instance_id(path: &Path) -> anyhow::Result<String> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(id) if uuid::Uuid::try_parse(id.trim()).is_ok() => Ok(id.trim().to_owned()),
        Ok(_) => bail!("{shown} does not hold an instance id: delete it, and a new one is made"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let id = uuid::Uuid::new_v4().to_string();
            write_whole(path, id.as_bytes()).with_context(|| format!("cannot write {shown}"))?;
            Ok(id)
        }
        Err(e) => Err(e).with_context(|| format!("cannot read {shown}")),
    }
}
