//! What is served, described for others' tools: OpenAPI 3.1 of every route, and AsyncAPI 3 of the topics and the streams.
//! Each area describes its own routes beside their table (`described`), by [`Operation`]; the shapes are those of
//! [`crate::contract`], derived where they are defined; the codes of problems are part of the schema of each answer. This
//! knows nothing of any one route. Every answer that a scenario of `tests/it` sees is held to the document.

mod asyncapi;
mod components;
mod operation;
mod refusals;

use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};

pub use asyncapi::{Channel, Kafka, asyncapi};
pub use components::{COOKIE, HEADERS, Header};
pub use operation::{LetIn, Operation, Webhook};
pub use refusals::{AT_LEAST, BODY, Codes, DECISION, QUERY, RECORDED};

/// A text, in words.
#[must_use]
pub fn text(says: &str) -> Value {
    json!({"type": "string", "description": says})
}

/// The schemas that something refers to, by name.
#[derive(Default)]
pub struct Schemas(Vec<(String, Value)>);

impl Schemas {
    /// A reference to `T`, which is kept with all that it refers to itself.
    pub fn of<T: utoipa::ToSchema>(&mut self) -> Value {
        let mut found: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        self.0.extend(found.into_iter().map(|(name, schema)| (name, json!(schema))));
        reference(&T::name())
    }

    /// `T` itself, where it has no name, as a list has none.
    pub fn shape<T: utoipa::ToSchema>(&mut self) -> Value {
        let mut found: Vec<(String, RefOr<Schema>)> = Vec::new();
        T::schemas(&mut found);
        self.0.extend(found.into_iter().map(|(name, schema)| (name, json!(schema))));
        json!(T::schema())
    }

    /// A reference to what has no type of its own.
    pub fn named(&mut self, name: String, schema: Value) -> Value {
        let reference = reference(&name);
        self.0.push((name, schema));
        reference
    }

    fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    fn into_json(self) -> Value {
        let mut schemas = Map::new();
        for (name, schema) in self.0 {
            debug_assert!(schemas.get(&name).is_none_or(|other| *other == schema), "two schemas are called {name}");
            schemas.insert(name, schema);
        }
        schemas.into()
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// What an area of routes is called, and what it is about.
pub type Tag = (&'static str, &'static str);

/// The whole document.
#[must_use]
pub fn document(operations: Vec<Operation>, webhooks: Vec<Webhook>, tags: &[Tag]) -> Value {
    let mut schemas = Schemas::default();
    schemas.of::<crate::http::ProblemBody<'_>>();
    let (mut paths, mut told) = (json!({}), json!({}));
    for mut operation in operations {
        schemas.append(&mut operation.schemas);
        let (path, method) = (operation.path, operation.method);
        paths[path][method] = operation.into_json();
    }
    for mut webhook in webhooks {
        schemas.append(&mut webhook.schemas);
        let name = webhook.name;
        told[name] = json!({"post": webhook.into_json()});
    }
    let tags: Vec<Value> =
        tags.iter().map(|(name, description)| json!({"name": name, "description": description})).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "paylog",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Payments as events on a log: charged exactly once, followed in real time.",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The instance that gave out this document."}],
        "tags": tags,
        "paths": paths,
        "webhooks": told,
        "components": components::of(schemas.into_json()),
    })
}

const ABOUT: &str = "\
A payment is a series of events on a log. A 2xx to a POST means that the event is there to stay.

**Problems** are `application/problem+json` (RFC 9457). Their `code` is for programs and never changes; each operation lists the \
codes that it answers with. What has the wrong method is answered with 405 and `method_not_allowed`, and a path that nobody knows \
with 404 and `not_found`. HEAD is GET without the body.

**Positions.** Every answer says in `Paylog-Position` how far it had seen the log. Whoever asks again with `at_least=` and that, at \
whatever instance, sees nothing go back.

**Streams and topics** are described by AsyncAPI, at `/asyncapi.json`.";
