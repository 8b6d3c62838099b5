//! What `pay` and `tail` can be told.

use clap::Args;

use crate::config::ClientArgs;

#[derive(Debug, Args)]
pub struct PayArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// In minor units: 1999 is 19.99 EUR.
    #[arg(long, allow_hyphen_values = true)]
    pub amount: i64,
    #[arg(long, default_value = "EUR")]
    pub currency: String,
    #[arg(long, default_value = "cus_42")]
    pub customer: String,
    /// A token of the gateway.
    #[arg(long, default_value = "pm_card_visa")]
    pub method: String,
    /// The idempotency key; a random one if it is left out.
    #[arg(long)]
    pub key: Option<String>,
    /// Wait for the end, this many seconds at most.
    #[arg(long)]
    pub wait: Option<u32>,
}

#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// One payment, until it has ended; without it and without --customer, all payments.
    #[arg(long, conflicts_with = "customer")]
    pub payment: Option<String>,
    /// All payments of one customer.
    #[arg(long)]
    pub customer: Option<String>,
    /// Go on after this id.
    #[arg(long)]
    pub last_event_id: Option<String>,
}
