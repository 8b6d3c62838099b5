//! stripe-mock: Stripe's own, which checks a request against Stripe's OpenAPI description and answers with a fixture. It
//! keeps nothing, so that it cannot judge idempotency; but it knows what a well-formed request is, and we did not write it.

use paylog::gateway::{Inquiry, Outcome};

use crate::provider::{charge, client};

fn url() -> String {
    std::env::var("PAYLOG_TEST_STRIPE_MOCK")
        .expect("PAYLOG_TEST_STRIPE_MOCK is not set: start a stripe-mock, and give its http:// address")
}

#[tokio::test]
#[ignore = "needs stripe-mock: see CONTRIBUTING.md"]
async fn stripe_s_own_description_accepts_our_requests() {
    let client = client(&url(), &[]);
    let charge = charge("order-1001", "pm_card_visa");
    // Accepted, and understood; but its fixture is the intent of somebody else, whatever it is asked.
    let outcome = client.charge(charge.clone()).await;
    assert_eq!(outcome, Outcome::Unknown { reason: "a decline of another payment".to_owned(), answered: true });
    assert_eq!(client.inquire(charge).await, Inquiry::NotFound, "the list was read, and nothing in it is ours");
    // A refused search would have gone unnoticed: the list answers in its place.
    let search =
        format!("{}/v1/payment_intents/search?query=metadata%5B%27payment_id%27%5D%3A%27pay_1%27&limit=100", url());
    let answer = reqwest::Client::new().get(search).bearer_auth("sk_test_1").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
#[ignore = "needs stripe-mock: see CONTRIBUTING.md"]
async fn it_would_refuse_a_request_with_a_mistake_in_it() {
    let http = reqwest::Client::new();
    let request = http.post(format!("{}/v1/payment_intents", url())).bearer_auth("sk_test_1");
    let answer = request.body("amout=1999&currency=eur").send().await.unwrap();
    assert_eq!(answer.status(), 400, "or the test above shows nothing");
}
