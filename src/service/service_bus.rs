//! The queue of messages that start payments, if there is one, as a part of a process.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{Part, Role, part};
use crate::config::ServiceArgs;
use crate::intake::service_bus::{Queue, ServiceBus};
use crate::journal::Journal;
use crate::projection::View;
use crate::schema::Codec;

/// Is it named, and with all that it needs? Before anything is opened.
pub(super) fn check(args: &ServiceArgs, role: Role) -> anyhow::Result<()> {
    queue(args, role).map(drop)
}

/// Only who charges takes messages.
fn queue(args: &ServiceArgs, role: Role) -> anyhow::Result<Option<Queue>> {
    if role.charges() { args.service_bus.queue() } else { Ok(None) }
}

pub(super) fn part_of(
    args: &ServiceArgs,
    role: Role,
    journal: &Arc<dyn Journal>,
    view: &View,
    codec: &Arc<Codec>,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Part>> {
    let Some(queue) = queue(args, role)? else { return Ok(None) };
    let (journal, view, codec) = (Arc::clone(journal), view.clone(), Arc::clone(codec));
    let (requests, gateway) = (codec.requests(), args.gateway.name().to_owned());
    let bus = ServiceBus { queue, journal, view, codec, requests, gateway, drain: args.drain() / 2 };
    let (taking, runtime) = (stop.clone(), tokio::runtime::Handle::current());
    let work = move || Ok(runtime.block_on(bus.run(&taking))?);
    Ok(Some(part("service-bus", stop, work)?))
}
