//! What a schema of somebody else is good for: as an event only if it is one that was released, for folds of one log must not
//! differ; as a request also if what is written by it can be read as `PaymentRequested`, by Avro's rules of resolution.
//!
//! The resolution itself is the fast library's work: it reads by the writer's schema, field by field, by names, into ours. That
//! bounds it: nothing is allocated but what is kept, and what is passed over takes at least a byte each time, or the schema is
//! refused here. A schema in which a name stands for what was given elsewhere is refused before either library parses it: a few
//! lines of such names are a tree without end, and the fast library walks all of it. No schema of an event or of a request has one.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;
use serde_json::Value;

use super::ids::Meaning;

/// Of why a schema is of no use, so much is repeated, in characters.
const REASON_MAX: usize = 200;
const NO_BYTES: &str = "it has a record, or items, that take no bytes: a few bytes could claim any number";
const UNPARSED: &str = "it cannot be parsed";
const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// The schemas that are known here.
pub(super) struct Known {
    /// Of events, by fingerprint.
    pub events: HashMap<[u8; 8], usize>,
    /// Of requests.
    pub requests: Vec<Arc<serde_avro_fast::Schema>>,
    /// What requests are read as.
    pub reader: Schema,
}

impl Known {
    pub fn meaning(&self, text: &str) -> Meaning {
        self.find(text)
            .unwrap_or_else(|reason| Meaning::Other(reason.chars().take(REASON_MAX).collect::<String>().into()))
    }

    fn find(&self, text: &str) -> Result<Meaning, String> {
        let text = &without_names(text)?;
        let schema = Schema::parse_str(text).map_err(|_| UNPARSED)?;
        let writer: serde_avro_fast::Schema = text.parse().map_err(|_| UNPARSED)?;
        let fingerprint = writer.rabin_fingerprint();
        if let Some(index) = self.events.get(fingerprint) {
            return Ok(Meaning::Event(*index));
        }
        if let Some(ours) = self.requests.iter().find(|ours| ours.rabin_fingerprint() == fingerprint) {
            return Ok(Meaning::Request(Arc::clone(ours)));
        }
        let name = |schema: &Schema| schema.name().map(|name| name.name().to_owned());
        if !matches!(schema, Schema::Record(_)) || name(&schema) != name(&self.reader) {
            return Err("this version of paylog knows no such schema".to_owned());
        }
        SchemaCompatibility::can_read(&schema, &self.reader)
            .map_err(|error| format!("what it writes cannot be read as a request: {error}"))?;
        match least_bytes(&schema) {
            Some(_) => Ok(Meaning::Request(Arc::new(writer))),
            None => Err(NO_BYTES.to_owned()),
        }
    }
}

/// The same schema without what does not change what is written by it and may be costly to check (defaults), if nothing in
/// it is given by a name. Linear, and no deeper than JSON may be.
fn without_names(text: &str) -> Result<String, String> {
    let mut schema: Value = serde_json::from_str(text).map_err(|_| UNPARSED)?;
    strip(&mut schema)?;
    Ok(schema.to_string())
}

fn strip(schema: &mut Value) -> Result<(), String> {
    match schema {
        Value::String(name) if PRIMITIVES.contains(&name.as_str()) => Ok(()),
        Value::String(_) => {
            Err("a name in it stands for what was given elsewhere: give each type where it is used".to_owned())
        }
        Value::Array(variants) => variants.iter_mut().try_for_each(strip),
        Value::Object(object) => {
            object.remove("default");
            let inner = match object.get("type").and_then(Value::as_str) {
                Some("record") => return strip_fields(object.get_mut("fields")),
                Some("enum") => return Ok(()),
                Some("fixed") if object.get("size").and_then(Value::as_u64) == Some(0) => {
                    return Err(NO_BYTES.to_owned());
                }
                Some("fixed") => return Ok(()),
                Some("array") => "items",
                Some("map") => "values",
                _ => "type",
            };
            strip(object.get_mut(inner).ok_or(UNPARSED)?)
        }
        _ => Err(UNPARSED.to_owned()),
    }
}

fn strip_fields(fields: Option<&mut Value>) -> Result<(), String> {
    for field in fields.and_then(Value::as_array_mut).ok_or(UNPARSED)? {
        let field = field.as_object_mut().ok_or(UNPARSED)?;
        field.remove("default");
        strip(field.get_mut("type").ok_or(UNPARSED)?)?;
    }
    Ok(())
}

/// How many bytes a datum takes at least. `None` if somewhere in it are records or items that may take none.
fn least_bytes(schema: &Schema) -> Option<usize> {
    let some = |least: usize| (least > 0).then_some(least);
    match schema {
        Schema::Null => Some(0),
        Schema::Record(record) => {
            let mut least = 0_usize;
            for field in &record.fields {
                least = least.saturating_add(least_bytes(&field.schema)?);
            }
            some(least)
        }
        Schema::Array(array) => least_bytes(&array.items).and_then(some).map(|_| 1),
        // The key of an entry takes a byte.
        Schema::Map(map) => least_bytes(&map.types).map(|_| 1),
        Schema::Union(union) => union.variants().iter().try_fold(1, |_, variant| least_bytes(variant).map(|_| 1)),
        Schema::Fixed(fixed) => some(fixed.size),
        Schema::Ref { .. } => None,
        // All that are written as a number, a text or bytes.
        _ => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::requested;
    use super::*;

    fn known() -> Known {
        let requests = requested::RELEASED.iter().map(|text| Arc::new(text.parse().unwrap())).collect();
        let reader = Schema::parse_str(requested::RELEASED[0]).unwrap();
        Known { events: HashMap::new(), requests, reader }
    }

    /// Ours, changed by whoever writes.
    fn theirs(change: impl Fn(&mut Vec<serde_json::Value>)) -> String {
        let mut schema: serde_json::Value = serde_json::from_str(requested::RELEASED[0]).unwrap();
        change(schema["fields"].as_array_mut().unwrap());
        schema["namespace"] = "com.example".into();
        schema.to_string()
    }

    fn field(text: &str) -> serde_json::Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn whoever_writes_less_more_or_in_another_order_can_be_read() {
        type Change = fn(&mut Vec<serde_json::Value>);
        let changes: [Change; 5] = [
            |_| {},
            |fields| fields.reverse(),
            |fields| fields.truncate(6),
            |fields| fields.push(field(r#"{"name": "till", "type": {"type": "array", "items": "string"}}"#)),
            |fields| fields[2]["type"] = "int".into(),
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let meaning = known().meaning(&theirs(change));
            assert!(matches!(meaning, Meaning::Request(_)), "{n}: {meaning:?}");
        }
    }

    #[test]
    fn what_is_not_compatible_is_refused_with_its_reason() {
        let without = |name: &str| theirs(|fields| fields.retain(|field| field["name"] != name));
        let typed = |type_: &str| theirs(|fields| fields[2]["type"] = type_.into());
        let text = |schema: &str| schema.to_owned();
        for (schema, reason) in [
            (without("amount"), "amount"),
            (typed("double"), "amount"),
            (typed("string"), "amount"),
            (text(r#""string""#), "knows no such schema"),
            (text(r#"{"type":"record","name":"Order","fields":[]}"#), "knows no such schema"),
            (text("{"), "cannot be parsed"),
        ] {
            match known().meaning(&schema) {
                Meaning::Other(said) => assert!(said.contains(reason), "{schema}: {said}"),
                other => panic!("{schema}: {other:?}"),
            }
        }
    }

    /// Sixty bytes of schema that stand for 2^20 records of nothing, and an array of nulls.
    #[test]
    fn what_could_claim_any_number_of_things_that_take_no_bytes_is_refused() {
        let nothing = r#"{"type": "record", "name": "R0", "fields": []}"#;
        let mut nested = nothing.to_owned();
        for n in 1..20 {
            let before = n - 1;
            nested = format!(
                r#"{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":{nested}}},{{"name":"b","type":"R{before}"}}]}}"#
            );
        }
        let nulls = r#"{"type": "array", "items": "null"}"#;
        let fixed = r#"{"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}"#;
        let decimal = r#"{"type": "fixed", "name": "F", "size": 0, "logicalType": "decimal", "precision": 1}"#;
        let hidden = r#"["null", {"type": "map", "values": {"type": "array", "items": "null"}}]"#;
        for extra in [nothing, &nested, nulls, fixed, decimal, hidden] {
            let schema = theirs(|fields| fields.push(field(&format!(r#"{{"name": "extra", "type": {extra}}}"#))));
            assert!(matches!(known().meaning(&schema), Meaning::Other(_)), "{extra}");
        }
        let fine =
            theirs(|fields| fields.push(field(r#"{"name": "extra", "type": {"type": "map", "values": "null"}}"#)));
        assert!(matches!(known().meaning(&fine), Meaning::Request(_)), "its keys take bytes");
    }

    /// What a name stands for was looked at where it was given, and not where it is used.
    #[test]
    fn items_that_take_no_bytes_are_refused_by_their_name_too() {
        let schema = theirs(|fields| {
            fields.push(field(r#"{"name": "one", "type": {"type": "fixed", "name": "F", "size": 0}}"#));
            fields.push(field(r#"{"name": "many", "type": {"type": "array", "items": "F"}}"#));
        });
        let meaning = known().meaning(&schema);
        assert!(matches!(meaning, Meaning::Other(_)), "{meaning:?}");
    }

    /// Three kilobytes that stand for 2^60 records: one after the other, each in the next, and as defaults.
    #[test]
    fn a_few_names_that_stand_for_a_tree_without_end_are_judged_at_once() {
        let record = |n: u32, a: &str| {
            let b = n - 1;
            format!(
                r#"{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":{a},"default":{{}}}},{{"name":"b","type":"R{b}","default":{{}}}}]}}"#
            )
        };
        let (bottom, mut nested) =
            (r#"{"type":"record","name":"R0","fields":[{"name":"x","type":"int","default":0}]}"#, String::new());
        nested.push_str(bottom);
        (1..38).for_each(|n| nested = record(n, &nested));
        let flat = theirs(|fields| {
            fields.push(field(&format!(r#"{{"name": "r0", "type": {bottom}}}"#)));
            for n in 1..60 {
                let type_ = record(n, &format!(r#""R{}""#, n - 1));
                fields.push(field(&format!(r#"{{"name": "r{n}", "type": {type_}}}"#)));
            }
        });
        let nested = theirs(|fields| fields.push(field(&format!(r#"{{"name": "extra", "type": {nested}}}"#))));
        for text in [flat, nested] {
            let (sender, judged) = std::sync::mpsc::channel();
            std::thread::spawn(move || sender.send(known().meaning(&text)));
            let meaning =
                judged.recv_timeout(std::time::Duration::from_secs(60)).expect("it is not judged in a minute");
            assert!(matches!(&meaning, Meaning::Other(why) if why.contains("name")), "{meaning:?}");
        }
    }

    #[test]
    fn every_schema_that_was_released_is_known_as_what_it_is() {
        let codec = super::super::Codec::new().unwrap();
        for (n, (_, text)) in super::super::wire::RELEASED.iter().enumerate() {
            assert!(matches!(codec.known().meaning(text), Meaning::Event(index) if index == n), "{text}");
        }
        for text in requested::RELEASED {
            assert!(matches!(codec.known().meaning(text), Meaning::Request(_)), "{text}");
        }
    }
}
