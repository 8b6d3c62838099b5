//! What a notifier works by: who runs its attempts, who makes its requests, and chance. A process has the runtime's and the
//! network's; a simulation has its own, and nothing else of a notifier is otherwise there.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::WebhookArgs;
use super::client::{Answer, Client, Post};
use crate::executor::Executor;

/// Makes the request. Whatever becomes of it is an answer.
pub trait Posts: Send + Sync {
    fn post<'a>(&'a self, post: Post<'a>) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;
}

/// Between 0 and 1.
pub type Chance = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Cheap to clone.
#[derive(Clone)]
pub struct Means {
    pub(super) executor: Arc<dyn Executor>,
    pub(super) client: Arc<Client>,
    pub(super) posts: Arc<dyn Posts>,
    pub(super) chance: Chance,
}

impl Means {
    /// Those of a process: its attempts run on `runtime`.
    pub fn new(args: &WebhookArgs, runtime: Handle) -> anyhow::Result<Self> {
        let client = Client::new(args.timeout(), args.allow_private_webhooks, args.webhooks_in_flight_each)?;
        let client = Arc::new(client);
        let posts = Arc::clone(&client) as _;
        Ok(Self { executor: Arc::new(runtime), client, posts, chance: Arc::new(rand::random) })
    }

    /// The same, with others in the place of the runtime, the network and chance.
    #[must_use]
    pub fn with(&self, executor: Arc<dyn Executor>, posts: Arc<dyn Posts>, chance: Chance) -> Self {
        Self { executor, client: Arc::clone(&self.client), posts, chance }
    }
}

impl Posts for Client {
    fn post<'a>(&'a self, post: Post<'a>) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(self.send(post))
    }
}
