//! What an attempt tells its lane.

use std::sync::mpsc::Sender;

use super::attempt::Attempted;
use super::lane::Input;
use crate::deliveries::outcome::WorkId;

/// Answers for an attempt exactly once, even if it panics: then it is made again.
pub(super) struct Reply {
    work: WorkId,
    sender: Option<Sender<Input>>,
}

impl Reply {
    pub fn new(work: WorkId, sender: Sender<Input>) -> Self {
        Self { work, sender: Some(sender) }
    }

    pub fn send(&mut self, attempted: Attempted) {
        if let Some(sender) = self.sender.take() {
            drop(sender.send(Input::Ended(self.work, attempted)));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send(Attempted::not_made());
    }
}
