//! One operation as its area describes it: what it takes, what it answers, with which codes it refuses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::Schemas;
use super::refusals::{ALWAYS, BY_TICKET, BY_TOKEN, Codes, KEYED, OPERATOR};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Whom an operation lets in, besides whoever is on the machine itself where that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetIn {
    /// Everybody.
    All,
    /// A merchant's key.
    Merchant,
    /// That, or a stream token or its cookie, for what it names.
    Follower,
    /// That, or a ticket.
    Stream,
    /// A stream token as `Bearer` alone.
    Token,
    /// An operator's key.
    Operator,
}

pub struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) schemas: Schemas,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    let_in: LetIn,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Answer>,
    codes: BTreeMap<u16, BTreeSet<&'static str>>,
    everywhere: &'static [&'static str],
}

struct Answer {
    says: &'static str,
    content: Map<String, Value>,
    headers: &'static [&'static str],
}

impl Operation {
    #[must_use]
    pub fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        let operation = Self {
            method,
            path,
            schemas: Schemas::default(),
            id,
            tag: "",
            summary,
            description: "",
            let_in: LetIn::All,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            codes: BTreeMap::new(),
            everywhere: &[],
        };
        operation.refuses(ALWAYS)
    }

    #[must_use]
    pub fn tag(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    #[must_use]
    pub fn about(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// With the codes of those who are not let in.
    #[must_use]
    pub fn let_in(mut self, let_in: LetIn) -> Self {
        self.let_in = let_in;
        match let_in {
            LetIn::All => self,
            LetIn::Merchant | LetIn::Follower => self.refuses(KEYED).refuses(BY_TOKEN),
            LetIn::Stream => self.refuses(KEYED).refuses(BY_TOKEN).refuses(BY_TICKET),
            LetIn::Operator => self.refuses(KEYED).refuses(OPERATOR),
            LetIn::Token => self.refuses(KEYED).refuses(BY_TOKEN),
        }
    }

    /// Headers that every answer of it has.
    #[must_use]
    pub fn everywhere(mut self, headers: &'static [&'static str]) -> Self {
        self.everywhere = headers;
        self
    }

    #[must_use]
    pub fn path<T: ToSchema>(self, name: &str, says: &str) -> Self {
        self.parameter::<T>("path", name, says, true)
    }

    #[must_use]
    pub fn query<T: ToSchema>(self, name: &str, says: &str) -> Self {
        self.parameter::<T>("query", name, says, false)
    }

    #[must_use]
    pub fn header<T: ToSchema>(self, name: &str, says: &str) -> Self {
        self.parameter::<T>("header", name, says, false)
    }

    #[must_use]
    pub fn required_header<T: ToSchema>(self, name: &str, says: &str) -> Self {
        self.parameter::<T>("header", name, says, true)
    }

    fn parameter<T: ToSchema>(mut self, place: &str, name: &str, says: &str, required: bool) -> Self {
        let schema = self.schemas.of::<T>();
        self.parameters
            .push(json!({"in": place, "name": name, "description": says, "required": required, "schema": schema}));
        self
    }

    /// A body of JSON that it must have.
    #[must_use]
    pub fn body<T: ToSchema>(self) -> Self {
        self.a_body::<T>(true)
    }

    /// Nothing at all is an empty object.
    #[must_use]
    pub fn body_if_any<T: ToSchema>(self) -> Self {
        self.a_body::<T>(false)
    }

    fn a_body<T: ToSchema>(mut self, required: bool) -> Self {
        let schema = self.schemas.of::<T>();
        self.body_of(JSON, schema, required)
    }

    /// Of this type, besides others.
    #[must_use]
    pub fn body_as<T: ToSchema>(mut self, media_type: &str) -> Self {
        let schema = self.schemas.shape::<T>();
        self.body_of(media_type, schema, true)
    }

    /// One of two, of this type.
    #[must_use]
    pub fn body_either<A: ToSchema, B: ToSchema>(mut self, media_type: &str) -> Self {
        let (one, other) = (self.schemas.shape::<A>(), self.schemas.shape::<B>());
        self.body_of(media_type, json!({"anyOf": [one, other]}), true)
    }

    fn body_of(mut self, media_type: &str, schema: Value, required: bool) -> Self {
        let body = self.body.get_or_insert_with(|| json!({"content": {}}));
        body["required"] = required.into();
        body["content"][media_type] = json!({"schema": schema});
        self
    }

    #[must_use]
    pub fn answers<T: ToSchema>(mut self, status: u16, says: &'static str, headers: &'static [&'static str]) -> Self {
        let schema = self.schemas.of::<T>();
        self.answer(status, says, headers, JSON, schema)
    }

    /// Several, and where they go on; `null` where they do not.
    #[must_use]
    pub fn answers_list<T: ToSchema>(self, says: &'static str) -> Self {
        self.several::<T>(says, "List", &["data", "next_cursor"], json!(["string", "null"]))
    }

    /// Several, and where they go on, if they do.
    #[must_use]
    pub fn answers_page<T: ToSchema>(self, says: &'static str) -> Self {
        self.several::<T>(says, "Page", &["data"], json!("string"))
    }

    fn several<T: ToSchema>(mut self, says: &'static str, called: &str, required: &[&str], cursor: Value) -> Self {
        let one = self.schemas.of::<T>();
        let schema = json!({
            "type": "object",
            "required": required,
            "properties": {
                "data": {"type": "array", "items": one},
                "next_cursor": {"type": cursor, "description": "To be given as `cursor`."},
            },
        });
        let schema = self.schemas.named(format!("{}{called}", T::name()), schema);
        self.answer(200, says, &[], JSON, schema)
    }

    /// One of two.
    #[must_use]
    pub fn answers_either<A: ToSchema, B: ToSchema>(
        mut self,
        status: u16,
        says: &'static str,
        headers: &'static [&'static str],
    ) -> Self {
        let (one, other) = (self.schemas.of::<A>(), self.schemas.of::<B>());
        self.answer(status, says, headers, JSON, json!({"anyOf": [one, other]}))
    }

    /// No JSON.
    #[must_use]
    pub fn answers_as(
        self,
        status: u16,
        says: &'static str,
        headers: &'static [&'static str],
        media_type: &str,
    ) -> Self {
        self.answer(status, says, headers, media_type, json!({"type": "string"}))
    }

    #[must_use]
    pub fn answers_an_object(self, status: u16, says: &'static str, headers: &'static [&'static str]) -> Self {
        self.answer(status, says, headers, JSON, json!({"type": "object"}))
    }

    /// No body.
    #[must_use]
    pub fn answers_nothing(mut self, status: u16, says: &'static str, headers: &'static [&'static str]) -> Self {
        self.answers.insert(status, Answer { says, content: Map::new(), headers });
        self
    }

    fn answer(
        mut self,
        status: u16,
        says: &'static str,
        headers: &'static [&'static str],
        media_type: &str,
        schema: Value,
    ) -> Self {
        let content = Map::from_iter([(media_type.to_owned(), json!({"schema": schema}))]);
        self.answers.insert(status, Answer { says, content, headers });
        self
    }

    #[must_use]
    pub fn refuses(mut self, codes: &[Codes]) -> Self {
        for (status, codes) in codes {
            self.codes.entry(*status).or_default().extend(codes.iter());
        }
        self
    }

    pub(super) fn into_json(self) -> Value {
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "security": security(self.let_in),
        });
        if !self.description.is_empty() {
            operation["description"] = self.description.into();
        }
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.into();
        }
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        let mut responses = json!({});
        for (status, answer) in self.answers {
            let headers = references(self.everywhere.iter().chain(answer.headers));
            let mut response = json!({"description": answer.says, "headers": headers});
            if !answer.content.is_empty() {
                response["content"] = answer.content.into();
            }
            responses[status.to_string()] = response;
        }
        for (status, codes) in self.codes {
            responses[status.to_string()] = refusal(status, &codes, self.everywhere);
        }
        operation["responses"] = responses;
        operation
    }
}

fn references<'a>(headers: impl Iterator<Item = &'a &'static str>) -> Value {
    let reference = |name: &&'static str| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    headers.map(reference).collect::<Map<_, _>>().into()
}

/// The codes are in the schema, so that whoever makes a client of it, or checks an answer, has them.
fn refusal(status: u16, codes: &BTreeSet<&'static str>, everywhere: &[&'static str]) -> Value {
    let more: &[&'static str] = match status {
        400 | 401 | 403 => &["WWW-Authenticate"],
        426 => &["Upgrade", "Sec-WebSocket-Version"],
        429 | 503 => &["Retry-After"],
        _ => &[],
    };
    let list: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let reason = warp::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let schema = json!({
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": {"status": {"const": status}, "code": {"enum": codes}},
    });
    json!({
        "description": format!("{}: {}.", reason.unwrap_or("Refused"), list.join(", ")),
        "headers": references(everywhere.iter().chain(more)),
        "content": {PROBLEM: {"schema": schema}},
    })
}

fn security(let_in: LetIn) -> Value {
    match let_in {
        LetIn::All => json!([]),
        LetIn::Merchant => json!([{"merchantKey": []}, {}]),
        LetIn::Follower => json!([{"merchantKey": []}, {"streamToken": []}, {"streamCookie": []}, {}]),
        LetIn::Stream => {
            json!([{"merchantKey": []}, {"streamToken": []}, {"streamCookie": []}, {"streamTicket": []}, {}])
        }
        LetIn::Token => json!([{"streamToken": []}]),
        LetIn::Operator => json!([{"operatorKey": []}, {}]),
    }
}

/// What a webhook endpoint is told.
pub struct Webhook {
    pub(super) name: &'static str,
    pub(super) schemas: Schemas,
    summary: &'static str,
    media_type: &'static str,
    schema: Value,
    headers: &'static [(&'static str, &'static str)],
}

impl Webhook {
    /// `schema` is among `schemas`.
    #[must_use]
    pub fn new(
        name: &'static str,
        summary: &'static str,
        media_type: &'static str,
        headers: &'static [(&'static str, &'static str)],
        schemas: Schemas,
        schema: Value,
    ) -> Self {
        Self { name, schemas, summary, media_type, schema, headers }
    }

    pub(super) fn into_json(self) -> Value {
        let header = |(name, says): &(&str, &str)| json!({"in": "header", "name": name, "description": says, "required": true, "schema": {"type": "string"}});
        let parameters: Vec<Value> = self.headers.iter().map(header).collect();
        json!({
            "operationId": self.name,
            "tags": ["webhooks"],
            "summary": self.summary,
            "security": [],
            "parameters": parameters,
            "requestBody": {"required": true, "content": {self.media_type: {"schema": self.schema}}},
            "responses": {
                "2XX": {"description": "Taken. Everything else is tried again, or, as 410, ends it (docs/webhooks.md)."},
                "410": {"description": "Nobody is to be told there any more: the endpoint is disabled."},
                "429": {"description": "Later: with `Retry-After`, not before that."},
            },
        })
    }
}
