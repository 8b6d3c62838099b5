//! What stands in a registry on behalf of paylog: a subject for each record, named by its topic and the record
//! (TopicRecordName), with every version that was released, and FULL_TRANSITIVE, so that whoever has any version reads all.

use anyhow::{Context, bail};
use schema_registry_converter::schema_registry_common::SubjectNameStrategy;

use super::{Missing, NoAnswer, Registry};
use crate::schema::{requested, wire};

/// Any version can be read by whoever has any other: a log is replayed from its first record.
pub(super) const LEVEL: &str = "FULL_TRANSITIVE";
/// What is added to the topic of events to name that of requests.
const REQUESTS: &str = ".requests";

pub(super) struct Subject {
    pub name: String,
    /// Its versions, in their order.
    pub schemas: Vec<&'static str>,
}

/// What is not as it must be with a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Missing,
    /// It has other schemas, and not this version.
    Differs {
        version: usize,
    },
    Level(Option<String>),
}

/// Every subject with what was released of it; `topic` is that of the events. Without the end of its file's last line, which clients
/// strip: to some registries (Apicurio 2) it would be another schema.
pub(super) fn released(topic: &str) -> Vec<Subject> {
    let of = |kind: wire::Kind| {
        let schemas = wire::RELEASED.iter().filter(|(other, _)| *other == kind).map(|(_, text)| text.trim()).collect();
        Subject { name: name(topic, kind.full_name()), schemas }
    };
    let requests = Subject {
        name: name(&format!("{topic}{REQUESTS}"), requested::FULL_NAME),
        schemas: requested::RELEASED.iter().map(|text| text.trim()).collect(),
    };
    wire::Kind::ALL.into_iter().map(of).chain([requests]).collect()
}

fn name(topic: &str, record: &str) -> String {
    let strategy = SubjectNameStrategy::TopicRecordNameStrategy(topic.to_owned(), record.to_owned());
    strategy.get_subject().unwrap_or_else(|_| format!("{topic}-{record}")) // which is what it does
}

impl Subject {
    /// Registers its versions, each under the strictness that the ones before it have brought. Answers with their ids.
    pub async fn register(&self, registry: &Registry) -> anyhow::Result<Vec<u32>> {
        let mut ids = Vec::new();
        for (schema, version) in self.schemas.iter().zip(1..) {
            let id = registry.register(&self.name, schema).await;
            ids.push(id.with_context(|| format!("cannot register version {version} of {}", self.name))?);
            // Only now: some registries know no level of a subject that is not there.
            let set = registry.set_level(&self.name, LEVEL).await;
            set.with_context(|| format!("cannot set {LEVEL} for {}", self.name))?;
        }
        Ok(ids)
    }

    /// What is not as it must be. An error if the registry does not say.
    pub async fn check(&self, registry: &Registry) -> anyhow::Result<Vec<Wrong>> {
        let mut wrong = Vec::new();
        for (schema, version) in self.schemas.iter().zip(1..) {
            match registry.id(&self.name, schema).await {
                Ok(_) => {}
                Err(NoAnswer::Missing(Missing::Subject)) => return Ok(vec![Wrong::Missing]),
                Err(NoAnswer::Missing(_)) => wrong.push(Wrong::Differs { version }),
                Err(error) => return Err(error).with_context(|| format!("cannot look at {}", self.name)),
            }
        }
        match registry.level(&self.name).await {
            Ok(level) if level == LEVEL => {}
            Ok(level) => wrong.push(Wrong::Level(Some(level))),
            Err(NoAnswer::Missing(_)) => wrong.push(Wrong::Level(None)),
            Err(error) => bail!("cannot ask for the level of {}: {error}", self.name),
        }
        Ok(wrong)
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("is not there"),
            Self::Differs { version } => write!(f, "does not have version {version} as it was released"),
            Self::Level(Some(level)) => write!(f, "is {level}, not {LEVEL}"),
            Self::Level(None) => write!(f, "has no level of its own, and must be {LEVEL}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_by_topic_and_record() {
        let names: Vec<String> = released("payments").into_iter().map(|subject| subject.name).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], "payments-paylog.PaymentInProgress");
        assert_eq!(names[7], "payments.requests-paylog.PaymentRequested");
        assert!(released("payments").iter().all(|subject| !subject.schemas.is_empty()));
    }
}
