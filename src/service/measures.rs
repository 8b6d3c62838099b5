//! `/metrics`: what has been counted, and what is measured at every scrape, from the state and from the log, since a counter
//! of it would forget, or count twice.

use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use crate::api::Operator;
use crate::http::Problem;
use crate::journal::{Journal, Partition};
use crate::projection::View;
use crate::projection::versions::{Phase, Rebuilds};
use crate::store::StoreError;
use crate::telemetry;

/// Open payments are counted no further.
const OPEN_MAX: usize = 100_000;
/// How long a scrape waits for the log to say where it ends. What comes later is shown by the next one.
const ENDS_WAIT: Duration = Duration::from_millis(500);

/// Prometheus's text exposition format, version 0.0.4.
pub(super) fn route(operator: Arc<Operator>) -> BoxedFilter<(Response,)> {
    let asking = Arc::new(Mutex::new(()));
    let answer = move || {
        let (operator, asking) = (Arc::clone(&operator), Arc::clone(&asking));
        async move {
            measure(operator, asking).await;
            let content_type = "text/plain; version=0.0.4";
            warp::reply::with_header(telemetry::metrics(), "content-type", content_type).into_response()
        }
    };
    let others = warp::path!("metrics").map(|| Problem::method_not_allowed("GET").into_response());
    warp::path!("metrics").and(warp::get()).then(answer).or(others).unify().boxed()
}

async fn measure(operator: Arc<Operator>, asking: Arc<Mutex<()>>) {
    let (view, journal) = (operator.api.view.clone(), Arc::clone(&operator.api.journal));
    let lag = tokio::task::spawn_blocking(move || measure_lag(&view, journal.as_ref(), &asking));
    let (view, measured) = (operator.api.view.clone(), Arc::clone(&operator));
    let state = tokio::task::spawn_blocking(move || {
        measure_builds(&measured.projections);
        measured.checkpoints.iter().for_each(|maker| telemetry::checkpoint(maker.projection(), maker.newest()));
        count(&view)
    });
    match state.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the open and the parked payments cannot be counted"),
        Err(error) => tracing::error!(%error, "measuring the state ended early"),
    }
    if let Ok(Err(error)) = tokio::time::timeout(ENDS_WAIT, lag).await {
        tracing::error!(%error, "measuring how far the fold is behind ended early");
    }
}

fn count(view: &View) -> Result<(), StoreError> {
    telemetry::parked(view.parked_counts()?.values().sum());
    telemetry::open(view.open_count(OPEN_MAX)? as u64);
    Ok(())
}

/// Where the log ends it is asked by one scrape at a time: one that does not answer is not asked over and over.
fn measure_lag(view: &View, journal: &dyn Journal, asking: &Mutex<()>) {
    let Ok(_one) = asking.try_lock().or_else(|held| match held {
        TryLockError::Poisoned(lock) => Ok(lock.into_inner()),
        TryLockError::WouldBlock => Err(()),
    }) else {
        return;
    };
    let mut answers = true;
    for partition in 0..view.partitions() {
        let end = if answers { journal.ends(Partition(partition)).ok() } else { None };
        answers = end.is_some();
        let behind = end.map(|end| end.committed.0.saturating_sub(view.folded_to(Partition(partition)).0));
        telemetry::fold_lag(partition, behind);
    }
}

/// Versions that are built beside those that are served.
fn measure_builds(projections: &[Arc<dyn Rebuilds>]) {
    for projection in projections {
        let versions = projection.versions();
        let building = versions.iter().find(|version| version.phase == Phase::Building);
        telemetry::rebuild(projection.name(), building.map(|version| (version.folded, version.pace)));
    }
}
