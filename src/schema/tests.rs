//! Golden bytes, and two libraries held to the same reading.

use std::path::PathBuf;

use crate::payment::samples::{all, event};
use crate::schema::ids::{Asking, Meaning};
use crate::schema::{Codec, DecodeError, Kind, RECORD_MAX, headers, wire};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas/golden")
}

/// The fixtures of this version, one for each sample. `PAYLOG_WRITE_GOLDEN=1 cargo test` adds those of a new schema; an
/// existing one is never rewritten.
#[test]
fn every_event_encodes_to_its_golden_bytes() {
    let codec = Codec::new().unwrap();
    for (i, data) in all().into_iter().enumerate() {
        let bytes = codec.encode(&event(7, data.clone())).unwrap();
        let path = golden().join(format!("{}-{i:02}.avro", data.name()));
        if std::env::var_os("PAYLOG_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, &bytes).unwrap();
        }
        let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(kept, bytes, "{}", path.display());
        assert_eq!(codec.decode(&bytes).unwrap(), event(7, data));
    }
}

#[test]
fn every_fixture_ever_written_still_decodes() {
    let codec = Codec::new().unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(golden()).unwrap() {
        let path = file.unwrap().path();
        let event = codec.decode(&std::fs::read(&path).unwrap()).unwrap();
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with(event.data.name()));
        seen += 1;
    }
    assert!(seen >= all().len(), "{seen} fixtures");
}

/// apache-avro reads what the fast codec wrote, and writes it back to the same bytes.
#[test]
fn both_libraries_agree_on_every_byte() {
    let codec = Codec::new().unwrap();
    for data in all() {
        let bytes = codec.encode(&event(7, data.clone())).unwrap();
        let text = wire::RELEASED.iter().find(|(kind, _)| *kind == Kind::of(&data)).unwrap().1;
        let schema = apache_avro::Schema::parse_str(text).unwrap();
        let value = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .unwrap()
            .read_value(&mut &bytes[10..])
            .unwrap();
        let again = apache_avro::writer::datum::GenericDatumWriter::builder(&schema)
            .build()
            .unwrap()
            .write_value_to_vec(value)
            .unwrap();
        assert_eq!(again, bytes[10..], "{}", data.name());
    }
}

/// As Avro's reference implementation (Java, avro 1.12.0, `SchemaNormalization.parsingFingerprint`) names them.
#[test]
fn fingerprints_are_those_of_the_reference_implementation() {
    let codec = Codec::new().unwrap();
    let reference = [
        (Kind::InProgress, "ec1f3e2351b0d260"),
        (Kind::Successful, "319efc4ec04c3e1e"),
        (Kind::Failed, "d3d1ad48b3577e00"),
        (Kind::RetryScheduled, "569c6fc0f3def009"),
        (Kind::OutcomeUnknown, "586f27672c8bb407"),
        (Kind::Parked, "b9756841dc107847"),
        (Kind::Resumed, "bb89a1f5ea77792b"),
    ];
    for (kind, fingerprint) in reference {
        assert_eq!(data_encoding::HEXLOWER.encode(&codec.fingerprint(kind)), fingerprint, "{}", kind.name());
    }
}

#[test]
fn the_registry_frame_is_told_apart_by_its_first_byte() {
    let mut codec = Codec::asking(Asking::Meanwhile).unwrap();
    let sample = event(7, all().remove(2));
    let bytes = codec.encode(&sample).unwrap();
    let framed = [&[0, 0, 0, 1, 2][..], &bytes[10..]].concat();
    let unknown = DecodeError::NotRegistered(258);
    assert_eq!(codec.decode(&framed), Err(unknown.clone()));
    assert!(!codec.is_past(&unknown));
    let schema = wire::RELEASED.iter().find(|(kind, _)| *kind == Kind::Successful).unwrap().1;
    codec.is_registered(&[(258, schema)], "http://registry");
    assert_eq!(codec.decode(&framed).unwrap(), sample);
    assert!(codec.is_past(&unknown), "whoever waits may look again");
    assert_eq!(codec.encode(&sample).unwrap(), framed, "from now on it is written by its id");
    assert_eq!(*codec.by_itself(&framed), bytes, "and kept without it");
    assert_eq!(*codec.by_itself(&bytes), bytes);
    assert_eq!(codec.schema_uri(Kind::Successful), "http://registry/schemas/ids/258");
    assert_eq!(codec.schema_uri(Kind::Failed), "urn:avro:paylog.PaymentFailed:d3d1ad48b3577e00");
}

#[test]
fn every_answer_of_a_registry_has_its_own_words() {
    let framed = [0, 0, 0, 0, 7, 1, 2, 3];
    assert_eq!(Codec::new().unwrap().decode(&framed), Err(DecodeError::NoRegistry(7)));
    let codec = Codec::asking(Asking::Meanwhile).unwrap();
    let (not_yet, none) = (DecodeError::NotRegistered(7), DecodeError::NoSuchId(7));
    assert_eq!(codec.decode(&framed), Err(not_yet.clone()));
    codec.ids.want(7, true);
    let asked = std::time::Instant::now();
    for again in [0, 1] {
        codec.ids.missed(7, asked + std::time::Duration::from_secs(again), true);
    }
    assert_eq!(codec.decode(&framed), Err(none.clone()));
    assert!(codec.is_past(&not_yet) && !codec.is_past(&none));
    codec.ids.learn(7, Meaning::Other("another one".into()), 0);
    assert_eq!(codec.decode(&framed), Err(DecodeError::OtherSchema(7)));
    assert!(codec.is_past(&none) && none.may_be_newer() && DecodeError::OtherSchema(7).may_be_newer());
}

/// Or its row, which is kept in the longer frame, could not be read.
#[test]
fn a_value_is_as_large_as_it_is_in_the_longer_frame() {
    let codec = Codec::asking(Asking::Meanwhile).unwrap();
    let largest = vec![0; RECORD_MAX - 5];
    assert_eq!(codec.decode(&largest), Err(DecodeError::NotRegistered(0)));
    assert_eq!(codec.decode(&vec![0; RECORD_MAX - 4]), Err(DecodeError::TooLarge(RECORD_MAX - 4)));
}

#[test]
fn bytes_that_are_no_event_are_refused() {
    let codec = Codec::new().unwrap();
    let good = codec.encode(&event(7, all().remove(0))).unwrap();
    assert_eq!(codec.decode(b""), Err(DecodeError::UnknownFrame));
    assert_eq!(codec.decode(b"{}"), Err(DecodeError::UnknownFrame));
    assert_eq!(codec.decode(&good[..9]), Err(DecodeError::UnknownFrame));
    assert_eq!(codec.decode(&[0, 0, 0]), Err(DecodeError::UnknownFrame));
    assert_eq!(codec.decode(&vec![0xC3; RECORD_MAX + 1]), Err(DecodeError::TooLarge(RECORD_MAX + 1)));
    let mut other = good.clone();
    other[2] ^= 1;
    assert!(matches!(codec.decode(&other), Err(DecodeError::UnknownSchema(_))));
    let longer = [&good[..], &[0]].concat();
    assert!(matches!(codec.decode(&longer), Err(DecodeError::Invalid("PaymentInProgress", _))));
    for len in 10..good.len() {
        assert!(matches!(codec.decode(&good[..len]), Err(DecodeError::Invalid(..))), "cut at {len}");
    }
    // A string that says it is 2^31 bytes long (the five bytes that ask for everything).
    let bomb = [&good[..10], &[0xFE, 0xFF, 0xFF, 0xFF, 0x0F]].concat();
    assert!(matches!(codec.decode(&bomb), Err(DecodeError::Invalid(..))));
}

#[test]
fn headers_are_cloud_events() {
    let codec = Codec::new().unwrap();
    let sample = event(7, all().remove(2));
    let headers = headers(&codec, &sample, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let value =
        |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| String::from_utf8(v.clone()).unwrap());
    assert_eq!(value("ce_type").as_deref(), Some("paylog.PaymentSuccessful"));
    assert_eq!(value("ce_specversion").as_deref(), Some("1.0"));
    assert_eq!(value("ce_subject"), Some(sample.payment_id.to_string()));
    assert_eq!(value("ce_time").as_deref(), Some("2025-11-24T16:00:07.000000Z"));
    assert_eq!(value("content-type").as_deref(), Some("application/avro"));
    assert!(value("traceparent").is_some());
}

/// The text goes to logs, to `/readyz` and to operators.
#[test]
fn why_a_record_is_unreadable_repeats_nothing_of_it() {
    let codec = Codec::new().unwrap();
    let mut texts = std::collections::BTreeSet::new();
    for data in all() {
        let good = codec.encode(&event(7, data)).unwrap();
        for at in 10..good.len() {
            for damage in [0, 1, 0x41, 0x7F, 0x80, 0xFF] {
                let mut bad = good.clone();
                bad[at] = damage;
                texts.extend(codec.decode(&bad).err().map(|error| error.to_string()));
            }
        }
    }
    // As many as there are things to say: content would make thousands of them.
    assert!((10..100).contains(&texts.len()), "{} texts: {texts:#?}", texts.len());
    for content in ["cus_", "pay_py", "pm_", "Zwei", "simulator", "declined", "order-"] {
        assert!(!texts.iter().any(|text| text.contains(content)), "{content}: {texts:#?}");
    }
}

impl Codec {
    /// Beside a registry that has not said anything yet.
    pub(crate) fn that_has_heard_nothing() -> Self {
        Self::asking(Asking::Meanwhile).unwrap()
    }

    /// The registry is to say what this id is.
    pub(crate) fn asks_for(&self) -> Option<u32> {
        self.ids.next().map(|(id, _)| id)
    }

    /// The registry says that it has no such id, whenever it is asked.
    pub(crate) fn hears_of_none(&self, id: u32) {
        let asked = std::time::Instant::now();
        self.ids.missed(id, asked, true);
        self.ids.missed(id, asked + std::time::Duration::from_secs(2), true);
    }

    /// The registry says that this id is that of the newest schema of `kind`.
    pub(crate) fn hears(&self, id: u32, kind: Kind) {
        let text = wire::RELEASED.iter().rev().find(|(released, _)| *released == kind).unwrap().1;
        self.ids.learn(id, self.known.meaning(text), text.len());
    }
}
