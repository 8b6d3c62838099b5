//! A custom topic of Azure Event Grid that takes CloudEvents 1.0: one POST of an array, with the topic's access key.

use reqwest::{StatusCode, Url};

use super::attempt::{Attempts, Sent};
use super::client::{Answer, Post};
use super::message::Unsendable;
use crate::contract::CLOUD_EVENT_BATCH;
use crate::control::KnownEndpoint;
use crate::deliveries::Due;
use crate::deliveries::outcome::Failure;

/// The one of custom topics that there is.
const API_VERSION: (&str, &str) = ("api-version", "2018-01-01");

impl Attempts {
    pub async fn event_grid(&self, due: &Due, known: &KnownEndpoint) -> Result<Sent, Unsendable> {
        let body = format!("[{}]", self.cloud_event(due)?.json).into_bytes();
        let Some(url) = address(&known.endpoint.url) else {
            return Ok(Sent { answer: Answer::without(Failure::NotSendable), until: None });
        };
        let credential = self.credential(known)?;
        let headers = [("content-type", CLOUD_EVENT_BATCH), ("aeg-sas-key", credential.as_str())];
        let answer = self.client.send(Post { url: &url, headers: &headers, body, judge }).await;
        Ok(Sent { answer, until: None })
    }
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

    use super::{address, judge};
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
}
