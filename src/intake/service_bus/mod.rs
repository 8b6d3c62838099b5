//! A queue whose messages start payments: each is judged as the API judges a request, appended, and only then completed.
//!
//! What is refused the broker puts among its own dead letters, with the reason; what could not be appended, or may not have
//! been, it gives out again. So a message may come twice, and is one payment all the same: the key makes it so, and nothing
//! here remembers anything. A broker that is away, or does not let us in, is asked again for ever, and ends nothing.

mod args;
mod held;
mod judge;
mod said;
mod taking;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::IntakeError;
use crate::amqp::{Address, AmqpError, Connection, Pause, Receiver, connections_cut};
use crate::journal::Journal;
use crate::projection::View;
use crate::schema::{Codec, RequestCodec};
use crate::telemetry::{self, Seldom};
use said::Said;
use taking::Taking;

pub use args::{Queue, ServiceBusArgs};

/// Between two looks whether the view has caught up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(20);

/// A connection that has lasted for so long has worked, also on a queue without messages.
const LASTS: Duration = Duration::from_secs(60);

/// What takes messages off a queue.
pub struct ServiceBus {
    pub queue: Queue,
    pub journal: Arc<dyn Journal>,
    pub view: View,
    pub codec: Arc<Codec>,
    pub requests: RequestCodec,
    /// The gateway of new payments, by the name it is configured under.
    pub gateway: String,
    /// How long a stop waits for what is being appended.
    pub drain: Duration,
}

/// Why messages are not taken any more.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Amqp(#[from] AmqpError),
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

impl ServiceBus {
    /// Runs until told to stop. `Err` is of this process's own rows, never of the broker.
    pub async fn run(self, stop: &CancellationToken) -> Result<(), IntakeError> {
        let address = &self.queue.address;
        if !address.is_tls() && !address.is_this_machine() {
            tracing::warn!(queue = %address, "messages, and the key to them, travel without TLS");
        }
        let (mut pause, seldom, mut said) = (Pause::default(), Seldom::new(), Said::default());
        if !self.caught_up(stop).await {
            return Ok(());
        }
        loop {
            let error = match self.serve(stop, &mut pause).await {
                Ok(()) => return Ok(()),
                Err(Ended::Intake(error)) => return Err(error),
                Err(Ended::Amqp(error)) => error,
            };
            let (is_new, is_time) = (said.is_new(&error), seldom.now());
            if is_new || is_time {
                tracing::warn!(queue = %address, reason = %error, "no messages are taken from the queue: it is tried again");
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause.after_failure()) => {}
            }
        }
    }

    /// Until then what is known already would be appended again. `false` at the stop.
    async fn caught_up(&self, stop: &CancellationToken) -> bool {
        while !self.view.caught_up() || self.view.is_withheld() {
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(CATCH_UP_PAUSE) => {}
            }
        }
        true
    }

    /// On one connection, until the stop or until it ends. Nobody waits for a broker at the stop.
    async fn serve(&self, stop: &CancellationToken, pause: &mut Pause) -> Result<(), Ended> {
        let opening = open(&self.queue);
        let (connection, receiver) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = opening => opened?,
        };
        tracing::info!(queue = %self.queue.address, "messages are taken from the queue");
        telemetry::service_bus_connected(true);
        let mut taking = Taking::new(self, receiver);
        let (since, ended) = (Instant::now(), taking.run(stop).await);
        telemetry::service_bus_connected(false);
        telemetry::service_bus_held(0);
        if has_worked(taking.has_settled(), since.elapsed()) {
            pause.reset();
        }
        taking.close().await;
        connection.close().await;
        telemetry::amqp_connections_cut(connections_cut());
        ended
    }
}

/// Not a broker that lets us in and ends it at once: it would be asked again each second.
fn has_worked(has_settled: bool, lasted: Duration) -> bool {
    has_settled || lasted >= LASTS
}

async fn open(queue: &Queue) -> Result<(Connection, Receiver), AmqpError> {
    let to = addresses(&queue.address).await?;
    let mut connection = Connection::open(&queue.address, &to, &queue.credential).await?;
    let receiver = Receiver::attach(&mut connection, queue.address.node()).await?;
    Ok((connection, receiver))
}

/// Whoever runs paylog has named the host: it may be on a private network.
async fn addresses(address: &Address) -> Result<Vec<std::net::SocketAddr>, AmqpError> {
    let found = tokio::net::lookup_host((address.host(), address.port())).await;
    Ok(found.map_err(|error| AmqpError::Unreachable(error.to_string()))?.collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LASTS, has_worked};

    #[test]
    fn to_be_let_in_is_not_to_have_worked() {
        assert!(!has_worked(false, Duration::ZERO));
        assert!(!has_worked(false, LASTS - Duration::from_secs(1)));
        assert!(has_worked(true, Duration::ZERO) && has_worked(false, LASTS));
    }
}
