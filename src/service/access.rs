//! Who is let in by a process: by the keys on its control log, and by where it listens.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::bail;

use super::{Opened, Role};
use crate::access::{Access, Door, WithoutKey};
use crate::config::ServiceArgs;
use crate::control::Holder;
use crate::journal::Engine;
use crate::payment::Timestamp;

pub(super) fn open(args: &ServiceArgs, role: Role, at: SocketAddr, opened: &Opened) -> anyhow::Result<Arc<Access>> {
    let (keys, clocks) = (opened.control.keys(), opened.view.clocks().clone());
    let loopback = at.ip().is_loopback();
    // A processor and a notifier answer with health and metrics, which have no merchant.
    if !matches!(role, Role::Process | Role::Notify) && !loopback && !is_anybody_let_in(opened, clocks.machine()) {
        bail!(
            "this would listen on {at}, where everybody can ask, and there is no merchant's key that is good: make one first, \
             with `paylog keys create --merchant <id> --reason <why> --offline` and the same --data-dir or --bootstrap-servers; \
             or listen on 127.0.0.1, where who is on this machine is let in without"
        );
    }
    let own = match opened.journal.engine() {
        Engine::Embedded => Some(opened.data.token_key()),
        Engine::Kafka => None,
    };
    let tokens = args.access.tokens(opened.journal.log_id(), own.as_deref())?;
    let without_key = match role {
        _ if args.access.require_keys => WithoutKey::Never,
        Role::All => WithoutKey::Always,
        Role::Serve | Role::Process | Role::Notify => WithoutKey::UntilThereIsOne,
    };
    Ok(Arc::new(Access::new(keys, tokens, Door { loopback, without_key }, clocks)))
}

fn is_anybody_let_in(opened: &Opened, now: Timestamp) -> bool {
    let keys = opened.control.keys().all();
    keys.iter().any(|key| matches!(key.holder, Holder::Merchant(_)) && key.is_good(now))
}
