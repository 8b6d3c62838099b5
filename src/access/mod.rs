//! Who asks, and of what. The one place where a request is given its merchant (docs/decisions/0016): everything that is read,
//! followed or made is of that one. What came with a request is judged here and goes no further: no log, metric or answer
//! ever has a key or a token in it.
//!
//! | who | shows | may |
//! |---|---|---|
//! | a merchant's backend | `Authorization: Bearer plk_...` | all that is the merchant's |
//! | a browser | a stream token: as `Bearer`, in a cookie, or a ticket for it in the URL of a stream | read and follow the one payment or customer that it names, until its end; subscribe a browser to it, which ends by itself (docs/push.md) |
//! | an operator | `Authorization: Bearer plo_...` | `/v1/operator/` |
//! | whoever is on this machine | nothing, where that is allowed ([`Door`]) | what the merchant `default` and an operator may |

mod api_key;
mod args;
mod caller;
pub mod custody;
mod door;
mod open;
mod refusal;
mod ticket;
mod token;

use std::time::Duration;

use warp::http::HeaderMap;
use warp::http::header::{AUTHORIZATION, COOKIE};

pub use api_key::ApiKey;
pub use args::AccessArgs;
pub use caller::{Caller, Follower, Permit};
pub use door::{Door, WithoutKey};
pub use open::open_to_origins;
pub use token::{LIFETIME, LIFETIME_MAX, NO_KEY, Named, TICKET_LIFETIME, Tokens};

use crate::clock::Clocks;
use crate::control::{Holder, Key, KeyId, Keys};
use crate::http::Problem;
use crate::payment::{MerchantId, Timestamp};
use ticket::Tickets;
use token::{Grant, Use};

/// Where a browser has its stream token: out of reach of scripts, and sent to no other site.
pub const COOKIE_NAME: &str = "__Secure-paylog-stream";

pub struct Access {
    keys: Keys,
    tokens: Option<Tokens>,
    tickets: Tickets,
    door: Door,
    clocks: Clocks,
}

/// A stream token or a ticket, as it is given out.
pub struct Issued {
    text: String,
    pub expires_at: Timestamp,
}

/// What a request shows.
enum Shown<'a> {
    Nothing,
    Key(&'a str),
    Token(&'a str),
}

impl Issued {
    /// The token itself: for whoever asked for it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

impl Access {
    /// `tokens` is `None` where there is nothing to sign with.
    #[must_use]
    pub fn new(keys: Keys, tokens: Option<Tokens>, door: Door, clocks: Clocks) -> Self {
        Self { keys, tokens, tickets: Tickets::default(), door, clocks }
    }

    #[cfg(test)]
    pub(crate) fn of_a_test() -> Self {
        let door = Door { loopback: true, without_key: WithoutKey::Always };
        Self::new(Keys::default(), None, door, Clocks::system())
    }

    /// A key of this process, which stands on no log and ends with it: to try things out with.
    #[must_use]
    pub fn demo_key(&self) -> ApiKey {
        let holder = Holder::Merchant(MerchantId::default());
        let key = ApiKey::generate(&holder);
        self.keys.tell(Key::of_this_process(key.id.clone(), holder, key.digest, self.clocks.machine()));
        key
    }

    /// Who asks for something of a merchant's.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        match shown(headers)? {
            Shown::Key(text) => self.merchant(text),
            Shown::Token(text) => self.token_holder(text),
            Shown::Nothing => match cookie(headers) {
                Some(token) => self.token_holder(token),
                None => self.nobody(headers),
            },
        }
    }

    /// The same, of a stream, which may be asked for with a ticket. That is taken only if `admit` has a place for the caller:
    /// who is turned away comes back with it.
    pub fn follower<P>(
        &self,
        headers: &HeaderMap,
        ticket: Option<&str>,
        admit: impl FnOnce(&Caller) -> Result<P, Problem>,
    ) -> Result<(Caller, Result<P, Problem>), Problem> {
        let Some(ticket) = ticket else {
            let caller = self.caller(headers)?;
            let place = admit(&caller);
            return Ok((caller, place));
        };
        if headers.contains_key(AUTHORIZATION) {
            return Err(refusal::malformed("give Authorization or a ticket, not both"));
        }
        let (caller, grant) = self.granted(Use::Ticket, ticket)?;
        let place = admit(&caller);
        if place.is_ok() {
            self.tickets.take(&grant.jti, self.now_s()).map_err(|why| refusal::ticket_not_taken(&why))?;
        }
        Ok((caller, place))
    }

    /// Is it an operator?
    pub fn operator(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match shown(headers)? {
            Shown::Key(text) => match self.known(text)?.holder {
                Holder::Operator => Ok(()),
                Holder::Merchant(_) => Err(refusal::for_operators()),
            },
            Shown::Token(_) => Err(refusal::for_operators()),
            Shown::Nothing => self.door.is_here(headers).map_err(refusal::no_operator),
        }
    }

    // === what is shown ===

    fn merchant(&self, text: &str) -> Result<Caller, Problem> {
        let key = self.known(text)?;
        match &key.holder {
            Holder::Merchant(merchant) => {
                Ok(Caller::new(merchant.clone(), None, self.permit(Some(key.id.clone()), None)))
            }
            Holder::Operator => Err(refusal::for_merchants()),
        }
    }

    /// The key, if it is one that is good now.
    fn known(&self, text: &str) -> Result<std::sync::Arc<Key>, Problem> {
        let presented = api_key::parse(text).map_err(|_| refusal::not_whole())?;
        // The id is no secret; that the rest is right is compared in constant time.
        let key = self.keys.find(&presented.id).filter(|key| key.digest == presented.digest);
        let key = key.ok_or_else(refusal::unknown_key)?;
        match &key.revoked {
            Some(_) => Err(refusal::revoked_key()),
            None if !key.is_good(self.clocks.machine()) => Err(refusal::expired_key()),
            None => Ok(key),
        }
    }

    fn token_holder(&self, text: &str) -> Result<Caller, Problem> {
        self.granted(Use::Token, text).map(|(caller, _)| caller)
    }

    fn granted(&self, kind: Use, text: &str) -> Result<(Caller, Grant), Problem> {
        let tokens = self.tokens.as_ref().ok_or_else(|| refusal::bad_token(&token::BadToken::Invalid))?;
        let grant = tokens.read(kind, text).map_err(|bad| refusal::bad_token(&bad))?;
        let key = match grant.client.as_str() {
            NO_KEY => None,
            id => Some(KeyId::parse(id).ok_or_else(|| refusal::bad_token(&token::BadToken::Invalid))?),
        };
        let good = |id: &KeyId| self.keys.find(id).is_some_and(|key| key.is_good(self.clocks.machine()));
        let ends_at = seconds(grant.ends_at_s);
        let permit = self.permit(key, ends_at);
        if permit.key.as_ref().is_some_and(|id| !good(id)) || ends_at.is_none_or(|end| end <= self.clocks.machine()) {
            return Err(permit.problem());
        }
        Ok((Caller::new(grant.merchant.clone(), Some(grant.named.clone()), permit), grant))
    }

    fn nobody(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        self.door.is_here(headers).map_err(refusal::no_key)?;
        if self.door.without_key == WithoutKey::UntilThereIsOne && self.keys.ever_any() {
            return Err(refusal::there_are_keys());
        }
        Ok(Caller::new(MerchantId::default(), None, self.permit(None, None)))
    }

    fn permit(&self, key: Option<KeyId>, ends_at: Option<Timestamp>) -> Permit {
        Permit { keys: self.keys.clone(), clocks: self.clocks.clone(), key, ends_at }
    }

    // === what is given out ===

    /// A stream token for something of this merchant's: 403 for who has one already, 501 where nothing can be signed.
    pub fn issue(&self, caller: &Caller, named: Named, lifetime: Duration) -> Result<Issued, Problem> {
        let merchant = caller.merchant()?.clone();
        let client = caller.permit().key.as_ref().map_or(NO_KEY, KeyId::as_str).to_owned();
        let ends_at_s = self.now_s().saturating_add(lifetime.min(LIFETIME_MAX).as_secs());
        self.sign(Use::Token, &Grant { merchant, named, client, ends_at_s, jti: jti() }, ends_at_s)
    }

    /// A ticket for what a stream token opens, which comes as `Bearer`.
    pub fn ticket(&self, headers: &HeaderMap) -> Result<Issued, Problem> {
        let (_, grant) = self.bearer_token(headers)?;
        let ends_at_s = grant.ends_at_s.min(self.now_s().saturating_add(TICKET_LIFETIME.as_secs()));
        self.sign(Use::Ticket, &Grant { jti: jti(), ..grant }, ends_at_s)
    }

    /// The stream token that came as `Bearer`, as the value of a cookie, and for how long.
    pub fn cookie(&self, headers: &HeaderMap) -> Result<(Issued, Duration), Problem> {
        let (text, grant) = self.bearer_token(headers)?;
        let lasts = Duration::from_secs(grant.ends_at_s.saturating_sub(self.now_s()));
        let expires_at = seconds(grant.ends_at_s).unwrap_or(Timestamp::MAX);
        Ok((Issued { text: text.to_owned(), expires_at }, lasts))
    }

    fn bearer_token<'a>(&self, headers: &'a HeaderMap) -> Result<(&'a str, Grant), Problem> {
        let tokens = self.tokens.as_ref().ok_or_else(refusal::no_tokens)?;
        match shown(headers)? {
            Shown::Token(text) => {
                // As for a stream: that the key behind it is good too.
                self.token_holder(text)?;
                Ok((text, tokens.read(Use::Token, text).map_err(|bad| refusal::bad_token(&bad))?))
            }
            Shown::Key(_) => Err(refusal::bad_token(&token::BadToken::Invalid)),
            Shown::Nothing => Err(refusal::token_needed()),
        }
    }

    fn sign(&self, kind: Use, grant: &Grant, ends_at_s: u64) -> Result<Issued, Problem> {
        let tokens = self.tokens.as_ref().ok_or_else(refusal::no_tokens)?;
        let text = tokens.sign(kind, grant, self.now_s()).map_err(|_| {
            tracing::error!("a stream token cannot be signed");
            Problem::internal()
        })?;
        Ok(Issued { text, expires_at: seconds(ends_at_s).unwrap_or(Timestamp::MAX) })
    }

    fn now_s(&self) -> u64 {
        u64::try_from(self.clocks.machine().as_micros() / 1_000_000).unwrap_or(0)
    }
}

fn jti() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn seconds(since_1970: u64) -> Option<Timestamp> {
    Timestamp::from_micros(i64::try_from(since_1970).ok()?.checked_mul(1_000_000)?)
}

/// What is in `Authorization`. A scheme that we do not know is refused, not passed over: somebody believes to be known.
fn shown(headers: &HeaderMap) -> Result<Shown<'_>, Problem> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = match (all.next(), all.next()) {
        (None, _) => return Ok(Shown::Nothing),
        (Some(_), Some(_)) => return Err(refusal::malformed("there must be one header Authorization")),
        (Some(value), None) => value.to_str().unwrap_or_default(),
    };
    let credential = match value.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => return Err(refusal::malformed("Authorization must be Bearer and a key or a token")),
    };
    Ok(if api_key::is_key(credential) { Shown::Key(credential) } else { Shown::Token(credential) })
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
