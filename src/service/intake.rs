//! What takes requests in, as parts of a process: from our own topic, if there is a Kafka of ours, and from a hub, if one is
//! named.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Part, Role, part};
use crate::config::ServiceArgs;
use crate::holding::Holding;
use crate::intake::{Door, Intake};
use crate::journal::kafka::hub::Hub;
use crate::journal::{Engine, Journal, JournalError};
use crate::projection::View;
use crate::schema::Codec;

/// Is it named well? Before anything is opened.
pub(super) fn check(args: &ServiceArgs, role: Role) -> anyhow::Result<()> {
    hub(args, role).map(drop)
}

/// Only who charges takes requests in.
fn hub(args: &ServiceArgs, role: Role) -> anyhow::Result<Option<Hub>> {
    if role.charges() { args.hub.hub() } else { Ok(None) }
}

/// What takes requests in beside our own topic, and what is known of all that wait.
pub(super) struct Taking {
    hub: Option<Hub>,
    pub holding: Holding,
}

impl Taking {
    pub fn new(args: &ServiceArgs, role: Role) -> anyhow::Result<Self> {
        Ok(Self { hub: hub(args, role)?, holding: Holding::default() })
    }

    /// Looks whether every group that this process is a member of is served.
    pub fn served(&self, journal: &Arc<dyn Journal>) -> impl Fn() -> Result<(), JournalError> + Send + use<> {
        let (journal, hub) = (Arc::clone(journal), self.hub.clone());
        move || journal.check_members().and_then(|()| hub.as_ref().map_or(Ok(()), Hub::check_member))
    }

    pub fn parts(
        &self,
        args: &ServiceArgs,
        role: Role,
        journal: &Arc<dyn Journal>,
        view: &View,
        codec: &Arc<Codec>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Vec<Part>> {
        let mut doors: Vec<(&'static str, Door)> = Vec::new();
        if role.charges() && journal.engine() == Engine::Kafka {
            let log = Arc::clone(journal);
            doors.push(("intake", Box::new(move || log.requests())));
        }
        if let Some(hub) = self.hub.clone() {
            let (log, group) = (Arc::clone(journal), args.hub.group(&args.kafka.group));
            let ours = args.kafka.config("hub");
            doors.push(("hub", Box::new(move || hub.requests(&group, Arc::clone(&log), ours.as_ref()))));
        }
        let parts = doors.into_iter().map(|(name, door)| {
            let (requests, gateway, bounds) = (codec.requests(), args.gateway.name().to_owned(), args.intake.bounds());
            let (journal, view, codec, holding) =
                (Arc::clone(journal), view.clone(), Arc::clone(codec), self.holding.clone());
            let intake = Intake { door, journal, view, codec, requests, gateway, bounds, holding };
            let intake_stop = stop.clone();
            part(name, stop, move || Ok(intake.run(&intake_stop)?))
        });
        parts.collect()
    }
}
