//! Asks for the addresses of a name. The system's resolver blocks a thread for as long as it likes, and the threads are those of
//! the whole process: so many at once and no more, and of one name only a few.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Questions at once.
const QUESTIONS_MAX: usize = 64;
/// And about one name.
const QUESTIONS_OF_ONE_MAX: usize = 2;

pub(super) struct Names {
    questions: Arc<Semaphore>,
    of_one: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Names {
    pub fn new() -> Self {
        Self { questions: Arc::new(Semaphore::new(QUESTIONS_MAX)), of_one: Mutex::default() }
    }

    /// Whoever stops waiting leaves the question where it is: it counts until the system has answered it.
    pub async fn addresses(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let name = name.to_owned();
        self.ask(name.clone(), move || Ok((name.as_str(), 0).to_socket_addrs()?.collect())).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        name: String,
        question: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let of_one = self.of_one(name);
        // First that of the name: who waits for one slow name keeps nobody else waiting.
        let permits = (permit(of_one).await?, permit(Arc::clone(&self.questions)).await?);
        let asked = tokio::task::spawn_blocking(move || {
            let answer = question();
            drop(permits);
            answer
        });
        asked.await.map_err(io::Error::other)?
    }

    fn of_one(&self, name: String) -> Arc<Semaphore> {
        let mut names = self.of_one.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|_, of_one| Arc::strong_count(of_one) > 1);
        Arc::clone(names.entry(name).or_insert_with(|| Arc::new(Semaphore::new(QUESTIONS_OF_ONE_MAX))))
    }
}

async fn permit(of: Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    of.acquire_owned().await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{channel, sync_channel};
    use std::time::Duration;

    use super::{Names, QUESTIONS_OF_ONE_MAX};

    /// The test itself answers, late, as a resolver would.
    #[tokio::test]
    async fn a_name_that_is_slow_holds_few_threads_though_nobody_waits_any_more() {
        let names = Arc::new(Names::new());
        let (began, begun) = channel();
        let (answer, slow) = sync_channel(0);
        let slow = Arc::new(std::sync::Mutex::new(slow));
        for _ in 0..QUESTIONS_OF_ONE_MAX + 3 {
            let (began, slow) = (began.clone(), Arc::clone(&slow));
            let question = names.ask("slow".to_owned(), move || {
                began.send(()).unwrap();
                Ok(slow.lock().unwrap().recv().unwrap() + 1)
            });
            assert!(tokio::time::timeout(Duration::from_millis(5), question).await.is_err(), "it is not answered");
        }
        assert_eq!(names.ask("other".to_owned(), || Ok(1)).await.unwrap(), 1, "others are answered");
        (0..QUESTIONS_OF_ONE_MAX).for_each(|_| answer.send(1).unwrap());
        assert_eq!(names.ask("slow".to_owned(), || Ok(2)).await.unwrap(), 2);
        drop(began);
        assert_eq!(begun.iter().count(), QUESTIONS_OF_ONE_MAX);
    }
}
