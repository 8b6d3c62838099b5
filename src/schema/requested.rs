//! `PaymentRequested`: what others write, on the topic of requests. Read only, and with suspicion.
//!
//! Its schemas are known by their fingerprint (Avro's single-object encoding). The frame of a registry names its schema by
//! a number that only the registry can explain, so without one such a record is of an unknown schema. With one, whoever writes
//! may have a schema of their own, as long as it can be read as ours (`schema/meaning.rs`).

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_avro_fast::de::{DeserializerConfig, DeserializerState, read::SliceRead};

use super::ids::{Asking, Ids, Meaning, NoWord, Standing};
use super::meaning::Known;
use super::{CONFLUENT, RECORD_MAX, SINGLE_OBJECT, bytes_left};
use crate::payment::request::{METADATA_ENTRIES_MAX, Unchecked};

const NAME: &str = "PaymentRequested";
pub(super) const FULL_NAME: &str = "paylog.PaymentRequested";

/// Between two looks whether the registry has been heard.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// Every `PaymentRequested` that was ever released. Only ever grows: these bytes are on the topics of others.
pub(super) const RELEASED: &[&str] = &[include_str!("../../schemas/PaymentRequested.avsc")];

/// A `PaymentRequested` as it was written: nothing in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    pub merchant_id: String,
    pub idempotency_key: String,
    pub payment: Unchecked,
}

/// Why bytes are not a `PaymentRequested`. The texts repeat nothing of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the first bytes are neither those of JSON nor of Avro's single-object encoding or a registry's frame")]
    UnknownFormat,
    #[error("the fingerprint of its schema is not that of a {NAME} that this version of paylog knows")]
    UnknownSchema,
    #[error("its schema is named by an id of a registry, and no registry is configured here")]
    NoRegistry,
    #[error("the schema registry has no schema with the id {0}")]
    NoSuchId(u32),
    #[error("the schema with the id {0} in the schema registry is of no use: {1}")]
    OtherSchema(u32, Arc<str>),
    /// The registry has not said what this id is. Never a verdict: want it, and look again.
    #[error("the schema registry has not said yet what its id {0} is")]
    NotRegistered(u32),
    #[error("the schema registry says nothing of its id {0}, and an operator has refused what is written by it")]
    RefusedId(u32),
    #[error("not a valid {NAME}: {0}")]
    Invalid(String),
}

/// How an id stands, for whoever is to decide about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdStanding {
    /// There is no registry here.
    NoRegistry,
    /// The registry has said what it is, or that there is none: what is written by it waits for nothing.
    Explained,
    /// It says nothing of this id, for this reason, and answers for others.
    Withheld(String),
    /// It does not answer, or has not yet.
    Away,
}

/// Reads requests in Avro.
pub struct RequestCodec {
    known: Arc<Known>,
    ids: Arc<Ids>,
}

impl RequestCodec {
    pub(super) fn new(known: Arc<Known>, ids: Arc<Ids>) -> Self {
        Self { known, ids }
    }

    /// What these bytes ask for, which were read at `read_at`. The caller has bounded them; nothing is allocated by what they
    /// claim.
    pub fn decode(&self, value: &[u8], read_at: Instant) -> Result<Requested, Unreadable> {
        let (schema, datum) = self.unframe(value, read_at)?;
        // More than one item for each byte is a claim, should a schema that lets it pass ever get by (`schema/meaning.rs`).
        let mut config = DeserializerConfig::new(&schema);
        config.max_seq_size = RECORD_MAX;
        let mut state = DeserializerState::with_config(SliceRead::new(datum), config);
        let record = Record::deserialize(state.deserializer()).map_err(|_| invalid("it is cut off or damaged"))?;
        if bytes_left(state.into_reader()) {
            return Err(invalid("bytes are left over after it"));
        }
        Ok(record.into())
    }

    /// Has the registry asked what this id is.
    pub fn want(&self, id: u32) {
        self.ids.want(id, false);
    }

    /// How it stands with this id, as far as it has been heard.
    #[must_use]
    pub fn standing(&self, id: u32) -> IdStanding {
        self.in_words_of_operators(self.ids.standing(id))
    }

    /// The same as the registry says it now, whatever it has said before; or when `patience` is over. It is asked for a while
    /// longer then: who inquires again finds an answer that came late.
    pub async fn inquire(&self, id: u32, patience: Duration) -> IdStanding {
        if self.ids.asking() == Asking::Nobody {
            return IdStanding::NoRegistry;
        }
        let until = Instant::now() + patience;
        let (since, mine) = self.ids.inquire(id);
        let heard = loop {
            let heard = self.ids.heard_since(id, since);
            if heard.is_some() || Instant::now() >= until {
                break heard;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        };
        if mine {
            self.ids.leave(id);
        }
        self.in_words_of_operators(heard.unwrap_or(Standing::Unasked))
    }

    fn in_words_of_operators(&self, standing: Standing) -> IdStanding {
        match standing {
            _ if self.ids.asking() == Asking::Nobody => IdStanding::NoRegistry,
            Standing::Known => IdStanding::Explained,
            Standing::NoWord(NoWord { reason, alone: true }) => IdStanding::Withheld(reason.to_string()),
            Standing::NoWord(_) | Standing::Unasked => IdStanding::Away,
        }
    }

    fn unframe<'v>(
        &self,
        value: &'v [u8],
        read_at: Instant,
    ) -> Result<(Arc<serde_avro_fast::Schema>, &'v [u8]), Unreadable> {
        let cut = || invalid("it is cut off before its schema's name ends");
        match value {
            [first, second, rest @ ..] if [*first, *second] == SINGLE_OBJECT => {
                let (fingerprint, datum) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
                let schema = self.known.requests.iter().find(|schema| schema.rabin_fingerprint() == fingerprint);
                Ok((Arc::clone(schema.ok_or(Unreadable::UnknownSchema)?), datum))
            }
            [CONFLUENT, rest @ ..] => {
                let (id, datum) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
                Ok((self.registered(u32::from_be_bytes(*id), read_at)?, datum))
            }
            _ => Err(Unreadable::UnknownFormat),
        }
    }

    /// Whoever writes registers first: that there is no such id is true of what was there when the registry was asked, and may
    /// not be of what came later.
    fn registered(&self, id: u32, read_at: Instant) -> Result<Arc<serde_avro_fast::Schema>, Unreadable> {
        match self.ids.meaning(id) {
            Some(Meaning::Request(schema)) => Ok(schema),
            Some(Meaning::Event(_)) => Err(Unreadable::OtherSchema(id, "it is of an event".into())),
            Some(Meaning::Other(reason)) => Err(Unreadable::OtherSchema(id, reason)),
            Some(Meaning::Missing { first, .. }) if first >= read_at => Err(Unreadable::NoSuchId(id)),
            None if self.ids.asking() == Asking::Nobody => Err(Unreadable::NoRegistry),
            Some(Meaning::Missing { .. }) | None if self.ids.is_refused(id) => Err(Unreadable::RefusedId(id)),
            Some(Meaning::Missing { .. }) | None => Err(Unreadable::NotRegistered(id)),
        }
    }
}

fn invalid(reason: &str) -> Unreadable {
    Unreadable::Invalid(reason.to_owned())
}

/// As the schema has it, borrowed from the record's bytes.
#[derive(Deserialize)]
struct Record<'a> {
    merchant_id: &'a str,
    idempotency_key: &'a str,
    amount: i64,
    currency: &'a str,
    customer_id: &'a str,
    payment_method: &'a str,
    description: Option<&'a str>,
    #[serde(borrow)]
    metadata: Option<Entries<'a>>,
}

/// The entries of a map in their order, a key given twice included.
struct Entries<'a>(Vec<(&'a str, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<'a>(std::marker::PhantomData<&'a str>);
        impl<'de: 'a, 'a> Visitor<'de> for EntriesVisitor<'a> {
            type Value = Entries<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    // One more than may be says that there are too many; the rest is only read past.
                    if entries.len() <= METADATA_ENTRIES_MAX {
                        entries.push(entry);
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor(std::marker::PhantomData))
    }
}

impl From<Record<'_>> for Requested {
    fn from(record: Record<'_>) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            merchant_id: record.merchant_id.to_owned(),
            idempotency_key: record.idempotency_key.to_owned(),
            payment: Unchecked {
                amount: record.amount,
                currency: record.currency.to_owned(),
                customer_id: record.customer_id.to_owned(),
                payment_method: record.payment_method.to_owned(),
                description: record.description.map(str::to_owned),
                metadata: record.metadata.map(|entries| entries.0.iter().map(owned).collect()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;

    use super::*;

    fn text(value: &str) -> Value {
        Value::String(value.to_owned())
    }

    fn optional(value: Option<Value>) -> Value {
        match value {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(value) => Value::Union(1, Box::new(value)),
        }
    }

    /// Written by another library than the one that reads it.
    fn datum(metadata: Option<Vec<(&str, &str)>>) -> Vec<u8> {
        let entries = |entries: Vec<(&str, &str)>| entries.into_iter().map(|(k, v)| (k.to_owned(), text(v))).collect();
        let description = metadata.as_ref().map(|_| text("Zwei Bücher"));
        let record = Value::Record(vec![
            ("merchant_id".to_owned(), text("acme")),
            ("idempotency_key".to_owned(), text("order-1001")),
            ("amount".to_owned(), Value::Long(1999)),
            ("currency".to_owned(), text("EUR")),
            ("customer_id".to_owned(), text("cus_42")),
            ("payment_method".to_owned(), text("pm_card_visa")),
            ("description".to_owned(), optional(description)),
            ("metadata".to_owned(), optional(metadata.map(|m| Value::Map(entries(m))))),
        ]);
        let schema = apache_avro::Schema::parse_str(RELEASED[0]).unwrap();
        GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap()
    }

    fn codec() -> RequestCodec {
        crate::schema::Codec::new().unwrap().requests()
    }

    fn framed(datum: &[u8]) -> Vec<u8> {
        [&SINGLE_OBJECT[..], codec().known.requests[0].rabin_fingerprint(), datum].concat()
    }

    fn decode(value: &[u8]) -> Result<Requested, Unreadable> {
        codec().decode(value, Instant::now())
    }

    #[test]
    fn what_others_wrote_is_read_and_stays_readable_for_ever() {
        let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas/golden-requests");
        for (i, metadata) in [None, Some(vec![("order", "1001")])].into_iter().enumerate() {
            let bytes = framed(&datum(metadata.clone()));
            let path = golden.join(format!("{NAME}-{i:02}.avro"));
            if std::env::var_os("PAYLOG_WRITE_GOLDEN").is_some() && !path.exists() {
                std::fs::write(&path, &bytes).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "{}", path.display());
            let read = decode(&bytes).unwrap();
            let owned = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
            assert_eq!(read.payment.metadata, metadata.map(|m| m.into_iter().map(owned).collect()));
            assert_eq!((read.merchant_id.as_str(), read.idempotency_key.as_str()), ("acme", "order-1001"));
            assert_eq!((read.payment.amount, read.payment.currency.as_str()), (1999, "EUR"));
        }
    }

    #[test]
    fn the_schema_is_the_one_that_another_implementation_names() {
        let ours = *codec().known.requests[0].rabin_fingerprint();
        let theirs = apache_avro::Schema::parse_str(RELEASED[0]).unwrap();
        assert_eq!(&ours[..], theirs.fingerprint::<apache_avro::rabin::Rabin>().bytes.as_slice());
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_told_apart() {
        let good = framed(&datum(Some(vec![("order", "1001"), ("note", "x")])));
        for len in 0..good.len() {
            match decode(&good[..len]) {
                Err(Unreadable::UnknownFormat) if len < 2 => {}
                Err(Unreadable::Invalid(_)) => {}
                other => panic!("cut at {len}: {other:?}"),
            }
        }
        assert!(matches!(decode(&[&good[..], &[0]].concat()), Err(Unreadable::Invalid(_))));
        let mut other = good.clone();
        other[2] ^= 1;
        assert!(matches!(decode(&other), Err(Unreadable::UnknownSchema)));
        assert_eq!(decode(&[0, 0, 0, 1, 2, 7]), Err(Unreadable::NoRegistry));
        assert_eq!(decode(b"plain text"), Err(Unreadable::UnknownFormat));
    }

    #[test]
    fn a_key_given_twice_is_seen_and_too_many_entries_are_not_kept() {
        // A map with one block of two entries, both with the key `a`.
        let entry = [2, b'a', 2, b'1'];
        let plain = datum(None);
        let twice = [&plain[..plain.len() - 1], &[2, 4], &entry, &entry, &[0]].concat();
        let pair = ("a".to_owned(), "1".to_owned());
        assert_eq!(decode(&framed(&twice)).unwrap().payment.metadata, Some(vec![pair.clone(), pair]));
        // 1,000 entries: zigzag of 1000 is 2000, which is 0xD0 0x0F.
        let many = [&plain[..plain.len() - 1], &[2, 0xD0, 0x0F], &entry.repeat(1000), &[0]].concat();
        let kept = decode(&framed(&many)).unwrap().payment.metadata.unwrap().len();
        assert_eq!(kept, METADATA_ENTRIES_MAX + 1);
    }

    #[test]
    fn five_bytes_that_ask_for_everything_get_nothing() {
        let bomb = framed(&[0xFE, 0xFF, 0xFF, 0xFF, 0x0F]);
        assert!(matches!(decode(&bomb), Err(Unreadable::Invalid(_))));
        let plain = datum(None);
        // A block that claims 2^31 entries, and has none.
        let claims = [&plain[..plain.len() - 1], &[2, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F]].concat();
        assert!(matches!(decode(&framed(&claims)), Err(Unreadable::Invalid(_))));
    }

    /// Whatever its schema would let pass.
    #[test]
    fn no_more_is_passed_over_than_a_record_has_bytes() {
        let codec = crate::schema::Codec::asking(Asking::Meanwhile).unwrap().requests();
        let mut schema: serde_json::Value = serde_json::from_str(RELEASED[0]).unwrap();
        let nulls = serde_json::json!({"name": "n", "type": {"type": "array", "items": "null"}});
        schema["fields"].as_array_mut().unwrap().insert(0, nulls);
        codec.ids.learn(7, Meaning::Request(Arc::new(schema.to_string().parse().unwrap())), 0);
        // Zigzag, in sevens of bits.
        let claims = |items: u32| {
            let n = items * 2;
            let count = [n as u8 | 0x80, (n >> 7) as u8 | 0x80, (n >> 14) as u8 & 0x7F];
            [&[0, 0, 0, 0, 7], &count[..], &[0], &datum(None)].concat()
        };
        assert!(codec.decode(&claims(RECORD_MAX as u32), Instant::now()).is_ok());
        let error = codec.decode(&claims(RECORD_MAX as u32 + 1), Instant::now());
        assert!(matches!(error, Err(Unreadable::Invalid(_))), "{error:?}");
    }
}
