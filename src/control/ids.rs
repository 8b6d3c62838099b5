//! Names of what stands on the control log, as they are given out.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::payment::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let hex = text.strip_prefix($prefix).filter(|hex| hex.len() == 32)?;
                Some(Self(data_encoding::HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no id of ours"))
            }
        }
    };
}

id!(
    /// Names one endpoint for ever.
    EndpointId,
    "we_"
);
id!(
    /// Names one request about deliveries.
    RequestId,
    "wr_"
);
id!(
    /// Names one browser's subscription to one payment or customer.
    SubscriptionId,
    "ps_"
);

/// Who is told of payments.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetId {
    Endpoint(EndpointId),
    Subscription(SubscriptionId),
}

impl EndpointId {
    #[must_use]
    pub fn mint() -> Self {
        Self(uuid::Uuid::now_v7().into_bytes())
    }
}

impl SubscriptionId {
    /// The same browser for the same of one merchant is one subscription, whichever instance is asked and however often.
    #[must_use]
    pub fn of(merchant: &str, scope: &str, endpoint: &str) -> Self {
        let mut digest = Sha256::new_with_prefix(b"paylog/push-subscription/1");
        for part in [merchant, scope, endpoint] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest: [u8; 32] = digest.finalize().into();
        Self(std::array::from_fn(|i| digest[i]))
    }
}

impl TargetId {
    pub const BYTES: usize = 17;

    /// As it stands in keys of rows.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let (kind, id) = match self {
            Self::Endpoint(EndpointId(id)) => (0, id),
            Self::Subscription(SubscriptionId(id)) => (1, id),
        };
        std::array::from_fn(|i| if i == 0 { kind } else { id[i - 1] })
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let id = std::array::from_fn(|i| bytes[i + 1]);
        match bytes[0] {
            0 => Some(Self::Endpoint(EndpointId(id))),
            1 => Some(Self::Subscription(SubscriptionId(id))),
            _ => None,
        }
    }

    #[must_use]
    pub fn endpoint(self) -> Option<EndpointId> {
        match self {
            Self::Endpoint(id) => Some(id),
            Self::Subscription(_) => None,
        }
    }
}

impl From<EndpointId> for TargetId {
    fn from(id: EndpointId) -> Self {
        Self::Endpoint(id)
    }
}

impl From<SubscriptionId> for TargetId {
    fn from(id: SubscriptionId) -> Self {
        Self::Subscription(id)
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(id) => fmt::Display::fmt(id, f),
            Self::Subscription(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl fmt::Debug for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RequestId {
    #[must_use]
    pub fn mint() -> Self {
        Self(uuid::Uuid::now_v7().into_bytes())
    }

    /// By the clock of who asked: it begins with the time.
    #[must_use]
    pub fn minted_at(self) -> Timestamp {
        let [a, b, c, d, e, f, ..] = self.0;
        let ms = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Timestamp::from_micros(ms.saturating_mul(1_000)).unwrap_or(Timestamp::MIN)
    }
}
