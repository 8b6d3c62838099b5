//! Names of what stands on the control log, as they are given out.

use std::fmt;

use crate::payment::Timestamp;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            #[must_use]
            pub fn mint() -> Self {
                Self(uuid::Uuid::now_v7().into_bytes())
            }

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

impl RequestId {
    /// By the clock of who asked: it begins with the time.
    #[must_use]
    pub fn minted_at(self) -> Timestamp {
        let [a, b, c, d, e, f, ..] = self.0;
        let ms = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        Timestamp::from_micros(ms.saturating_mul(1_000)).unwrap_or(Timestamp::MIN)
    }
}
