//! The schema registry, by Confluent's API: what its ids mean, what is registered there, and how strict it is. Nothing here
//! reads or writes an event; nothing but `schemas register` changes anything there.
//!
//! A registry may have several URLs: whichever answers will do. That something is not there is believed when all of them have
//! said so; what only some say, while others do not answer, is less sure.

mod args;
mod asker;
mod command;
mod subjects;

use std::error::Error as StdError;
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, perform_sr_call, post_schema,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SrCall, SuppliedSchema};
use serde::Deserialize;

pub use args::RegistryArgs;
pub use command::{SchemasCommand, run};

use args::{Credentials, is_open};

/// How long one URL may take for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The largest schema that is looked at, in bytes.
const SCHEMA_MAX: usize = 64 * 1024;
/// Of what a registry says, so much is repeated, in characters.
const SAID_MAX: usize = 300;

// Codes of Confluent's API: that something is not there. A status 404 alone may be of any server.
const NO_SUBJECT: u32 = 40401;
const NO_SCHEMA: u32 = 40403;
const NO_LEVEL: u32 = 40408;
const INCOMPATIBLE: u32 = 409;
const INVALID: std::ops::RangeInclusive<u32> = 42201..=42299;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The registry does not have what was asked for.
    #[error("{0}")]
    Missing(Missing),
    /// So say some of its URLs; the others do not answer.
    #[error("{0}, as one of its URLs says, and another does not answer")]
    Unsure(Missing),
    /// It does not take what was sent.
    #[error("the registry refuses it: {0}")]
    Refused(String),
    /// Nothing was learnt. Never a verdict.
    #[error("{0}")]
    Away(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    #[error("there is no such subject")]
    Subject,
    #[error("there is no such schema")]
    Schema,
    #[error("nothing is set for this subject")]
    Level,
}

#[derive(Clone)]
pub(super) struct Registry {
    nodes: Vec<Node>,
    http: Client,
    credentials: Option<Credentials>,
}

/// One of its URLs.
#[derive(Clone)]
struct Node {
    url: String,
    settings: SrSettings,
}

/// The answer to a question about `/config`: one name where it is read, the other where it is set.
#[derive(Deserialize)]
struct Level {
    #[serde(alias = "compatibility", rename = "compatibilityLevel")]
    level: String,
}

impl RegistryArgs {
    /// As far as it can be told without asking anybody.
    pub fn validate(&self) -> anyhow::Result<()> {
        Registry::new(self).map(|_| ())
    }
}

impl Registry {
    /// `None` without `--schema-registry`. Asks nobody yet.
    pub fn new(args: &RegistryArgs) -> anyhow::Result<Option<Self>> {
        Self::with(args, Credentials::of_environment()?)
    }

    fn with(args: &RegistryArgs, credentials: Option<Credentials>) -> anyhow::Result<Option<Self>> {
        let urls = args.urls()?;
        if urls.is_empty() {
            return Ok(None);
        }
        if credentials.is_some() && urls.iter().any(is_open) {
            tracing::warn!(
                "the schema registry's user and password are sent in the clear: give --schema-registry with https://"
            );
        }
        let mut nodes = Vec::new();
        for url in &urls {
            let text = url.as_str().trim_end_matches('/').to_owned();
            let mut settings = SrSettings::new_builder(text.clone());
            settings.set_timeout(ANSWER_MAX);
            if let Some(Credentials { user, password }) = &credentials {
                settings.set_basic_authorization(user, password.as_deref());
            }
            let settings = settings.build_with(args.client(&urls)?).context("cannot set up the registry's client")?;
            nodes.push(Node { url: text, settings });
        }
        let http = args.client(&urls)?.timeout(ANSWER_MAX).build().context("cannot set up the registry's client")?;
        Ok(Some(Self { nodes, http, credentials }))
    }

    /// Its first URL, which names it.
    pub fn url(&self) -> &str {
        &self.nodes[0].url // there is one, or there would be no registry
    }

    // === what it is asked ===

    /// The schema that it has given this id.
    pub async fn schema(&self, id: u32) -> Result<String, NoAnswer> {
        let found = self.ask(|node| async move { Ok(get_schema_by_id(id, &node.settings).await?) }).await?;
        match found.schema.len() {
            _ if found.schema_type != SchemaType::Avro => {
                Err(NoAnswer::Refused("it is no schema of Avro's".to_owned()))
            }
            _ if !found.references.is_empty() => Err(NoAnswer::Refused("it refers to other schemas".to_owned())),
            0..=SCHEMA_MAX => Ok(found.schema),
            len => Err(NoAnswer::Refused(format!("it is {len} bytes long, and {SCHEMA_MAX} are read"))),
        }
    }

    /// The id of this schema under this subject.
    pub async fn id(&self, subject: &str, schema: &str) -> Result<u32, NoAnswer> {
        let body = serde_json::json!({"schema": schema, "schemaType": "AVRO"}).to_string();
        let call = SrCall::PostForVersion(subject, &body);
        let found = self.ask(|node| async move { Ok(perform_sr_call(&node.settings, call).await?) });
        found.await?.id.ok_or_else(|| NoAnswer::Away("the registry answers without an id".to_owned()))
    }

    /// How strict it is about new schemas of this subject.
    pub async fn level(&self, subject: &str) -> Result<String, NoAnswer> {
        self.config(Method::GET, subject, None).await
    }

    // === what changes it ===

    /// Registers this schema under this subject. The id is the one it has had already, if it was registered before.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, NoAnswer> {
        let posted = self.ask(|node| async move {
            let supplied = SuppliedSchema::new(None, SchemaType::Avro, schema.to_owned());
            Ok(post_schema(&node.settings, subject.to_owned(), supplied).await?)
        });
        Ok(posted.await?.id)
    }

    pub async fn set_level(&self, subject: &str, level: &str) -> Result<(), NoAnswer> {
        let set = self.config(Method::PUT, subject, Some(level)).await?;
        if set == level { Ok(()) } else { Err(NoAnswer::Refused(format!("it has set {} instead", said(&set)))) }
    }

    // === how ===

    /// Each of its URLs in turn, until one has an answer.
    async fn ask<'r, T, F: Future<Output = Result<T, NoAnswer>>>(
        &'r self,
        question: impl Fn(&'r Node) -> F,
    ) -> Result<T, NoAnswer> {
        let (mut missing, mut away) = (None, Vec::new());
        for node in &self.nodes {
            match question(node).await {
                Err(NoAnswer::Missing(what)) => missing = Some(what),
                Err(NoAnswer::Away(reason)) => away.push(format!("{}: {reason}", node.url)),
                answered => return answered,
            }
        }
        Err(match missing {
            Some(what) if away.is_empty() => NoAnswer::Missing(what),
            Some(what) => NoAnswer::Unsure(what),
            None => NoAnswer::Away(away.join("; ")),
        })
    }

    /// What the library does not do.
    async fn config(&self, method: Method, subject: &str, level: Option<&str>) -> Result<String, NoAnswer> {
        let request = |node: &Node| {
            let mut request = self.http.request(method.clone(), format!("{}/config/{subject}", node.url));
            if let Some(level) = level {
                request = request.json(&serde_json::json!({"compatibility": level}));
            }
            if let Some(Credentials { user, password }) = &self.credentials {
                request = request.basic_auth(user, password.as_deref());
            }
            request
        };
        self.ask(|node| leveled(request(node))).await
    }
}

async fn leveled(request: RequestBuilder) -> Result<String, NoAnswer> {
    let answer = request.send().await.map_err(|error| NoAnswer::Away(chain(&error)))?;
    if answer.status() != StatusCode::OK {
        let text = format!("it answers with status {}", answer.status());
        return Err(match answer.json::<RawError>().await {
            Ok(raw) => judge(&raw, &text),
            Err(_) => NoAnswer::Away(text),
        });
    }
    let read = answer.json::<Level>().await.map_err(|_| NoAnswer::Away("its answer is no level".to_owned()))?;
    Ok(read.level)
}

impl From<SRCError> for NoAnswer {
    fn from(error: SRCError) -> Self {
        match error.source().and_then(|cause| cause.downcast_ref::<RawError>()) {
            Some(raw) => judge(raw, &error.error),
            None => Self::Away(chain(&error)),
        }
    }
}

/// What the registry's own code says; `text` is what is known without it.
fn judge(raw: &RawError, text: &str) -> NoAnswer {
    match raw.error_code {
        NO_SUBJECT => NoAnswer::Missing(Missing::Subject),
        NO_SCHEMA => NoAnswer::Missing(Missing::Schema),
        NO_LEVEL => NoAnswer::Missing(Missing::Level),
        code if code == INCOMPATIBLE || INVALID.contains(&code) => NoAnswer::Refused(said(&raw.message)),
        _ => NoAnswer::Away(format!("{text} ({})", said(&raw.message))),
    }
}

/// The innermost cause says most. No cause names a password: addresses hold none.
fn chain(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    if text.is_empty() { error.to_string() } else { said(&text) }
}

fn said(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each URL answers in its own way, by its place.
    async fn asked(answers: &[fn() -> Result<u32, NoAnswer>]) -> Result<u32, NoAnswer> {
        let urls: Vec<String> = (0..answers.len()).map(|n| format!("http://127.0.0.1:{}", n + 1)).collect();
        let args = RegistryArgs { schema_registry: Some(urls.join(",")), schema_registry_ca: None };
        let registry = Registry::with(&args, None).unwrap().unwrap();
        let place = |node: &Node| registry.nodes.iter().position(|other| other.url == node.url).unwrap();
        registry.ask(|node| std::future::ready(answers[place(node)]())).await
    }

    #[tokio::test]
    async fn one_answer_is_enough_and_what_one_does_not_have_is_only_sure_if_all_answer() {
        let (has, away) = (|| Ok(7), || Err(NoAnswer::Away("it stalls".to_owned())));
        let missing = || Err(NoAnswer::Missing(Missing::Schema));
        assert!(matches!(asked(&[missing, away, has]).await, Ok(7)));
        assert!(matches!(asked(&[missing, missing]).await, Err(NoAnswer::Missing(Missing::Schema))));
        assert!(matches!(asked(&[away, missing]).await, Err(NoAnswer::Unsure(Missing::Schema))));
        assert!(matches!(asked(&[missing, away]).await, Err(NoAnswer::Unsure(_))));
        assert!(matches!(asked(&[away, away]).await, Err(NoAnswer::Away(_))));
    }
}
