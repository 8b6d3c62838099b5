//! Webhooks and Web Push of a process: the log of deliveries, what keeps up with it, and what sends.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use tokio_util::sync::CancellationToken;

use super::data_dir::DataDir;
use super::{Opened, Part, Role, part};
use crate::clock::Clocks;
use crate::config::ServiceArgs;
use crate::control::{Control, EndpointState, SecretsKey};
use crate::deliveries::{Deliveries, Follower};
use crate::journal::embedded::EmbeddedJournal;
use crate::journal::kafka::{self, KafkaJournal};
use crate::journal::{Journal, JournalError, Reader};
use crate::notifier::{Means, Notifier, Parts};
use crate::projection::View;
use crate::schema::{Codec, EventSource};
use crate::webpush::{Subject, VapidKey};

const SECRETS_KEY: &str = "PAYLOG_SECRETS_KEY";

pub(super) struct Webhooks {
    deliveries: Deliveries,
    key: Option<SecretsKey>,
    /// Who this process is to push services.
    vapid: Option<VapidKey>,
    subject: Option<Subject>,
    /// Held for as long as there are rows in it.
    data: Arc<DataDir>,
    follower: Follower,
    /// Whoever sends has it to write to.
    log: Option<Arc<dyn Journal>>,
    clocks: Clocks,
}

/// What endpoints and browsers are taken in with.
pub(super) struct TakenIn {
    pub deliveries: Deliveries,
    pub key: Option<SecretsKey>,
    /// `None` if there is no Web Push.
    pub vapid: Option<VapidKey>,
}

/// Adds what `role` needs of webhooks; nothing, for one that only charges.
pub(super) fn open(args: &ServiceArgs, role: Role, opened: Opened) -> anyhow::Result<Opened> {
    let source = args.webhooks.cloudevents_source.clone();
    opened.codec.is_from(source.unwrap_or_else(|| EventSource::of_log(opened.journal.log_id())));
    if role == Role::Process {
        return Ok(opened);
    }
    let Opened { data, control, journal: payments, view, .. } = &opened;
    let key = secrets_key(args, data)?;
    check_key(key.as_ref(), control)?;
    ensure!(
        key.is_some() || role != Role::Notify,
        "notify needs the key that webhook secrets are kept with: set {SECRETS_KEY}, or give --secrets-key-file, the same as \
         at every `serve`; make one with `openssl rand -base64 32`"
    );
    let sends = role != Role::Serve && key.is_some();
    let (log, reader): (Option<Arc<dyn Journal>>, Arc<dyn Reader>) = match args.kafka.config(data.instance_id()) {
        Some(config) if sends => {
            let log = KafkaJournal::open(config.deliveries())?;
            (Some(Arc::clone(&log) as _), log)
        }
        Some(config) => (None, kafka::reader(config.deliveries())?),
        None => {
            let log = EmbeddedJournal::open(&data.deliveries(), args.kafka.partitions)?;
            (sends.then(|| Arc::clone(&log) as _), log)
        }
    };
    reader.check()?;
    let rows = data.delivery_rows();
    let (deliveries, follower) = Deliveries::open(&rows, reader.as_ref(), payments.as_ref(), control)?;
    if role == Role::All && !sends {
        tracing::warn!("webhooks are not sent by this process: it has no {SECRETS_KEY} and no --secrets-key-file");
    }
    let (data, clocks) = (Arc::clone(data), view.clocks().clone());
    let vapid = key.as_ref().map(VapidKey::of).transpose()?;
    let subject = args.webhooks.push.subject(role == Role::All);
    if sends && subject.is_none() && !control.subscriptions().is_empty() {
        tracing::warn!("there are browsers to be told, and none is by this process: it has no --vapid-subject");
    }
    if let Some((ours, (count, theirs))) =
        key.as_ref().and_then(|key| Some((key.id(), control.subscriptions().of_another_key(key.id())?)))
    {
        tracing::warn!(
            count,
            theirs,
            ours,
            "browsers have subscribed with another key for secrets, and none of them is told by this process: give every process \
             the same key; if it was exchanged on purpose, they come again by themselves"
        );
    }
    let webhooks = Webhooks { deliveries, key, vapid, subject, data, follower, log, clocks };
    Ok(Opened { webhooks: Some(webhooks), ..opened })
}

impl Webhooks {
    /// What the guards look at again and again.
    pub fn check(&self) -> impl Fn() -> Result<(), JournalError> + Send + use<> {
        let log = self.log.clone();
        move || log.as_ref().map_or(Ok(()), |log| log.check().and_then(|()| log.check_members()))
    }

    pub fn taken_in(&self) -> TakenIn {
        let vapid = self.vapid.clone().filter(|_| self.subject.is_some());
        TakenIn { deliveries: self.deliveries.clone(), key: self.key.clone(), vapid }
    }

    /// The parts that stop first, and those that stop last: outcomes are folded until the last webhook has ended.
    pub fn parts(
        self,
        args: &ServiceArgs,
        log: Arc<dyn Reader>,
        view: View,
        codec: Arc<Codec>,
        control: Arc<Control>,
        (stop, fold_stop): (&CancellationToken, &CancellationToken),
    ) -> anyhow::Result<(Vec<Part>, Vec<Part>)> {
        let Self { deliveries, key, vapid, subject, data, follower, log: written, clocks } = self;
        let following = fold_stop.clone();
        let mut front = Vec::new();
        let back = vec![part("deliveries", stop, move || {
            let ended = follower.run(&following);
            drop(data);
            Ok(ended?)
        })?];
        if let (Some(key), Some(vapid), Some(written)) = (key, vapid, written) {
            let scanner = deliveries.scanner(log, view.clone(), codec);
            let scanning = stop.clone();
            front.push(part("webhooks-scan", stop, move || Ok(scanner.run(&scanning)?))?);
            let vapid = (vapid, subject);
            let parts = Parts { deliveries, log: written, view, control, key, vapid, clocks };
            let runtime = tokio::runtime::Handle::current();
            let means = Means::new(&args.webhooks, runtime)?;
            let notifier = Notifier::new(parts, &args.webhooks, args.drain() / 2, means);
            let notifying = stop.clone();
            front.push(part("notifier", stop, move || Ok(notifier.run(&notifying)?))?);
        }
        Ok((front, back))
    }
}

/// From the environment, a file, or, on the embedded journal, a file that is made in the data directory.
fn secrets_key(args: &ServiceArgs, data: &DataDir) -> anyhow::Result<Option<SecretsKey>> {
    if let Some(text) = std::env::var(SECRETS_KEY).ok().filter(|text| !text.trim().is_empty()) {
        return Ok(Some(SecretsKey::parse(&text).context(SECRETS_KEY)?));
    }
    let path = match &args.webhooks.secrets_key_file {
        Some(path) => path.clone(),
        None if args.kafka.servers().is_none() => {
            let path = data.secrets_key();
            make_key(&path)?;
            path
        }
        None => return Ok(None),
    };
    let shown = path.display();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read the key for secrets in {shown}"))?;
    Ok(Some(SecretsKey::parse(&text).with_context(|| format!("the key for secrets in {shown}"))?))
}

/// Readable by the owner alone. One that is there stays as it is.
fn make_key(path: &Path) -> anyhow::Result<()> {
    let (shown, key) = (path.display(), SecretsKey::generate());
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = match made {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot write {shown}")),
    };
    file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).with_context(|| format!("cannot write {shown}"))?;
    tracing::warn!(
        file = %shown,
        "made a key that webhook secrets are kept with: who copies this directory has the secrets too; set {SECRETS_KEY} to \
         keep it elsewhere"
    );
    Ok(())
}

/// With another key nothing could be signed, and what was made with it nobody else could read.
fn check_key(key: Option<&SecretsKey>, control: &Control) -> anyhow::Result<()> {
    let (Some(key), known) = (key, control.webhooks().known()) else { return Ok(()) };
    for known in known.endpoints.values().filter(|known| known.endpoint.state != EndpointState::Deleted) {
        for sealed in known.endpoint.sealed() {
            if let Err(error) = key.open(&known.endpoint.id.to_string(), sealed) {
                bail!("a secret of the webhook endpoint {} cannot be opened: {error}", known.endpoint.id);
            }
        }
    }
    Ok(())
}
