//! Every answer that a scenario sees is held to what `/openapi.json` says of it: the operation, the status, the type, the body
//! with no member more, the code of a problem, the headers of the contract; and every request that was taken is held to what
//! it says of requests. Frames, messages of sockets and webhooks are held to what is said of those.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use paylog::openapi::HEADERS;
use paylog::service::described::{channels, openapi};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::Bed;

static OPENAPI: LazyLock<Described> = LazyLock::new(|| Described::new(openapi()));
static ASYNCAPI: LazyLock<Described> = LazyLock::new(|| Described::new(channels()));

/// A request, and what it was answered with.
pub struct Exchange<'a> {
    pub method: &'a str,
    /// With its query.
    pub path: &'a str,
    /// Its type and its body.
    pub sent: Option<(&'a str, &'a [u8])>,
    pub status: u16,
    pub headers: &'a HashMap<String, String>,
    pub body: &'a [u8],
}

struct Described {
    document: Value,
    /// `components`, with every object closed that is not a part of another.
    closed: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Described {
    fn new(document: Value) -> Self {
        let mut parts = BTreeSet::new();
        collect_parts(&document, &mut parts);
        let mut closed = document["components"].clone();
        for (name, schema) in closed["schemas"].as_object_mut().unwrap() {
            close(schema, parts.contains(&format!("#/components/schemas/{name}")));
        }
        Self { document, closed, validators: Mutex::default() }
    }

    /// What is wrong with `value`, which stands where `place` says.
    fn wrong(&self, place: &str, schema: &Value, value: &Value) -> Option<String> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = validators.entry(place.to_owned()).or_insert_with(|| {
            let mut schema = schema.clone();
            close(&mut schema, false);
            let root = json!({"components": self.closed, "allOf": [schema]});
            Arc::new(jsonschema::draft202012::new(&root).unwrap_or_else(|e| panic!("{place}: {e}")))
        });
        let validator = Arc::clone(validator);
        drop(validators);
        if validator.is_valid(value) {
            return None;
        }
        let wrong: Vec<String> =
            validator.iter_errors(value).map(|e| format!("at {:?}: {e}", e.instance_path().as_str())).collect();
        Some(wrong.join("; "))
    }

    /// The description of a path, and how it is written there.
    fn path(&self, path: &str) -> Option<(&str, &Value)> {
        let fits = |template: &&String| {
            let (mut given, mut said) = (path.split('/'), template.split('/'));
            loop {
                match (given.next(), said.next()) {
                    (None, None) => return true,
                    (_, Some("{file}")) => return true,
                    (Some(given), Some(said)) if given == said || said.starts_with('{') && !given.is_empty() => {}
                    _ => return false,
                }
            }
        };
        let paths = self.document["paths"].as_object().unwrap();
        let found = paths.keys().filter(fits).min_by_key(|template| template.matches('{').count())?;
        Some((found, &paths[found]))
    }
}

/// What stands in an `allOf` is a part, and knows only its own members.
fn collect_parts(value: &Value, parts: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for part in members.get("allOf").and_then(Value::as_array).into_iter().flatten() {
                parts.extend(part["$ref"].as_str().map(str::to_owned));
            }
            members.values().for_each(|member| collect_parts(member, parts));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_parts(item, parts)),
        _ => {}
    }
}

fn close(schema: &mut Value, is_part: bool) {
    let Some(members) = schema.as_object_mut() else { return };
    if members.contains_key("allOf") {
        if !is_part {
            members.insert("unevaluatedProperties".to_owned(), false.into());
        }
        return;
    }
    if members.contains_key("properties") && !is_part && !members.contains_key("additionalProperties") {
        members.insert("additionalProperties".to_owned(), false.into());
    }
    let properties = members.get_mut("properties").and_then(Value::as_object_mut);
    properties.into_iter().flat_map(|all| all.values_mut()).for_each(|one| close(one, false));
    for member in ["oneOf", "anyOf"] {
        members.get_mut(member).and_then(Value::as_array_mut).into_iter().flatten().for_each(|one| close(one, is_part));
    }
}

/// Panics with what the description does not say.
pub fn hold(exchange: &Exchange<'_>) {
    if let Some(wrong) = judge(exchange) {
        let Exchange { method, path, status, headers, body, .. } = exchange;
        let body = String::from_utf8_lossy(body);
        panic!("not as /openapi.json says: {wrong}\n{method} {path}\n{status} {headers:?}\n{body}");
    }
}

fn judge(exchange: &Exchange<'_>) -> Option<String> {
    let path = exchange.path.split(['?', '#']).next().unwrap_or_default();
    let Some((template, item)) = OPENAPI.path(path) else { return not_there(exchange, "not_found") };
    let method = exchange.method.to_lowercase().replace("head", "get");
    // Whether a page of another origin may ask is asked by browsers, and no part of the API.
    if method == "options" && exchange.headers.contains_key("vary") {
        return None;
    }
    match item.get(&method) {
        None => not_there(exchange, "method_not_allowed").or_else(|| methods(exchange, item)),
        Some(operation) => {
            let place = format!("{method} {template}");
            of_answer(exchange, operation, &place).or_else(|| of_request(exchange, operation, &place))
        }
    }
}

/// An answer to what is not described.
fn not_there(exchange: &Exchange<'_>, code: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(exchange.body).unwrap_or_default();
    let expected = if code == "not_found" { 404 } else { 405 };
    let is_so = exchange.status == expected && (exchange.method == "HEAD" || body["code"] == code);
    (!is_so).then(|| format!("it is not described, and not answered with {code}"))
}

fn methods(exchange: &Exchange<'_>, item: &Value) -> Option<String> {
    let allow = exchange.headers.get("allow")?;
    let allowed: BTreeSet<String> = allow.split(", ").filter(|m| *m != "HEAD").map(str::to_lowercase).collect();
    let described: BTreeSet<String> = item.as_object()?.keys().cloned().collect();
    (allowed != described).then(|| format!("Allow says {allow}, and the description {described:?}"))
}

fn of_answer(exchange: &Exchange<'_>, operation: &Value, place: &str) -> Option<String> {
    let Exchange { status, headers, body, .. } = exchange;
    let response = &operation["responses"][status.to_string()];
    if response.is_null() {
        return Some(format!("the status is not among those of {place}"));
    }
    for (name, ..) in HEADERS {
        if headers.contains_key(&name.to_lowercase()) && response["headers"].get(name).is_none() {
            return Some(format!("it does not say that there is a header {name}"));
        }
    }
    let Some(content) = response["content"].as_object() else {
        return (!body.is_empty()).then(|| "it says that there is no body".to_owned());
    };
    // A body that is perhaps not there is not for a description of bodies.
    let may_be_empty = response["description"].as_str().is_some_and(|says| says.contains("nothing"));
    if exchange.method == "HEAD" || body.is_empty() && may_be_empty {
        return None;
    }
    let kind = headers.get("content-type").map_or("", |kind| kind.split(';').next().unwrap_or_default());
    let Some(described) = content.get(kind).or_else(|| content.get("*/*")) else {
        return Some(format!("it does not say that it is {kind}"));
    };
    if !kind.ends_with("json") {
        return None;
    }
    let Ok(value) = serde_json::from_slice(body) else { return Some("it is no JSON".to_owned()) };
    OPENAPI.wrong(&format!("{place} {status}"), &described["schema"], &value)
}

/// Of one that was taken.
fn of_request(exchange: &Exchange<'_>, operation: &Value, place: &str) -> Option<String> {
    if !(200..300).contains(&exchange.status) {
        return None;
    }
    let query = exchange.path.split_once('?').map_or("", |(_, query)| query);
    let known = |name: &str| {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.filter(|one| one["in"] == "query").any(|one| one["name"] == name)
    };
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !operation["parameters"].is_null() && !known(&name) || operation["parameters"].is_null() {
            return Some(format!("it does not say that there is a parameter {name}"));
        }
    }
    let (kind, sent) = exchange.sent.filter(|(_, sent)| !sent.is_empty())?;
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let schema = operation["requestBody"]["content"].get(kind)?;
    let value = serde_json::from_slice(sent).ok()?;
    let wrong = OPENAPI.wrong(&format!("{place} body {kind}"), &schema["schema"], &value);
    wrong.map(|wrong| format!("what was taken is not what it says is taken: {wrong}"))
}

// === what is told ===

/// A frame of a stream.
pub fn hold_frame(event: &str, data: &Value) {
    let message = &ASYNCAPI.document["channels"]["stream"]["messages"][event];
    assert!(!message.is_null(), "not as /asyncapi.json says: a frame {event}");
    let wrong = ASYNCAPI.wrong(&format!("frame {event}"), &message["payload"], data);
    assert_eq!(wrong, None, "not as /asyncapi.json says: {event} {data}");
}

/// A message of a server over a socket.
pub fn hold_message(message: &Value) {
    let described = &ASYNCAPI.document["channels"]["socket"]["messages"]["told"]["payload"];
    assert_eq!(ASYNCAPI.wrong("told", described, message), None, "not as /asyncapi.json says: {message}");
}

/// It must be what one of the webhooks says.
pub fn hold_webhook(body: &Value) {
    let mut wrong = Vec::new();
    for (name, item) in OPENAPI.document["webhooks"].as_object().unwrap() {
        let content = item["post"]["requestBody"]["content"].as_object().and_then(|content| content.values().next());
        match OPENAPI.wrong(&format!("webhook {name}"), &content.unwrap()["schema"], body) {
            None => return,
            Some(one) => wrong.push(format!("{name}: {one}")),
        }
    }
    panic!("not as /openapi.json says: {body}\n{wrong:#?}");
}

// === the description itself ===

/// Each operation is asked, of what is not there or of nothing: where the server had no such route, the answer would be a
/// `not_found` that none of them names. And each path is asked with a method that none has: the answer names all that there are.
pub async fn every_operation_is_there_and_no_other(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    assert_eq!(client.get("/openapi.json").await.body, OPENAPI.document);
    assert_eq!(client.get("/asyncapi.json").await.body, ASYNCAPI.document);
    let paths = OPENAPI.document["paths"].as_object().unwrap();
    for (template, item) in paths {
        // What follows everything would not end.
        let query = if template == "/v1/stream" { "?payment_id=x" } else { "" };
        let path = format!("{}{query}", template.replace(['{', '}'], ""));
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let answer = client.send(method, &path, &[], None).await;
            assert_ne!(answer.body["code"], if template == "/page/{file}" { "" } else { "not_found" }, "{path}");
        }
        let other = client.send(Method::PATCH, &path, &[], None).await;
        assert!(other.status == 405 && other.headers.contains_key("allow"), "{path}: {other:?}");
    }
    system.stop().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All problems' codes, by status.
    fn codes(document: &Value) -> BTreeSet<String> {
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
        let responses = operations.flat_map(|operation| operation["responses"].as_object().unwrap().values());
        let problems = responses.filter_map(|response| response["content"].get("application/problem+json"));
        let codes =
            problems.flat_map(|problem| problem["schema"]["properties"]["code"]["enum"].as_array().unwrap().clone());
        codes.map(|code| code.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_not_described_is_noticed() {
        let headers = HashMap::from([("content-type".to_owned(), "application/json".to_owned())]);
        let of = |method, path, status, body: &'static str| {
            judge(&Exchange { method, path, sent: None, status, headers: &headers, body: body.as_bytes() })
        };
        assert_eq!(of("GET", "/livez", 200, r#"{"status":"live"}"#), None);
        for (method, path, status, body) in [
            ("GET", "/livez", 200, r#"{"status":"live","since":1}"#),
            ("GET", "/livez", 200, "{}"),
            ("GET", "/livez", 201, r#"{"status":"live"}"#),
            ("POST", "/livez", 200, r#"{"status":"live"}"#),
            ("GET", "/livez/more", 200, r#"{"status":"live"}"#),
            ("GET", "/readyz", 503, r#"{"status":"live"}"#),
        ] {
            assert!(of(method, path, status, body).is_some(), "{method} {path} {status} {body}");
        }
    }

    #[test]
    fn a_code_that_its_operation_does_not_name_is_noticed() {
        let headers = HashMap::from([("content-type".to_owned(), "application/problem+json".to_owned())]);
        let of = |code: &str| {
            let body = json!({"type": "about:blank", "title": "Not Found", "status": 404, "detail": "x", "code": code});
            let body = body.to_string();
            let path = "/v1/webhook_endpoints/we_1";
            judge(&Exchange { method: "GET", path, sent: None, status: 404, headers: &headers, body: body.as_bytes() })
        };
        assert_eq!(of("webhook_endpoint_not_found"), None);
        assert!(of("payment_not_found").is_some());
    }

    /// What is described and nowhere answered is a promise that nobody keeps.
    #[test]
    fn every_code_is_one_of_the_code() {
        let mut sources = String::new();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.file_name().unwrap().to_str().unwrap() {
                    "described.rs" | "refusals.rs" => {}
                    _ if path.is_dir() => folders.push(path),
                    _ => sources.push_str(&std::fs::read_to_string(&path).unwrap()),
                }
            }
        }
        let nowhere: Vec<String> =
            codes(&openapi()).into_iter().filter(|code| !sources.contains(&format!("\"{code}\""))).collect();
        assert_eq!(nowhere, Vec::<String>::new());
    }
}
