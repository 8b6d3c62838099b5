//! A client as a merchant or a browser would write it, independent of the product's own.

use std::collections::HashMap;
use std::time::Duration;

use paylog::payment::PaymentId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::cluster::PATIENCE;
use crate::described::{self, Exchange};

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub url: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Value,
}

/// One frame of a stream; `data` is null for an id-only block.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Value,
}

pub struct Stream {
    response: reqwest::Response,
    buffer: String,
}

/// A body that is good, with `method` to decide what happens.
pub fn body(customer: &str, method: &str) -> Value {
    json!({"amount": 1999, "currency": "EUR", "customer_id": customer, "payment_method": method})
}

impl Client {
    pub fn new(url: &str) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { http, url: url.to_owned() }
    }

    /// The same, with a key or a token.
    pub fn with_key(&self, key: &str) -> Self {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {key}").parse().unwrap());
        let http = reqwest::Client::builder().timeout(PATIENCE).default_headers(headers).build().unwrap();
        Self { http, url: self.url.clone() }
    }

    /// The same, over HTTP/2 with prior knowledge.
    pub fn over_http2(&self) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).http2_prior_knowledge().build().unwrap();
        Self { http, url: self.url.clone() }
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Vec<u8>>) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        sent_headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
        for (name, value) in sent_headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = &body {
            request = request.body(body.clone());
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers = headers.map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()));
        let headers = headers.collect();
        let bytes = response.bytes().await?;
        let kind = sent_headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let sent = body.as_deref().map(|body| (kind.map_or("application/json", |(_, kind)| *kind), body));
        described::hold(&Exchange { method: method.as_str(), path, sent, status, headers: &headers, body: &bytes });
        Ok(Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(Method::GET, path, headers, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, Some(body.to_string().into_bytes())).await
    }

    pub async fn pay(&self, key: &str, body: &Value) -> Answer {
        self.pay_with(key, body, &[]).await
    }

    /// Pays a server that may die.
    pub async fn try_pay(&self, key: &str, body: &Value) -> reqwest::Result<Answer> {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.try_send(Method::POST, "/v1/payments", &headers, Some(body.to_string().into_bytes())).await
    }

    pub async fn pay_with(&self, key: &str, body: &Value, more: &[(&str, &str)]) -> Answer {
        let mut headers = vec![("content-type", "application/json"), ("idempotency-key", key)];
        headers.extend(more);
        self.send(Method::POST, "/v1/payments", &headers, Some(body.to_string().into_bytes())).await
    }

    /// Pays and waits for the end.
    pub async fn pay_to_the_end(&self, key: &str, body: &Value) -> Answer {
        self.pay_with(key, body, &[("prefer", "wait=60")]).await
    }

    pub async fn stream(&self, query: &str, last_event_id: Option<&str>) -> (u16, Stream) {
        self.try_stream(query, last_event_id).await.unwrap()
    }

    /// Of a server, or a way to it, that may break.
    pub async fn try_stream(&self, query: &str, last_event_id: Option<&str>) -> reqwest::Result<(u16, Stream)> {
        let headers = last_event_id.map(|id| ("last-event-id", id));
        self.try_stream_with(query, headers.as_slice()).await
    }

    pub async fn stream_with(&self, query: &str, headers: &[(&str, &str)]) -> (u16, Stream) {
        self.try_stream_with(query, headers).await.unwrap()
    }

    async fn try_stream_with(&self, query: &str, headers: &[(&str, &str)]) -> reqwest::Result<(u16, Stream)> {
        let mut request = self.http.get(format!("{}/v1/stream?{query}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        Ok((response.status().as_u16(), Stream { response, buffer: String::new() }))
    }

    /// All frames of a stream that the server ends.
    pub async fn whole_stream(&self, query: &str, last_event_id: Option<&str>) -> Vec<Frame> {
        let (status, mut stream) = self.stream(query, last_event_id).await;
        assert_eq!(status, 200, "{query}");
        let mut frames = Vec::new();
        while let Some(frame) = stream.next().await {
            frames.push(frame);
        }
        frames
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_else(|| panic!("no {field} in {self:?}"))
    }

    pub fn id(&self) -> PaymentId {
        PaymentId::parse(self.text("id")).unwrap()
    }

    /// The path of a link, which knows from which position on it may be answered.
    pub fn link(&self, name: &str) -> &str {
        self.body["links"][name].as_str().unwrap_or_else(|| panic!("no link {name} in {self:?}"))
    }
}

impl Stream {
    pub fn header(&self, name: &str) -> String {
        self.response.headers().get(name).map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
    }

    pub fn version(&self) -> reqwest::Version {
        self.response.version()
    }

    /// The next frame that is a change: cursors and snapshots are passed over.
    pub async fn next_change(&mut self) -> Frame {
        loop {
            let frame = self.next().await.expect("the stream has ended");
            if frame.data.get("event").is_some() {
                return frame;
            }
        }
    }

    /// The rest of the body as text, for an answer that is no stream.
    pub async fn problem(self) -> Value {
        serde_json::from_slice(&self.response.bytes().await.unwrap()).unwrap_or(Value::Null)
    }

    /// Everything until the server ends the stream, as it was sent.
    pub async fn rest(&mut self) -> String {
        while let Some(chunk) = tokio::time::timeout(PATIENCE, self.response.chunk()).await.unwrap().unwrap() {
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        std::mem::take(&mut self.buffer)
    }

    /// The next frame; `None` when the server has ended the stream. Comments are passed over.
    pub async fn next(&mut self) -> Option<Frame> {
        self.read().await.unwrap()
    }

    /// As [`Stream::next`]; `None` also when the connection has broken.
    pub async fn try_next(&mut self) -> Option<Frame> {
        self.read().await.ok().flatten()
    }

    async fn read(&mut self) -> reqwest::Result<Option<Frame>> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                if let Some(frame) = parse(&block) {
                    return Ok(Some(frame));
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.expect("the stream is silent");
            let Some(chunk) = chunk? else { return Ok(None) };
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Nothing but comments comes for a while. Only for what must not come: it cannot wait for a fact.
    pub async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.next()).await.is_err()
    }
}

fn parse(block: &str) -> Option<Frame> {
    let mut frame = Frame { id: None, event: None, data: Value::Null };
    let mut any = false;
    for line in block.lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => frame.id = Some(value.to_owned()),
            "event" => frame.event = Some(value.to_owned()),
            "data" => frame.data = serde_json::from_str(value).unwrap(),
            _ => continue,
        }
        any = true;
    }
    if let Some(event) = &frame.event {
        described::hold_frame(event, &frame.data);
    }
    any.then_some(frame)
}
