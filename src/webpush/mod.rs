//! Web Push as a protocol, pure: a browser's subscription as it is taken in, the key that its push service knows us by (VAPID,
//! RFC 8292), and a message that is encrypted for that browser alone (RFC 8291). It knows nothing of payments, logs and sockets.

mod args;
mod message;
mod subscription;
mod vapid;

pub use args::PushArgs;
pub use message::{PLAIN_MAX, Unencryptable, encrypt};
pub use subscription::Subscription;
pub use vapid::{Subject, VapidKey};

/// Base64 as the Push API has it: of URLs, without padding.
pub(crate) use data_encoding::BASE64URL_NOPAD as BASE64;
