//! A custom topic of Azure Event Grid that takes CloudEvents 1.0: one POST of an array, with the topic's access key. What is due at
//! one look goes in one request, and each event of it has an outcome of its own.

use std::iter::{once, repeat_n, repeat_with};

use reqwest::{StatusCode, Url};

use super::attempt::{Attempts, Sent};
use super::client::{Answer, Post};
use super::message::Unsendable;
use crate::contract::CLOUD_EVENT_BATCH;
use crate::control::{Credential, KnownEndpoint};
use crate::deliveries::outcome::Failure;
use crate::deliveries::{Due, Standing};

/// The one of custom topics that there is.
const API_VERSION: (&str, &str) = ("api-version", "2018-01-01");
/// A topic takes an array of 1 MB, brackets, commas and all.
const ARRAY_MAX_BYTES: usize = 1_000_000;
/// Of which so many are sent at once; there are never more than may be on their way to one endpoint.
const EVENTS_MAX: usize = 100;

/// A topic that is sent one array after the other, until it wants no more.
struct Topic<P> {
    publish: P,
    /// The first answer that is no matter of an event. It is the answer to all that was to follow.
    stopped: Option<Answer>,
}

impl Attempts {
    /// One for each, in their order.
    pub async fn event_grid(&self, all: &[Due], known: &KnownEndpoint) -> Vec<Result<Sent, Unsendable>> {
        let credential = match self.credential(known) {
            Ok(credential) => credential,
            Err(error) => {
                let others = repeat_with(|| Err(Unsendable::NoCredential));
                return once(Err(error)).chain(others).take(all.len()).collect();
            }
        };
        let (mut results, mut events) = (Vec::with_capacity(all.len()), Vec::new());
        for due in all {
            results.push(self.cloud_event(due).map(|event| events.push(event.json)));
        }
        let mut answers = answers(&events, |body| self.publish(body, known, &credential)).await;
        let standing = self.deliveries.standing(known.endpoint.id).unwrap_or_default();
        weigh(&mut answers, &standing.since_enabled(&known.endpoint));
        let mut answers = answers.into_iter();
        let mut sent = |()| answers.next().map(|answer| Sent { answer, until: None }).ok_or(Unsendable::NotThere);
        results.into_iter().map(|result| result.and_then(&mut sent)).collect()
    }

    async fn publish(&self, body: Vec<u8>, known: &KnownEndpoint, credential: &Credential) -> Answer {
        let Some(url) = address(&known.endpoint.url) else { return Answer::without(Failure::NotSendable) };
        let headers = [("content-type", CLOUD_EVENT_BATCH), ("aeg-sas-key", credential.as_str())];
        self.means.posts.post(Post { url: &url, headers: &headers, body, judge }).await
    }
}

/// One for each, in their order. An array is taken or refused as one: which of its events it is for, each says by itself.
async fn answers<P, F>(events: &[String], publish: P) -> Vec<Answer>
where
    P: Fn(Vec<u8>) -> F,
    F: Future<Output = Answer>,
{
    let (mut answers, mut topic) = (Vec::with_capacity(events.len()), Topic { publish, stopped: None });
    for array in arrays(events) {
        let answer = topic.take(array).await;
        if array.len() > 1 && answer.failure == Some(Failure::Refused) {
            for event in array {
                answers.push(topic.take(std::slice::from_ref(event)).await);
            }
        } else {
            answers.extend(repeat_n(answer, array.len()));
        }
    }
    answers
}

impl<P, F> Topic<P>
where
    P: Fn(Vec<u8>) -> F,
    F: Future<Output = Answer>,
{
    async fn take(&mut self, events: &[String]) -> Answer {
        if let Some(answer) = self.stopped {
            return answer;
        }
        let answer = (self.publish)(format!("[{}]", events.join(",")).into_bytes()).await;
        self.stopped = Some(answer).filter(|answer| !matches!(answer.failure, None | Some(Failure::Refused)));
        answer
    }
}

/// A topic that was made for another schema, or has a gateway with a small limit before it, refuses whatever comes: somebody may
/// set it right, and nothing is given up for it. What it refuses while it is otherwise well it will refuse again.
fn weigh(answers: &mut [Answer], standing: &Standing) {
    let was_well = standing.last_success.is_some() && standing.failing_since.is_none();
    let is_well = answers.iter().any(|answer| answer.failure.is_none()) || (answers.len() == 1 && was_well);
    for answer in answers.iter_mut().filter(|answer| answer.failure == Some(Failure::Refused) && !is_well) {
        answer.failure = Some(Failure::Status);
    }
}

/// As few as they fit into; an event that is too large by itself goes by itself.
fn arrays(events: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let mut bytes = "[]".len();
        let fits = rest.iter().take(EVENTS_MAX).take_while(|json| {
            bytes += json.len() + ",".len();
            bytes <= ARRAY_MAX_BYTES
        });
        let count = fits.count().max(1).min(rest.len());
        let (array, after) = rest.split_at(count);
        rest = after;
        (!array.is_empty()).then_some(array)
    })
}

/// As the portal and Terraform give it out, it says no version.
fn address(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    if !url.query_pairs().any(|(name, _)| name == API_VERSION.0) {
        url.query_pairs_mut().append_pair(API_VERSION.0, API_VERSION.1);
    }
    Some(url.into())
}

/// What a topic's answer means ("Post to custom topics": 200, 400, 401, 404, 413). What it takes as badly formed, or as too
/// large, it will take so again, if it is otherwise well. A key that is wrong, or a topic that is not there, somebody may set right.
fn judge(status: StatusCode) -> Option<Failure> {
    match status {
        status if status.is_success() => None,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Some(Failure::Refused),
        status if status.is_redirection() => Some(Failure::Redirect),
        _ => Some(Failure::Status),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use reqwest::StatusCode;

    use super::{ARRAY_MAX_BYTES, EVENTS_MAX, address, answers, arrays, judge, weigh};
    use crate::deliveries::Standing;
    use crate::deliveries::outcome::Failure;
    use crate::notifier::client::Answer;
    use crate::payment::samples::at;

    const REFUSED: Option<Failure> = Some(Failure::Refused);
    const STATUS: Option<Failure> = Some(Failure::Status);

    fn answer(status: u16) -> Answer {
        let failure = judge(StatusCode::from_u16(status).unwrap());
        Answer { took: Duration::ZERO, status: Some(status), retry_after: None, failure }
    }

    /// What was sent to a topic that answers so, and what came of each.
    async fn sent(events: usize, says: impl Fn(usize, &str) -> u16) -> (Vec<String>, Vec<Option<u16>>) {
        let (events, bodies): (Vec<String>, _) = ((0..events).map(|n| n.to_string()).collect(), RefCell::default());
        let publish = async |body: Vec<u8>| {
            let (body, mut bodies) = (String::from_utf8(body).unwrap(), bodies.borrow_mut());
            let answer = answer(says(Vec::len(&bodies), &body));
            bodies.push(body);
            answer
        };
        let came = answers(&events, publish).await.iter().map(|answer| answer.status).collect();
        (bodies.into_inner(), came)
    }

    #[tokio::test]
    async fn what_is_refused_together_is_sent_one_by_one_until_the_topic_wants_no_more() {
        let (bodies, came) = sent(3, |_, body| if body.contains('1') { 400 } else { 200 }).await;
        assert_eq!(bodies, ["[0,1,2]", "[0]", "[1]", "[2]"]);
        assert_eq!(came, [Some(200), Some(400), Some(200)]);
        let (bodies, came) = sent(EVENTS_MAX + 5, |n, _| [400, 200, 429][n.min(2)]).await;
        assert_eq!(bodies[1..], ["[0]", "[1]"], "nor is the next array sent");
        assert_eq!(came[0], Some(200));
        assert!(came.len() == EVENTS_MAX + 5 && came[1..].iter().all(|status| *status == Some(429)), "{came:?}");
        let (bodies, came) = sent(EVENTS_MAX + 5, |_, _| 503).await;
        assert!(bodies.len() == 1 && came == [Some(503); EVENTS_MAX + 5], "{came:?}");
    }

    /// Made for another schema, say: until somebody sets that right.
    #[test]
    fn a_topic_that_refuses_everything_loses_nothing() {
        let weighed = |statuses: &[u16], success: Option<i64>, failing: Option<i64>| {
            let mut standing = Standing::default();
            (standing.last_success, standing.failing_since) = (success.map(at), failing.map(at));
            let mut answers: Vec<_> = statuses.iter().map(|status| answer(*status)).collect();
            weigh(&mut answers, &standing);
            answers.into_iter().map(|answer| answer.failure).collect::<Vec<_>>()
        };
        for bad in [400, 413] {
            assert_eq!(weighed(&[bad], None, None), [STATUS], "it has never taken anything");
            assert_eq!(weighed(&[bad], Some(1), Some(2)), [STATUS], "it takes nothing any more");
            assert_eq!(weighed(&[bad], Some(1), None), [REFUSED], "it is well, but for this");
            assert_eq!(weighed(&[bad, bad], Some(1), None), [STATUS; 2], "of several it takes none");
            assert_eq!(weighed(&[bad, 200], None, Some(2)), [REFUSED, None], "it takes another");
        }
        assert!(
            Failure::Refused.is_the_targets() && Failure::Status.is_the_targets(),
            "after the first it is not well"
        );
    }

    #[test]
    fn a_topics_answer_means_what_azure_says() {
        for (status, means) in [
            (200, None),
            (302, Some(Failure::Redirect)),
            (400, Some(Failure::Refused)),
            (401, Some(Failure::Status)),
            (403, Some(Failure::Status)),
            (404, Some(Failure::Status)),
            (410, Some(Failure::Status)),
            (413, Some(Failure::Refused)),
            (429, Some(Failure::Status)),
            (503, Some(Failure::Status)),
        ] {
            assert_eq!(judge(StatusCode::from_u16(status).unwrap()), means, "{status}");
        }
    }

    #[test]
    fn the_address_says_the_version_of_the_api_once() {
        let topic = "https://topic.westeurope-1.eventgrid.azure.net/api/events";
        for url in [topic.to_owned(), format!("{topic}?api-version=2018-01-01")] {
            assert_eq!(address(&url).unwrap(), format!("{topic}?api-version=2018-01-01"));
        }
    }

    #[test]
    fn an_array_is_no_larger_than_a_topic_takes() {
        let sizes = |events: &[usize]| {
            let events: Vec<_> = events.iter().map(|size| "x".repeat(*size)).collect();
            arrays(&events).map(<[_]>::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[]), Vec::<usize>::new());
        assert_eq!(sizes(&[10; 16]), [16]);
        assert_eq!(sizes(&[10; EVENTS_MAX + 1]), [EVENTS_MAX, 1]);
        let half = ARRAY_MAX_BYTES / 2;
        assert_eq!(sizes(&[half - 2, half - 2, 1]), [2, 1]);
        assert_eq!(sizes(&[half, half, ARRAY_MAX_BYTES * 2, 1]), [1, 1, 1, 1]);
    }
}
