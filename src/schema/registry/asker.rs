//! Asks the registry for the ids that somebody waits for, one after the other, on a task of its own, so that nobody who reads
//! ever does. A registry that does not answer is asked again, less and less often; that is said in the log, and is no answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio_util::task::AbortOnDropHandle;

use super::subjects::{Subject, released};
use super::{NoAnswer, Registry, RegistryArgs};
use crate::schema::Codec;
use crate::schema::ids::{Asking, Ids, Meaning, NoWord};
use crate::schema::meaning::Known;
use crate::telemetry::{self, Seldom};

/// How long a registry that had no answer for an id that it has explained either is not asked for that again, if it took its
/// time and nothing else was answered since.
const SILENT_AGAIN: Duration = Duration::from_secs(60);
const SLOW: Duration = Duration::from_secs(1);

impl RegistryArgs {
    /// Of a process that appends: it knows the ids of everything that it may write before it begins, or does not begin. `topic`
    /// is that of the events.
    pub async fn writing_codec(&self, topic: &str) -> anyhow::Result<Codec> {
        match Registry::new(self)? {
            Some(registry) => registered(registry, topic).await,
            None => Codec::new(),
        }
    }

    /// Of a command that reads what is there, record by record, and waits for what the registry says of each. Must be called
    /// within a tokio runtime.
    pub fn reading_codec(&self) -> anyhow::Result<Codec> {
        self.codec(Asking::First)
    }

    /// Of what folds and appends nothing: a partition waits, and not the thread. Must be called within a tokio runtime.
    pub fn folding_codec(&self) -> anyhow::Result<Codec> {
        self.codec(Asking::Meanwhile)
    }

    fn codec(&self, asking: Asking) -> anyhow::Result<Codec> {
        let Some(registry) = Registry::new(self)? else { return Codec::new() };
        let mut codec = Codec::asking(asking)?;
        codec.keep(asks(codec.ids(), registry, codec.known()));
        Ok(codec)
    }
}

async fn registered(registry: Registry, topic: &str) -> anyhow::Result<Codec> {
    let mut codec = Codec::asking(Asking::Meanwhile)?;
    let mut ids = Vec::new();
    for Subject { name, schemas } in released(topic) {
        for schema in schemas {
            ids.push((id_of(&registry, &name, schema).await?, schema));
        }
    }
    codec.is_registered(&ids, registry.url());
    tracing::info!(registry = registry.url(), schemas = ids.len(), "events are written by the registry's ids");
    codec.keep(asks(codec.ids(), registry, codec.known()));
    Ok(codec)
}

async fn id_of(registry: &Registry, subject: &str, schema: &str) -> anyhow::Result<u32> {
    match registry.id(subject, schema).await {
        Ok(id) => Ok(id),
        Err(NoAnswer::Missing(missing)) => bail!(
            "the schema registry {} does not have a schema of paylog's under the subject {subject} ({missing}): run `paylog \
             schemas register`",
            registry.url()
        ),
        Err(error) => Err(error).context(
            "the schema registry does not answer, and without it this process cannot know by which ids to write: see to it, or \
             leave --schema-registry out",
        ),
    }
}

fn asks(ids: Arc<Ids>, registry: Registry, known: Arc<Known>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let (seldom, mut another) = (Seldom::new(), Another::default());
        loop {
            let Some((id, at)) = ids.next() else {
                ids.bell().await;
                continue;
            };
            if at > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = ids.bell() => {}
                }
                continue;
            }
            ask(&ids, &registry, &known, id, (&seldom, &mut another)).await;
        }
    }))
}

async fn ask(ids: &Ids, registry: &Registry, known: &Arc<Known>, id: u32, (seldom, another): (&Seldom, &mut Another)) {
    let asked = Instant::now();
    let answer = registry.schema(id).await;
    let alone = match &answer {
        Err(NoAnswer::Away(_)) => another.is_answered(ids, registry).await,
        _ => {
            another.silent_at = None;
            false
        }
    };
    telemetry::registry_asked(match &answer {
        Ok(_) | Err(NoAnswer::Refused(_)) => "answered",
        Err(NoAnswer::Missing(_) | NoAnswer::Unsure(_)) => "missing",
        Err(NoAnswer::Away(_)) if alone => "withheld",
        Err(NoAnswer::Away(_)) => "away",
    });
    match answer {
        Ok(text) => {
            let (known, bytes) = (Arc::clone(known), text.len());
            match judged(move || known.meaning(&text)).await {
                Some(meaning) => ids.learn(id, meaning, bytes),
                None => {
                    ids.away(id, NoWord { reason: "the process ends".into(), alone: false });
                }
            }
        }
        Err(NoAnswer::Refused(reason)) => ids.learn(id, Meaning::Other(reason.into()), 0),
        Err(NoAnswer::Missing(_)) => ids.missed(id, asked, true),
        Err(NoAnswer::Unsure(_)) => ids.missed(id, asked, false),
        Err(NoAnswer::Away(reason)) => {
            let pause = ids.away(id, NoWord { reason: reason.as_str().into(), alone });
            if seldom.now() {
                say(id, &reason, alone, pause);
            }
        }
    }
}

/// One question more where there was no answer: is it this id alone? What it has explained once it can explain again.
#[derive(Default)]
struct Another {
    /// When it was not answered either, and in no hurry: in an outage one question for all ids is enough.
    silent_at: Option<Instant>,
}

impl Another {
    async fn is_answered(&mut self, ids: &Ids, registry: &Registry) -> bool {
        let asked = Instant::now();
        let Some(other) = ids.explained().filter(|_| self.may_be_asked(asked)) else { return false };
        let is_answered = registry.schema(other).await.is_ok();
        self.heard(is_answered, asked, Instant::now());
        is_answered
    }

    fn may_be_asked(&self, now: Instant) -> bool {
        self.silent_at.is_none_or(|at| now.saturating_duration_since(at) >= SILENT_AGAIN)
    }

    fn heard(&mut self, is_answered: bool, asked: Instant, now: Instant) {
        self.silent_at = Some(now).filter(|now| !is_answered && now.saturating_duration_since(asked) >= SLOW);
    }
}

fn say(id: u32, reason: &str, alone: bool, pause: Duration) {
    let again_in_ms = pause.as_millis();
    if alone {
        tracing::error!(
            id,
            reason,
            again_in_ms,
            "the schema registry answers for other ids and not for this one, and what is written by it waits: let paylog's user \
             read its schema; of requests it can be refused (paylog requests ls, paylog requests refuse)"
        );
    } else {
        tracing::warn!(
            id,
            reason,
            again_in_ms,
            "the schema registry does not answer: what is written by ids that it has not explained waits"
        );
    }
}

/// On a thread that may be kept busy: it is a stranger's text, and two libraries parse it. One that they panic at is of no use;
/// this task goes on. `None` if the process ends.
async fn judged(judge: impl FnOnce() -> Meaning + Send + 'static) -> Option<Meaning> {
    match tokio::task::spawn_blocking(judge).await {
        Ok(meaning) => Some(meaning),
        Err(error) if error.is_panic() => Some(Meaning::Other("it cannot be judged".into())),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_an_outage_one_question_is_not_two() {
        let (mut another, at) = (Another::default(), Instant::now());
        assert!(another.may_be_asked(at));
        another.heard(false, at, at + SLOW / 2);
        assert!(another.may_be_asked(at + SLOW), "that was no long question");
        another.heard(false, at, at + SLOW);
        assert!(!another.may_be_asked(at + SILENT_AGAIN) && another.may_be_asked(at + SLOW + SILENT_AGAIN));
        another.heard(true, at, at + SLOW);
        assert!(another.may_be_asked(at + SLOW), "it is back");
    }

    #[tokio::test]
    async fn a_schema_that_a_parser_panics_at_is_of_no_use_and_the_next_one_is_judged() {
        let panics = judged(|| panic!("as a parser might")).await;
        assert!(matches!(&panics, Some(Meaning::Other(why)) if &**why == "it cannot be judged"), "{panics:?}");
        // On the only thread of this runtime it would hold up everything.
        let here = std::thread::current().id();
        let elsewhere = judged(move || {
            assert_ne!(std::thread::current().id(), here);
            Meaning::Event(3)
        });
        assert!(matches!(elsewhere.await, Some(Meaning::Event(3))));
    }
}
