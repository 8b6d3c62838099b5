//! AsyncAPI 3: the topics, and the streams. The messages of a topic are the released Avro schemas as they stand in `schemas/`,
//! those of a stream the shapes of the contract.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::Schemas;

const AVRO: &str = "application/vnd.apache.avro+json;version=1.9.0";

/// Something that messages go over.
pub struct Channel {
    name: &'static str,
    address: &'static str,
    title: &'static str,
    description: &'static str,
    server: &'static str,
    binding: Value,
    schemas: Schemas,
    messages: Map<String, Value>,
    /// What paylog does there, with which messages.
    operations: Vec<(&'static str, &'static str, Vec<&'static str>)>,
    does: &'static str,
}

/// What every message of a topic has.
pub struct Kafka {
    pub key: Value,
    pub headers: Value,
}

impl Channel {
    /// `address` has `{prefix}` in it.
    #[must_use]
    pub fn topic(name: &'static str, address: &'static str, title: &'static str, description: &'static str) -> Self {
        Self::new(name, address, title, description, "kafka", json!({}))
    }

    #[must_use]
    pub fn http(name: &'static str, address: &'static str, title: &'static str, description: &'static str) -> Self {
        Self::new(name, address, title, description, "http", json!({}))
    }

    #[must_use]
    pub fn socket(name: &'static str, address: &'static str, title: &'static str, description: &'static str) -> Self {
        Self::new(name, address, title, description, "ws", json!({"ws": {"method": "GET"}}))
    }

    fn new(
        name: &'static str,
        address: &'static str,
        title: &'static str,
        description: &'static str,
        server: &'static str,
        binding: Value,
    ) -> Self {
        let (schemas, messages) = (Schemas::default(), Map::new());
        Self { name, address, title, description, server, binding, schemas, messages, operations: Vec::new(), does: "" }
    }

    /// paylog writes what follows.
    #[must_use]
    pub fn sends(self, operation: &'static str) -> Self {
        self.does(operation, "send")
    }

    /// paylog reads what follows.
    #[must_use]
    pub fn receives(self, operation: &'static str) -> Self {
        self.does(operation, "receive")
    }

    fn does(mut self, operation: &'static str, action: &'static str) -> Self {
        self.does = operation;
        self.operations.push((operation, action, Vec::new()));
        self
    }

    /// A record in Avro; `schema` as it was released.
    #[must_use]
    pub fn avro(self, name: &'static str, schema: &str, of: &Kafka) -> Self {
        // What is released is JSON: a test reads every one of them.
        let schema: Value = serde_json::from_str(schema).unwrap_or_default();
        let says = schema["doc"].clone();
        let message = json!({
            "name": name,
            "title": name,
            "summary": says,
            "contentType": "application/avro",
            "headers": of.headers,
            "payload": {"schemaFormat": AVRO, "schema": schema},
            "bindings": {"kafka": {"key": of.key}},
        });
        self.message(name, message)
    }

    /// JSON of the contract.
    #[must_use]
    pub fn json<T: ToSchema>(mut self, name: &'static str, says: &'static str) -> Self {
        let payload = self.schemas.of::<T>();
        self.message(name, json!({"name": name, "title": name, "summary": says, "contentType": "application/json", "payload": payload}))
    }

    /// Whatever it is, with these headers.
    #[must_use]
    pub fn bytes(
        self,
        name: &'static str,
        says: &'static str,
        content_type: &'static str,
        payload: Value,
        headers: Value,
    ) -> Self {
        let message = json!({"name": name, "title": name, "summary": says, "contentType": content_type, "headers": headers, "payload": payload});
        self.message(name, message)
    }

    fn message(mut self, name: &'static str, message: Value) -> Self {
        self.messages.insert(name.to_owned(), message);
        if let Some((_, _, messages)) = self.operations.last_mut() {
            messages.push(name);
        }
        self
    }
}

/// The whole document.
#[must_use]
pub fn asyncapi(channels: Vec<Channel>) -> Value {
    let mut schemas = Schemas::default();
    let (mut described, mut operations) = (Map::new(), Map::new());
    for mut channel in channels {
        schemas.append(&mut channel.schemas);
        for (operation, action, messages) in &channel.operations {
            let reference = |message: &&str| json!({"$ref": format!("#/channels/{}/messages/{message}", channel.name)});
            let messages: Vec<Value> = messages.iter().map(reference).collect();
            let of = json!({"$ref": format!("#/channels/{}", channel.name)});
            operations.insert((*operation).to_owned(), json!({"action": action, "channel": of, "messages": messages}));
        }
        let mut one = json!({
            "address": channel.address,
            "title": channel.title,
            "description": channel.description,
            "servers": [{"$ref": format!("#/servers/{}", channel.server)}],
            "messages": channel.messages,
        });
        if channel.address.contains("{prefix}") {
            one["parameters"] = json!({"prefix": {"default": "payments", "description": "`--topic-prefix`"}});
        }
        if channel.binding.as_object().is_some_and(|binding| !binding.is_empty()) {
            one["bindings"] = channel.binding;
        }
        described.insert(channel.name.to_owned(), one);
    }
    let host = |default: &str, says: &str| json!({"host": {"default": default, "description": says}});
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "paylog",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The topics of an installation, and the streams of an instance. Requests over HTTP are described by OpenAPI, at `/openapi.json`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {"host": "{host}", "protocol": "kafka", "variables": host("localhost:9092", "A broker (`--bootstrap-servers`).")},
            "http": {"host": "{host}", "protocol": "http", "variables": host("localhost:8080", "An instance (`--listen`).")},
            "ws": {"host": "{host}", "protocol": "ws", "variables": host("localhost:8080", "An instance (`--listen`).")},
        },
        "channels": described,
        "operations": operations,
        "components": {"schemas": schemas.into_json()},
    })
}
