//! The books on the disk. One thread owns them: it takes whatever waits, works it off, writes what has changed in one synced
//! batch, and only then answers. So nothing is told that a kill could take back.

use std::path::Path;

use anyhow::Context;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::book::{Account, Book, Changes};
use super::intent::Intent;
use crate::store::{Store, StoreError, Table};

/// Turns that may wait.
const WAITING_MAX: usize = 4096;
/// Turns that share one sync.
const GROUP_MAX: usize = 512;
/// Above every key, which are visible ASCII.
const END: &[u8] = &[0xFF];

/// Works on the books, and answers when what it did is on the disk.
type Turn = Box<dyn FnOnce(&mut Book, &mut Changes) -> Answering + Send>;
type Answering = Box<dyn FnOnce() + Send>;
pub type Ended = oneshot::Receiver<Result<(), StoreError>>;

#[derive(Clone)]
pub struct Ledger {
    turns: mpsc::Sender<Turn>,
}

struct Writer {
    store: Store,
    accounts: Table,
    intents: Table,
    book: Book,
}

impl Ledger {
    /// Reads what is in `directory` into `book` and starts the thread. When the disk fails, `stop` is cancelled. What comes
    /// second tells how the thread ended, when the directory is free again.
    pub fn open(directory: &Path, book: Book, stop: CancellationToken) -> anyhow::Result<(Self, Ended)> {
        let store = Store::open(directory)?;
        let (accounts, intents) = (store.table("accounts")?, store.table("intents")?);
        let mut writer = Writer { store, accounts, intents, book };
        writer.read()?;
        let (turns, waiting) = mpsc::channel(WAITING_MAX);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            let _stop = stop.drop_guard();
            let written = writer.run(waiting);
            drop(end.send(written));
        })?;
        Ok((Self { turns }, ended))
    }

    /// `None` if the ledger is no more.
    pub async fn turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Book, &mut Changes) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let turn: Turn = Box::new(move |book, changes| {
            let done = work(book, changes);
            Box::new(move || drop(answer.send(done)))
        });
        self.turns.send(turn).await.ok()?;
        answered.await.ok()
    }
}

impl Writer {
    fn read(&mut self) -> anyhow::Result<()> {
        for row in self.intents.range(&[], END) {
            let (id, value) = row?;
            let intent: Intent = postcard::from_bytes(&value).with_context(|| damaged(&id))?;
            self.book.keep(intent);
        }
        for row in self.accounts.range(&[], END) {
            let (key, value) = row?;
            let account: Account = postcard::from_bytes(&value).with_context(|| damaged(&key))?;
            self.book.restore(String::from_utf8_lossy(&key).into_owned(), account);
        }
        Ok(())
    }

    fn run(mut self, mut turns: mpsc::Receiver<Turn>) -> Result<(), StoreError> {
        while let Some(first) = turns.blocking_recv() {
            let mut changes = Changes::default();
            let mut answers = vec![first(&mut self.book, &mut changes)];
            while answers.len() < GROUP_MAX {
                let Ok(turn) = turns.try_recv() else { break };
                answers.push(turn(&mut self.book, &mut changes));
            }
            self.write(&changes)?;
            answers.into_iter().for_each(|answer| answer());
        }
        Ok(())
    }

    fn write(&self, changes: &Changes) -> Result<(), StoreError> {
        if changes.accounts.is_empty() && changes.intents.is_empty() {
            return Ok(());
        }
        let mut batch = self.store.batch();
        let row = |value: Result<Vec<u8>, postcard::Error>| value.map_err(|e| StoreError::Damaged(e.to_string()));
        for intent in changes.intents.iter().filter_map(|id| self.book.intent(id)) {
            batch.insert(&self.intents, intent.id.as_bytes(), &row(postcard::to_stdvec(intent))?);
        }
        for key in &changes.accounts {
            if let Some(account) = self.book.account(key) {
                batch.insert(&self.accounts, key.as_bytes(), &row(postcard::to_stdvec(account))?);
            }
        }
        batch.commit_synced()
    }
}

fn damaged(key: &[u8]) -> String {
    format!("the ledger's row {} cannot be read: delete its directory to begin anew", String::from_utf8_lossy(key))
}
