//! The provider's books: every key, what was charged under it, and every payment intent. Pure: given what is asked and the
//! time, it says what is answered and what has changed; `ledger` keeps it on the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use data_encoding::{BASE32HEX_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Manner};
use super::fault::{Fault, Rates};
use super::intent::{Decline, Intent, Status, Token};
use super::request::Request;
use crate::payment::Timestamp;

/// Different bodies that are remembered for one key. More than one is already wrong.
const DIGESTS_MAX: usize = 16;
/// Of a charge with the metadata of another payment.
const ANOTHER_PAYMENT: &str = "pay_aaaaaaaaaaaaaaaaaaaaaaaaaa";

#[derive(Clone, Debug)]
pub struct Terms {
    pub rates: Rates,
    /// For how long a key is recognised; used again after that, it charges again.
    pub key_window: Duration,
    pub delay: Duration,
    pub late: Duration,
    /// How long after it was made an intent is not yet found in lists and searches.
    pub listing_lag: Duration,
}

/// All that happened under one key.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Account {
    pub requests: u32,
    /// SHA-256 of each different body, in the order of their first coming.
    pub bodies: Vec<[u8; 32]>,
    pub intents: Vec<String>,
    stored: Option<Stored>,
    /// Of the first request that made sense.
    asked: Option<(i64, String)>,
}

/// What a repeat is answered with.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Stored {
    first_used: Timestamp,
    /// A request before then comes while the first is still being worked on.
    done: Timestamp,
    parameters: [u8; 32],
    reply: Reply,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Reply {
    /// As it was then.
    Intent(String, Status),
    Failed,
}

/// What is to be written before anything is answered.
#[derive(Debug, Default)]
pub struct Changes {
    pub accounts: BTreeSet<String>,
    pub intents: BTreeSet<String>,
}

pub struct Book {
    pub terms: Terms,
    accounts: BTreeMap<String, Account>,
    intents: HashMap<String, Intent>,
    by_time: BTreeSet<(Timestamp, String)>,
    by_payment: HashMap<String, Vec<String>>,
}

impl Book {
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        let (accounts, intents) = (BTreeMap::new(), HashMap::new());
        Self { terms, accounts, intents, by_time: BTreeSet::new(), by_payment: HashMap::new() }
    }

    /// From the disk.
    pub fn restore(&mut self, key: String, account: Account) {
        self.accounts.insert(key, account);
    }

    pub fn keep(&mut self, intent: Intent) {
        self.by_time.insert((intent.created, intent.id.clone()));
        if let Some(payment) = intent.metadata.get("payment_id") {
            self.by_payment.entry(payment.clone()).or_default().push(intent.id.clone());
        }
        self.intents.insert(intent.id.clone(), intent);
    }

    #[must_use]
    pub fn account(&self, key: &str) -> Option<&Account> {
        self.accounts.get(key)
    }

    #[must_use]
    pub fn intent(&self, id: &str) -> Option<&Intent> {
        self.intents.get(id)
    }

    /// The accounts after `key`, in the order of their keys.
    pub fn accounts_after(&self, key: Option<&str>) -> impl Iterator<Item = (&String, &Account)> {
        let from = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.accounts.range::<str, _>((from, Bound::Unbounded))
    }

    /// Those made since `from` and before the one that is named, newest first.
    pub fn newest_first(
        &self,
        from: Timestamp,
        before: Option<&Intent>,
        now: Timestamp,
    ) -> impl Iterator<Item = &Intent> {
        let end = before.map_or(Bound::Unbounded, |i| Bound::Excluded((i.created, i.id.clone())));
        let start = (from, String::new());
        // A range that ends before it begins panics.
        let empty = before.is_some_and(|i| (i.created, &i.id) <= (start.0, &start.1));
        let range = (!empty).then(|| self.by_time.range((Bound::Included(start), end)).rev());
        range.into_iter().flatten().filter_map(|(_, id)| self.intents.get(id)).filter(move |i| i.listed_from <= now)
    }

    /// The intents that name this payment in their metadata.
    pub fn of_payment(&self, payment: &str, now: Timestamp) -> impl Iterator<Item = &Intent> {
        let ids = self.by_payment.get(payment).into_iter().flatten();
        ids.filter_map(|id| self.intents.get(id)).filter(move |i| i.listed_from <= now)
    }

    /// One `POST /v1/payment_intents`. `body` is what came, `request` what it was understood as.
    pub fn charge(
        &mut self,
        key: &str,
        body: &[u8],
        request: Result<Request, Answer>,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Answer {
        changes.accounts.insert(key.to_owned());
        let nth = self.saw(key, body);
        let request = match request {
            Ok(request) => request,
            Err(refusal) => return refusal,
        };
        let fault = self.terms.rates.fault(&request.payment_method, key, nth).filter(|_| self.would_go_well(&request));
        if let Some(refusal) = fault.and_then(turned_away) {
            return refusal;
        }
        let manner = fault.map_or(Manner::Whole, Manner::of);
        match self.stored(key, now) {
            Some(stored) if stored.parameters != request.parameters => Answer::another_request(),
            Some(stored) if now < stored.done => Answer::in_progress(),
            Some(stored) => Answer { replayed: true, ..self.told(&stored.reply) }.in_manner(manner),
            None => self.execute(&request, fault, now, changes).in_manner(match fault {
                Some(Fault::Delay) => Manner::After(self.terms.delay),
                _ => manner,
            }),
        }
    }

    /// Counts a request, whatever comes of it, and says the how manieth it was.
    fn saw(&mut self, key: &str, body: &[u8]) -> u32 {
        let account = self.accounts.entry(key.to_owned()).or_default();
        account.requests += 1;
        let digest = Sha256::digest(body).into();
        if !account.bodies.contains(&digest) && account.bodies.len() < DIGESTS_MAX {
            account.bodies.push(digest);
        }
        account.requests
    }

    fn would_go_well(&self, request: &Request) -> bool {
        matches!(Token::read(&request.payment_method), Token::Good)
    }

    fn stored(&self, key: &str, now: Timestamp) -> Option<&Stored> {
        let stored = self.accounts.get(key)?.stored.as_ref()?;
        (now.since(stored.first_used) < self.terms.key_window).then_some(stored)
    }

    fn told(&self, reply: &Reply) -> Answer {
        match reply {
            Reply::Failed => Answer::failed(),
            Reply::Intent(id, status) => match self.intents.get(id) {
                Some(intent) => told(intent, *status),
                None => Answer::failed(),
            },
        }
    }

    fn execute(&mut self, request: &Request, fault: Option<Fault>, now: Timestamp, changes: &mut Changes) -> Answer {
        let decline = match Token::read(&request.payment_method) {
            Token::Unknown => {
                let message = format!("No such PaymentMethod: '{}'", request.payment_method);
                return Answer::invalid("resource_missing", "payment_method", &message);
            }
            Token::Declined(decline) => Some(decline),
            Token::Good if matches!(fault, Some(Fault::Decline | Fault::Flip)) => Some(Decline::generic()),
            Token::Good => None,
        };
        let copies = match fault {
            Some(Fault::Error500Forever) => 0,
            Some(Fault::DoubleCharge) => 2,
            _ => 1,
        };
        let mut first = None;
        for _ in 0..copies {
            let intent = self.intent_for(request, fault, decline.clone(), now);
            changes.intents.insert(intent.id.clone());
            first.get_or_insert_with(|| Reply::Intent(intent.id.clone(), intent.status));
            let account = self.accounts.entry(request.key.clone()).or_default();
            account.intents.push(intent.id.clone());
            self.keep(intent);
        }
        let reply = match fault {
            Some(Fault::Error500AfterCharge) => Reply::Failed,
            _ => first.unwrap_or(Reply::Failed),
        };
        let answer = if fault == Some(Fault::InProgress) { Answer::in_progress() } else { self.told(&reply) };
        let done = now.plus(self.time_of(fault));
        let account = self.accounts.entry(request.key.clone()).or_default();
        account.asked.get_or_insert_with(|| (request.amount, request.currency.to_uppercase()));
        account.stored = Some(Stored { first_used: now, done, parameters: request.parameters, reply });
        answer
    }

    /// How long it takes this request to be worked on.
    fn time_of(&self, fault: Option<Fault>) -> Duration {
        match fault {
            Some(Fault::Delay) => self.terms.delay,
            Some(Fault::InProgress) => self.terms.late,
            _ => Duration::ZERO,
        }
    }

    fn intent_for(&self, request: &Request, fault: Option<Fault>, decline: Option<Decline>, now: Timestamp) -> Intent {
        let late = matches!(fault, Some(Fault::LateSuccess | Fault::Flip)).then(|| now.plus(self.terms.late));
        let status = match (&decline, fault) {
            (Some(_), _) => Status::RequiresPaymentMethod,
            (None, Some(Fault::LateSuccess)) => Status::Processing,
            (None, _) => Status::Succeeded,
        };
        let mut intent = Intent {
            id: self.new_id(&request.key),
            key: request.key.clone(),
            created: now,
            amount: request.amount,
            currency: request.currency.clone(),
            payment_method: request.payment_method.clone(),
            metadata: request.metadata.clone(),
            status,
            decline,
            succeeds_at: late,
            listed_from: now.plus(self.terms.listing_lag.max(self.time_of(fault))),
        };
        match fault {
            Some(Fault::WrongAmount) => intent.amount += 1,
            Some(Fault::WrongCurrency) => {
                let another = if intent.currency == "usd" { "eur" } else { "usd" };
                another.clone_into(&mut intent.currency);
            }
            Some(Fault::WrongReference) => {
                intent.metadata.insert("payment_id".to_owned(), ANOTHER_PAYMENT.to_owned());
            }
            _ => {}
        }
        intent
    }

    fn new_id(&self, key: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.accounts.get(key).map_or(0, |account| account.intents.len()).to_be_bytes());
        hash.update(key);
        format!("pi_{}", &BASE32HEX_NOPAD.encode(&hash.finalize())[..24])
    }
}

/// What never gets as far as to a key.
fn turned_away(fault: Fault) -> Option<Answer> {
    match fault {
        Fault::RateLimited => Some(Answer::rate_limited()),
        Fault::Transient | Fault::Unavailable => Some(Answer::unavailable()),
        Fault::Silent | Fault::Stall | Fault::Redirect => Some(Answer::nothing(Manner::of(fault))),
        _ => None,
    }
}

fn told(intent: &Intent, status: Status) -> Answer {
    match (&intent.decline, status) {
        (Some(decline), Status::RequiresPaymentMethod) => Answer::declined(decline, intent.body(status)),
        _ => Answer::new(200, intent.body(status)),
    }
}

/// This provider counts hundredths of ISK and UGX and whole MGA, as Stripe does; its ledger is told in ISO 4217's minor units.
fn in_iso_units(amount: i64, currency: &str) -> i64 {
    match currency {
        "ISK" | "UGX" => amount / 100,
        "MGA" => amount * 100,
        _ => amount,
    }
}

/// A line of `GET /ledger`.
#[derive(serde::Serialize)]
pub struct LedgerLine<'a> {
    key: &'a str,
    /// How often money was taken.
    charges: usize,
    amount: i64,
    currency: String,
    requests: u32,
    body_digests: Vec<String>,
    /// The charges.
    references: Vec<&'a str>,
    status: &'static str,
}

impl<'a> LedgerLine<'a> {
    #[must_use]
    pub fn new(book: &'a Book, key: &'a str, account: &'a Account, now: Timestamp) -> Self {
        let intents: Vec<&Intent> = account.intents.iter().filter_map(|id| book.intent(id)).collect();
        let taken: Vec<&Intent> = intents.iter().copied().filter(|i| i.status_at(now) == Status::Succeeded).collect();
        let told = taken.first().or(intents.first());
        let (amount, currency) = match (told, &account.asked) {
            (Some(intent), _) => (intent.amount, intent.currency.to_uppercase()),
            (None, Some((amount, currency))) => (*amount, currency.clone()),
            (None, None) => (0, String::new()),
        };
        Self {
            key,
            charges: taken.len(),
            amount: in_iso_units(amount, &currency),
            currency,
            requests: account.requests,
            body_digests: account.bodies.iter().map(|digest| HEXLOWER.encode(digest)).collect(),
            references: taken.iter().map(|intent| intent.id.as_str()).collect(),
            status: told.map_or("none", |intent| intent.status_at(now).name()),
        }
    }
}
