//! A schema registry with Confluent's API, written for the tests: it answers, fails or stalls as it is told, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use warp::Filter;
use warp::http::{Method, Response, StatusCode};

use crate::cluster::{Bed, PARTITIONS};
use crate::operations::paylog;

pub struct Registry {
    pub url: String,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Well,
    Fails(u16),
    Stalls,
}

struct State {
    mode: Mode,
    schemas: BTreeMap<u32, String>,
    subjects: BTreeMap<String, Vec<u32>>,
    levels: BTreeMap<String, String>,
    /// Ids that it does not say anything of, to this user.
    withheld: BTreeSet<u32>,
    /// How often anybody asked for an id.
    asked: BTreeMap<u32, usize>,
}

type Answer = (u16, Value);

impl Registry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mode, schemas, subjects) = (Mode::Well, BTreeMap::new(), BTreeMap::new());
        let (levels, withheld, asked) = Default::default();
        let state = State { mode, schemas, subjects, levels, withheld, asked };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let route = warp::method().and(warp::path::full()).and(warp::body::bytes());
        let route = route.then(move |method: Method, path: warp::path::FullPath, body: bytes::Bytes| {
            let shared = Arc::clone(&shared);
            async move {
                let mode = shared.lock().unwrap().mode;
                let (status, answer) = match mode {
                    Mode::Well => shared.lock().unwrap().answer(&method, path.as_str(), &body),
                    Mode::Fails(status) => {
                        (status, json!({"error_code": u32::from(status) * 100 + 1, "message": "out of order"}))
                    }
                    Mode::Stalls => std::future::pending().await,
                };
                let mut response = Response::new(answer.to_string());
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                response
            }
        });
        let task = tokio::spawn(warp::serve(route).incoming(listener).run());
        Self { url, state, task }
    }

    /// Everything that was released for this bed, by the command that is there for it.
    pub async fn with_schemas_of(bed: &Bed) -> Self {
        let registry = Self::start().await;
        let words = registry.words("register", bed);
        let done = tokio::task::spawn_blocking(move || paylog(&words)).await.unwrap();
        assert!(done.status.success(), "{done:?}");
        registry
    }

    /// `paylog schemas <command>` for this registry.
    pub fn words(&self, command: &str, bed: &Bed) -> Vec<String> {
        let topic = topic(bed);
        let words = ["paylog", "schemas", command, "--schema-registry", &self.url, "--topic-prefix", &topic];
        words.into_iter().map(str::to_owned).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn now(&self, mode: Mode) {
        self.state().mode = mode;
    }

    /// From now on this id is that of this schema.
    pub fn explain(&self, id: u32, schema: &str) {
        let mut state = self.state();
        state.withheld.remove(&id);
        state.schemas.insert(id, schema.to_owned());
    }

    /// Until then it says nothing of this id.
    pub fn withhold(&self, id: u32) {
        self.state().withheld.insert(id);
    }

    pub fn asked(&self, id: u32) -> usize {
        self.state().asked.get(&id).copied().unwrap_or(0)
    }

    pub fn id_of(&self, subject: &str) -> u32 {
        self.state().subjects[subject][0]
    }

    pub fn forget(&self, subject: &str) {
        self.state().subjects.remove(subject);
    }

    pub fn set_level(&self, subject: &str, level: &str) {
        self.state().levels.insert(subject.to_owned(), level.to_owned());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Answer {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method.as_str(), &parts[..]) {
            ("GET", ["schemas", "ids", id]) => {
                let id = id.parse().unwrap();
                if id > i32::MAX as u32 {
                    // As Jersey does, which Confluent's is made with: no such address, and not that there is no such schema.
                    return (404, json!({"error_code": 404, "message": "HTTP 404 Not Found"}));
                }
                *self.asked.entry(id).or_default() += 1;
                if self.withheld.contains(&id) {
                    return (403, json!({"error_code": 40301, "message": "User is denied operation Read"}));
                }
                let known = self.schemas.get(&id).map(|schema| (200, json!({"schema": schema})));
                known.unwrap_or((404, json!({"error_code": 40403, "message": format!("Schema {id} not found")})))
            }
            ("POST", ["subjects", subject]) => self.look_up(subject, &sent["schema"]),
            ("POST", ["subjects", subject, "versions"]) => self.register(subject, &sent["schema"]),
            ("GET", ["config", subject]) => match self.levels.get(*subject) {
                Some(level) => (200, json!({"compatibilityLevel": level})),
                None => (404, json!({"error_code": 40408, "message": "no level"})),
            },
            ("PUT", ["config", subject]) => {
                let level = sent["compatibility"].as_str().unwrap().to_owned();
                self.levels.insert((*subject).to_owned(), level.clone());
                (200, json!({"compatibility": level}))
            }
            other => panic!("{other:?} is not asked of a registry"),
        }
    }

    fn look_up(&self, subject: &str, schema: &Value) -> Answer {
        let Some(ids) = self.subjects.get(subject) else {
            return (404, json!({"error_code": 40401, "message": "Subject not found"}));
        };
        let same = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
        let found = ids.iter().find(|id| same(&self.schemas[id]) == same(schema.as_str().unwrap()));
        let found = found.map(|id| (200, json!({"subject": subject, "id": id, "version": 1, "schema": schema})));
        found.unwrap_or((404, json!({"error_code": 40403, "message": "Schema not found"})))
    }

    fn register(&mut self, subject: &str, schema: &Value) -> Answer {
        if let (200, known) = self.look_up(subject, schema) {
            return (200, json!({"id": known["id"]}));
        }
        let id = self.schemas.keys().max().map_or(1, |last| last + 1);
        self.schemas.insert(id, schema.as_str().unwrap().to_owned());
        self.subjects.entry(subject.to_owned()).or_default().push(id);
        (200, json!({"id": id}))
    }
}

/// The topic of events of this bed, which subjects are named by.
pub fn topic(bed: &Bed) -> String {
    bed.args("up", "topics", &[]).kafka.topic_prefix
}

/// What was released for this record.
pub fn schema(record: &str) -> String {
    let path = format!("{}/schemas/{record}.avsc", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The same datum in the registry's frame.
pub fn framed(id: u32, single_object: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], &single_object[10..]].concat()
}

const _: () = assert!(PARTITIONS >= 3, "some go on while others wait");
