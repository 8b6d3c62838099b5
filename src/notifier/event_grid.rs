//! A custom topic of Azure Event Grid that takes CloudEvents 1.0: one POST of an array, with the topic's access key. What is due at
//! one look goes in one request, and each event of it has an outcome of its own.

use reqwest::{StatusCode, Url};

use super::attempt::{Attempts, Sent};
use super::client::{Answer, Post};
use super::message::Unsendable;
use crate::contract::CLOUD_EVENT_BATCH;
use crate::control::{Credential, KnownEndpoint};
use crate::deliveries::Due;
use crate::deliveries::outcome::Failure;

/// The one of custom topics that there is.
const API_VERSION: (&str, &str) = ("api-version", "2018-01-01");
/// A topic takes an array of 1 MB, brackets, commas and all.
const ARRAY_MAX_BYTES: usize = 1_000_000;
/// Of which so many are sent at once; there are never more than may be on their way to one endpoint.
const EVENTS_MAX: usize = 100;

impl Attempts {
    pub async fn event_grid(&self, due: &Due, known: &KnownEndpoint) -> Result<Sent, Unsendable> {
        let event = self.cloud_event(due)?.json;
        Ok(sent(self.publish(&[&event], known).await?))
    }

    /// One for each, in their order.
    pub async fn event_grid_all(&self, all: &[Due], known: &KnownEndpoint) -> Vec<Result<Sent, Unsendable>> {
        let mut results: Vec<Option<Result<Sent, Unsendable>>> = all.iter().map(|_| None).collect();
        let mut events = Vec::new();
        for (index, due) in all.iter().enumerate() {
            match self.cloud_event(due) {
                Ok(event) => events.push((index, event.json)),
                Err(error) => results[index] = Some(Err(error)),
            }
        }
        for array in arrays(&events) {
            self.publish_each(array, known, &mut results).await;
        }
        results.into_iter().map(|result| result.unwrap_or(Err(Unsendable::NotThere))).collect()
    }

    async fn publish_each(
        &self,
        array: &[(usize, String)],
        known: &KnownEndpoint,
        results: &mut [Option<Result<Sent, Unsendable>>],
    ) {
        let events: Vec<&str> = array.iter().map(|(_, json)| json.as_str()).collect();
        let answer = self.publish(&events, known).await;
        // An array is taken or refused as one: which of its events it is for, each says by itself.
        let is_refused = |answer: &Answer| matches!(answer.failure, Some(Failure::Refused | Failure::TooLarge));
        if array.len() > 1 && answer.as_ref().is_ok_and(is_refused) {
            for (index, json) in array {
                results[*index] = Some(self.publish(&[json], known).await.map(sent));
            }
            return;
        }
        match answer {
            Ok(answer) => array.iter().for_each(|(index, _)| results[*index] = Some(Ok(sent(answer)))),
            // What this process cannot do for one of them it cannot for any.
            Err(error) => {
                let mut error = Some(error);
                for (index, _) in array {
                    results[*index] = Some(Err(error.take().unwrap_or(Unsendable::NoCredential)));
                }
            }
        }
    }

    async fn publish(&self, events: &[&str], known: &KnownEndpoint) -> Result<Answer, Unsendable> {
        let Some(url) = address(&known.endpoint.url) else { return Ok(Answer::without(Failure::NotSendable)) };
        let credential: Credential = self.credential(known)?;
        let body = format!("[{}]", events.join(",")).into_bytes();
        let headers = [("content-type", CLOUD_EVENT_BATCH), ("aeg-sas-key", credential.as_str())];
        Ok(self.client.send(Post { url: &url, headers: &headers, body, judge }).await)
    }
}

fn sent(answer: Answer) -> Sent {
    Sent { answer, until: None }
}

/// As few as they fit into; an event that is too large by itself goes by itself.
fn arrays(events: &[(usize, String)]) -> impl Iterator<Item = &[(usize, String)]> {
    let mut rest = events;
    std::iter::from_fn(move || {
        let mut bytes = "[]".len();
        let fits = rest.iter().take(EVENTS_MAX).take_while(|(_, json)| {
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
/// large, it will take so again. A key that is wrong, or a topic that is not there, somebody may set right.
fn judge(status: StatusCode) -> Option<Failure> {
    match status {
        status if status.is_success() => None,
        StatusCode::BAD_REQUEST => Some(Failure::Refused),
        StatusCode::PAYLOAD_TOO_LARGE => Some(Failure::TooLarge),
        status if status.is_redirection() => Some(Failure::Redirect),
        _ => Some(Failure::Status),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::{ARRAY_MAX_BYTES, EVENTS_MAX, address, arrays, judge};
    use crate::deliveries::outcome::Failure;

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
            (413, Some(Failure::TooLarge)),
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
            let events: Vec<_> = events.iter().enumerate().map(|(n, size)| (n, "x".repeat(*size))).collect();
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
