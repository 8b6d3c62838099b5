//! One simulated process: everything of ours that `paylog up` runs, put together as `service` does it, but with every
//! thread and every task in the scheduler's hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::service::TowerToHyperService;
use paylog::access;
use paylog::api::{Api, ApiConfig};
use paylog::clock::{Clock, Clocks};
use paylog::control::{Imports, Keys};
use paylog::executor::Executor;
use paylog::journal::{Journal, Tail};
use paylog::lane::{Bounds, Driver, Running};
use paylog::payment::Timestamp;
use paylog::projection::{Folder, View};
use paylog::store::Store;
use tokio_util::sync::CancellationToken;
use warp::http::Request;
use warp::reply::Response;

use crate::client::{self, Clients};
use crate::door::Door;
use crate::log::{Life, Log};
use crate::operator;
use crate::plan::ORIGIN_US;
use crate::planted;
use crate::world::{Program, Site, World};

/// The API, as a function.
pub type Service = Arc<dyn Fn(Request<Full<Bytes>>) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

type Effect = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Process {
    pub life: Life,
    pub view: View,
    pub store: Store,
    pub service: Service,
    pub tasks: Arc<Tasks>,
    folder: Folder,
    tail: Box<dyn Tail>,
    running: Running,
}

/// A wall clock that is wrong by what its machine's clock is.
pub struct ModelClock {
    pub world: Arc<dyn Site>,
    pub process: usize,
}

impl Clock for ModelClock {
    fn now(&self) -> Timestamp {
        let core = self.world.core();
        let us = ORIGIN_US + core.now_us as i64 + core.machines[self.process].skew_us;
        Timestamp::from_micros(us).unwrap_or(Timestamp::MIN)
    }
}

impl Program for Process {
    type People = Clients;
    const STORES: usize = 1;

    fn start(world: &Arc<World>, life: Life, disk: &[Store]) -> Result<Self, String> {
        let store = disk[0].clone();
        let door = Arc::new(Door { world: Arc::clone(world) as _, life, log: Log::Own, is_scan: false });
        let codec = Arc::clone(&world.codec);
        let machine: Arc<dyn Clock> = Arc::new(ModelClock { world: Arc::clone(world) as _, process: life.process });
        let clocks = Clocks::new(Arc::clone(&machine));
        let opened = Folder::open(store.clone(), door.as_ref(), Arc::clone(&codec), clocks.clone());
        let (folder, view) = opened.map_err(|e| format!("cannot open the fold: {e}"))?;
        let tail = folder.tail(door.as_ref()).map_err(|e| format!("cannot read the log: {e}"))?;
        let tasks = Arc::new(Tasks::default());
        let journal: Arc<dyn Journal> = door;
        let worker = planted::worker(world, life, &clocks, machine);
        let bounds = Bounds { in_flight_max: world.core().random.between(1, 64) as usize, ..Bounds::default() };
        let executor: Arc<dyn Executor> = Arc::clone(&tasks) as _;
        let driver = Driver {
            journal: Arc::clone(&journal),
            view: view.clone(),
            codec: Arc::clone(&codec),
            imports: Imports::default(),
            worker,
            bounds,
            executor,
        };
        let running = driver.start().map_err(|e| format!("cannot join the group: {e}"))?;
        let config = ApiConfig::new("simulator".to_owned());
        let door = access::Door { loopback: true, without_key: access::WithoutKey::Always };
        let access = Arc::new(access::Access::new(Keys::default(), None, door, view.clocks().clone()));
        let (totals, shutdown) = (None, CancellationToken::new());
        let api = Api { journal, view: view.clone(), totals, codec, access, config, shutdown };
        let service = service(Arc::new(api));
        Ok(Self { life, view, store, service, tasks, folder, tail, running })
    }

    fn life(&self) -> Life {
        self.life
    }

    fn tasks(&self) -> Arc<Tasks> {
        Arc::clone(&self.tasks)
    }

    fn turn(&mut self) -> Result<(), String> {
        self.running.turn(Duration::ZERO).map_err(|e| format!("the lanes ended: {e}"))
    }

    fn fold(&mut self, world: &World) -> Result<(), String> {
        self.folder.turn(self.tail.as_mut(), Duration::ZERO).map_err(|e| format!("the fold ended: {e}"))?;
        planted::spoil(world, &self.store);
        Ok(())
    }

    fn act(world: &Arc<World>, except: Option<usize>) {
        client::act(world, except);
    }

    fn hear(world: &Arc<World>) {
        client::hear(world);
    }

    fn operate(world: &Arc<World>, process: usize) {
        operator::act(world, process);
    }
}

fn service(api: Arc<Api>) -> Service {
    let routes = TowerToHyperService::new(warp::service(paylog::api::routes(&api)));
    Arc::new(move |request| {
        let answer = hyper::service::Service::call(&routes, request);
        Box::pin(async move {
            let Ok(response) = answer.await;
            response
        })
    })
}

// === what runs beside ===

/// Effects, requests and questions under way.
#[derive(Default)]
pub struct Tasks {
    tasks: Mutex<Vec<Task>>,
    begun: AtomicU64,
    current: AtomicU64,
    questions: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

struct Task {
    future: Effect,
    woken: Arc<Woken>,
    /// In the order in which they were begun.
    number: u64,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor for Tasks {
    fn spawn(&self, effect: Effect) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        lock(&self.tasks).push(Task { future: effect, woken, number });
    }

    fn block(&self, question: Box<dyn FnOnce() + Send>) {
        lock(&self.questions).push(question);
    }
}

impl Tasks {
    /// How many could go on, and how many questions wait.
    pub fn ready(&self) -> (usize, usize) {
        let woken = lock(&self.tasks).iter().filter(|task| task.woken.0.load(Ordering::Relaxed)).count();
        (woken, lock(&self.questions).len())
    }

    /// How many there were so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Which one runs.
    pub fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    pub fn are_there(&self) -> bool {
        !lock(&self.tasks).is_empty() || !lock(&self.questions).is_empty()
    }

    pub fn clear(&self) {
        let (tasks, questions) = (std::mem::take(&mut *lock(&self.tasks)), std::mem::take(&mut *lock(&self.questions)));
        drop((tasks, questions));
    }

    /// Lets one of those go on that can.
    pub fn run(&self, which: usize) {
        let mut tasks = lock(&self.tasks);
        let woken = tasks.iter().enumerate().filter(|(_, task)| task.woken.0.load(Ordering::Relaxed));
        let Some(at) = woken.map(|(at, _)| at).nth(which) else { return };
        let mut task = tasks.remove(at);
        drop(tasks); // what runs may spawn more
        task.woken.0.store(false, Ordering::Relaxed);
        self.current.store(task.number, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&task.woken));
        if task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            lock(&self.tasks).push(task);
        }
    }

    pub fn ask(&self, which: usize) {
        let question = {
            let mut questions = lock(&self.questions);
            (which < questions.len()).then(|| questions.remove(which))
        };
        if let Some(question) = question {
            question();
        }
    }
}
