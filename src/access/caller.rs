//! Who asks, once that is known: a merchant, or somebody to whom a merchant has shown a part of what it has; and for how long.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::refusal;
use super::token::Named;
use crate::clock::Clocks;
use crate::control::{KeyId, Keys};
use crate::http::Problem;
use crate::payment::{CustomerId, MerchantId, Payment, PaymentId, Timestamp};
use crate::projection::Scope;

/// How far ahead an end is looked for at once, so that no clock that is set makes it late by more.
const LOOK_AHEAD: Duration = Duration::from_secs(60);

/// Whose streams are counted together: all of a merchant, and of these all to whom tokens show the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Follower {
    Merchant(MerchantId),
    Named(MerchantId, Named),
}

#[derive(Clone)]
pub struct Caller {
    merchant: MerchantId,
    /// `None` is all that the merchant has.
    named: Option<Named>,
    permit: Permit,
}

/// For how long somebody may go on who was let in.
#[derive(Clone)]
pub struct Permit {
    pub(super) keys: Keys,
    pub(super) clocks: Clocks,
    /// What it hangs on; `None` hangs on no key.
    pub(super) key: Option<KeyId>,
    /// The end of its token.
    pub(super) ends_at: Option<Timestamp>,
}

impl Caller {
    pub(super) fn new(merchant: MerchantId, named: Option<Named>, permit: Permit) -> Self {
        Self { merchant, named, permit }
    }

    #[cfg(test)]
    pub(crate) fn of(merchant: MerchantId) -> Self {
        Self::until(merchant, None)
    }

    /// One whose token ends then.
    #[cfg(test)]
    pub(crate) fn until(merchant: MerchantId, ends_at: Option<Timestamp>) -> Self {
        let permit = Permit { keys: Keys::default(), clocks: Clocks::system(), key: None, ends_at };
        Self { merchant, named: None, permit }
    }

    /// The merchant itself; 403 for somebody with a stream token.
    pub fn merchant(&self) -> Result<&MerchantId, Problem> {
        match self.named {
            None => Ok(&self.merchant),
            Some(_) => Err(refusal::not_named()),
        }
    }

    /// What a stream token names; `None` for the merchant itself.
    #[must_use]
    pub fn named(&self) -> Option<&Named> {
        self.named.as_ref()
    }

    /// Of what was asked for, a customer's or all of the merchant's: 403 if that is more than was named.
    pub fn scope(&self, customer: Option<CustomerId>) -> Result<Scope, Problem> {
        let named = match &self.named {
            None => true,
            Some(Named::Customer(named)) => customer.as_ref() == Some(named),
            Some(Named::Payment(_)) => false,
        };
        if named { Ok(Scope { merchant: self.merchant.clone(), customer }) } else { Err(refusal::not_named()) }
    }

    /// 403 for another payment than the one that was named, whether it is there or not.
    pub fn may_ask(&self, id: PaymentId) -> Result<(), Problem> {
        match self.named {
            Some(Named::Payment(named)) if named != id => Err(refusal::not_named()),
            _ => Ok(()),
        }
    }

    /// Is it one that this caller may see? One that is not is answered like one that is not there.
    #[must_use]
    pub fn sees(&self, payment: &Payment) -> bool {
        let begun = &payment.initiation;
        begun.merchant_id == self.merchant
            && match &self.named {
                None => true,
                Some(Named::Customer(customer)) => begun.customer_id == *customer,
                Some(Named::Payment(id)) => payment.id == *id,
            }
    }

    /// As whom it is counted. Nobody, if nothing was shown: it is on this machine.
    #[must_use]
    pub fn followers(&self) -> Vec<Follower> {
        if self.permit.is_endless() {
            return Vec::new();
        }
        let named = self.named.clone().map(|named| Follower::Named(self.merchant.clone(), named));
        named.into_iter().chain([Follower::Merchant(self.merchant.clone())]).collect()
    }

    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl Permit {
    /// Can it end at all?
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.key.is_none() && self.ends_at.is_none()
    }

    /// Returns when it has ended: with the token, with the key that the token was asked for with, or with the key itself.
    pub async fn ended(self) {
        if self.is_endless() {
            return std::future::pending().await;
        }
        let mut changes = self.keys.changes();
        loop {
            changes.mark_unchanged();
            let Some(left) = self.left() else { return };
            let look = sleep_until(Instant::now() + left.min(LOOK_AHEAD));
            tokio::select! {
                () = look => {}
                // The sender is in `self.keys`, so that this waits for nothing else.
                _ = changes.changed() => {}
            }
        }
    }

    /// Why it has, for who is told.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let now = self.clocks.machine();
        match self.key.as_ref().and_then(|id| self.keys.find(id)) {
            Some(key) if key.revoked.is_some() => refusal::revoked_key(),
            Some(key) if !key.is_good(now) => refusal::expired_key(),
            _ => refusal::token_expired(),
        }
    }

    /// `None` if there is nothing left.
    fn left(&self) -> Option<Duration> {
        let now = self.clocks.machine();
        let mut ends_at = self.ends_at;
        if let Some(id) = &self.key {
            let key = self.keys.find(id).filter(|key| key.is_good(now))?;
            ends_at = ends_at.into_iter().chain(key.expires_at).min();
        }
        match ends_at {
            None => Some(LOOK_AHEAD),
            Some(end) if end > now => Some(end.since(now)),
            Some(_) => None,
        }
    }
}
