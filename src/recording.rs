//! An event as it is appended: its key, its headers and its bytes are made here and nowhere else, whoever writes it.

use crate::journal::{NewRecord, Partition};
use crate::payment::Event;
use crate::schema::{Codec, DecodeError, headers};

/// The record of `event` on its payment's `partition`. `traceparent` is the one that its cause came with.
///
/// # Errors
///
/// [`DecodeError::TooLarge`] and [`DecodeError::Invalid`], as [`Codec::encode`] gives them.
pub fn event_record(
    event: &Event,
    partition: Partition,
    codec: &Codec,
    traceparent: Option<&str>,
) -> Result<NewRecord, DecodeError> {
    let (key, value) = (event.payment_id.to_string().into_bytes(), codec.encode(event)?);
    Ok(NewRecord { partition, key, headers: headers(codec, event, traceparent), value })
}
