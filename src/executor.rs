//! Who runs what a loop must not wait for: the async runtime; in a simulation, whoever decides what happens next.

use std::future::Future;
use std::pin::Pin;

pub trait Executor: Send + Sync {
    fn spawn(&self, effect: Pin<Box<dyn Future<Output = ()> + Send>>);
    /// For questions that block.
    fn block(&self, question: Box<dyn FnOnce() + Send>);
}

impl Executor for tokio::runtime::Handle {
    fn spawn(&self, effect: Pin<Box<dyn Future<Output = ()> + Send>>) {
        drop(self.spawn(effect));
    }

    fn block(&self, question: Box<dyn FnOnce() + Send>) {
        drop(self.spawn_blocking(question));
    }
}
