//! The rules of `schemas/README.md`, held by Avro's own judgement, without a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value;
use sha2::{Digest, Sha256};

use super::{requested, wire};
use crate::payment::samples::{event, failed};

/// Not on any topic, and so in no registry.
const ELSEWHERE: [&str; 1] = ["ArchiveEntry"];

/// As `schemas/example` has it: what a second version may be.
const EXAMPLE: &str = include_str!("../../schemas/example/PaymentFailed.2.avsc");

type Change = fn(&mut serde_json::Value);

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

/// Every released version of every record, in its order.
fn released() -> BTreeMap<String, Vec<&'static str>> {
    let mut released: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (kind, text) in wire::RELEASED {
        released.entry(kind.name().to_owned()).or_default().push(text);
    }
    released.insert("PaymentRequested".to_owned(), requested::RELEASED.to_vec());
    released
}

/// `NAME.avsc` is the first version, `NAME.2.avsc` the second.
fn path_of(name: &str, version: usize) -> PathBuf {
    let version = if version == 1 { String::new() } else { format!(".{version}") };
    directory().join(format!("{name}{version}.avsc"))
}

fn parsed(text: &str) -> Schema {
    Schema::parse_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Which pairs of these versions of one record cannot be read by each other, and why.
fn unreadable(versions: &[&str]) -> Vec<String> {
    let schemas: Vec<Schema> = versions.iter().map(|text| parsed(text)).collect();
    let mut wrong = Vec::new();
    for (writer, w) in schemas.iter().zip(1..) {
        for (reader, r) in schemas.iter().zip(1..) {
            match SchemaCompatibility::can_read(writer, reader) {
                Ok(Compatibility::Full) if writer.name() == reader.name() => {}
                Ok(Compatibility::Full) => wrong.push(format!("{r} has another name than {w}")),
                Ok(Compatibility::Partial) => wrong.push(format!("{r} can read only some of what {w} writes")),
                Err(error) => wrong.push(format!("{r} cannot read what {w} writes: {error}")),
            }
        }
    }
    wrong
}

#[test]
fn whoever_has_one_version_of_a_record_reads_all_others() {
    for (name, versions) in released() {
        assert_eq!(unreadable(&versions), Vec::<String>::new(), "{name}");
    }
    let first = released().remove("PaymentFailed").unwrap();
    assert_eq!(unreadable(&[&first[..], &[EXAMPLE]].concat()), Vec::<String>::new());
}

#[test]
fn what_would_leave_somebody_behind_is_refused() {
    let first = released().remove("PaymentFailed").unwrap()[0];
    let changed = |change: Change| {
        let mut schema: serde_json::Value = serde_json::from_str(first).unwrap();
        change(&mut schema);
        schema.to_string()
    };
    let changes: [(&str, Change); 6] = [
        ("a field without a default", |s| {
            s["fields"].as_array_mut().unwrap().push(serde_json::json!({"name": "network_code", "type": "string"}));
        }),
        ("a field that is gone", |s| drop(s["fields"].as_array_mut().unwrap().pop())),
        ("another name of a field", |s| s["fields"][5]["name"] = "try".into()),
        ("a wider type, which the first version cannot read", |s| s["fields"][5]["type"] = "long".into()),
        ("another type", |s| s["fields"][3]["type"] = "int".into()),
        ("another name", |s| s["name"] = "PaymentDeclined".into()),
    ];
    for (what, change) in changes {
        assert!(!unreadable(&[first, &changed(change)]).is_empty(), "{what}");
    }
    let symbols = |symbols: &str| {
        let kind = format!(r#"{{"type": "enum", "name": "Kind", "symbols": [{symbols}]}}"#);
        format!(r#"{{"type": "record", "name": "R", "fields": [{{"name": "kind", "type": {kind}}}]}}"#)
    };
    let grown = unreadable(&[&symbols(r#""A""#), &symbols(r#""A", "B""#)]);
    assert!(!grown.is_empty(), "a symbol more, which the first version does not know");
}

/// The directory and the lists in the code are the same, and nothing in them is ever changed: a registry would take it for
/// another schema, and who has written by it would be understood differently.
#[test]
fn what_was_released_stays_as_it_was() {
    let sums = std::fs::read_to_string(directory().join("released.sha256")).unwrap();
    let kept: BTreeMap<&str, &str> =
        sums.lines().map(|line| line.split_once("  ").unwrap()).map(|(s, n)| (n, s)).collect();
    let mut known: BTreeSet<PathBuf> = ELSEWHERE.iter().map(|name| path_of(name, 1)).collect();
    for (name, versions) in released() {
        for (text, version) in versions.iter().zip(1..) {
            let path = path_of(&name, version);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), *text, "{}", path.display());
            known.insert(path);
        }
    }
    let is_schema = |path: &Path| path.extension().is_some_and(|extension| extension == "avsc");
    let there: BTreeSet<PathBuf> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_schema(path))
        .collect();
    assert_eq!(there, known, "schemas/, and the lists RELEASED of schema/wire.rs and schema/requested.rs");
    for path in &there {
        let name = path.file_name().unwrap().to_str().unwrap();
        let sum = data_encoding::HEXLOWER.encode(&Sha256::digest(std::fs::read(path).unwrap()));
        assert_eq!(kept.get(name).copied(), Some(sum.as_str()), "{name} was changed, or is missing in released.sha256");
    }
    assert_eq!(kept.len(), there.len(), "nothing that was released is ever deleted");
}

fn field<'v>(record: &'v Value, name: &str) -> Option<&'v Value> {
    let Value::Record(fields) = record else { panic!("{record:?} is no record") };
    fields.iter().find(|(other, _)| other == name).map(|(_, value)| value)
}

fn read(writer: &Schema, reader: &Schema, mut datum: &[u8]) -> Value {
    let reading = GenericDatumReader::builder(writer).reader_schema(reader).build().unwrap();
    reading.read_value(&mut datum).unwrap()
}

/// The example, by a consumer of each version: whatever it was built with, it reads what the other writes.
#[test]
fn an_old_consumer_and_a_new_one_read_what_either_version_wrote() {
    let (first, second) = (parsed(released()["PaymentFailed"][0]), parsed(EXAMPLE));
    let codec = super::Codec::new().unwrap();
    let by_first = codec.encode(&event(7, failed("card_declined"))).unwrap()[10..].to_vec();
    let by_second = second_version(&by_first, "05");
    assert_ne!(by_first, by_second);

    let old = read(&second, &first, &by_second);
    assert_eq!(field(&old, "code"), Some(&Value::String("card_declined".to_owned())));
    assert_eq!(field(&old, "network_code"), None, "it does not know that there is more");
    let new = read(&first, &second, &by_first);
    assert_eq!(field(&new, "code"), Some(&Value::String("card_declined".to_owned())));
    assert_eq!(field(&new, "network_code"), Some(&Value::String(String::new())), "the default");
    let both = read(&second, &second, &by_second);
    assert_eq!(field(&both, "network_code"), Some(&Value::String("05".to_owned())));
}

/// What a paylog that knows the example would write for this datum of the first version.
pub(crate) fn second_version(by_first: &[u8], network_code: &str) -> Vec<u8> {
    let (first, second) = (parsed(released()["PaymentFailed"][0]), parsed(EXAMPLE));
    let Value::Record(mut fields) = read(&first, &second, by_first) else { panic!("it is no record") };
    fields.iter_mut().filter(|(name, _)| name == "network_code").for_each(|(_, value)| {
        *value = Value::String(network_code.to_owned());
    });
    let writing = apache_avro::writer::datum::GenericDatumWriter::builder(&second).build().unwrap();
    writing.write_value_to_vec(Value::Record(fields)).unwrap()
}

impl super::Codec {
    /// Of a paylog in which the example was released.
    pub(crate) fn with_example() -> Self {
        let released = [wire::RELEASED, &[(super::Kind::Failed, EXAMPLE)]].concat();
        Self::of(&released, super::Asking::Nobody).unwrap()
    }
}
