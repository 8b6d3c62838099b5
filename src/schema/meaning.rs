//! What a schema of somebody else is good for: as an event only if it is one that was released, for folds of one log must not
//! differ; as a request also if what is written by it can be read as `PaymentRequested`, by Avro's rules of resolution.
//!
//! The resolution itself is the fast library's work: it reads by the writer's schema, field by field, by names, into ours. That
//! bounds it: nothing is allocated but what is kept, and what is passed over takes at least a byte each time, or the schema is
//! refused here.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;

use super::ids::Meaning;

/// Of why a schema is of no use, so much is repeated, in characters.
const REASON_MAX: usize = 200;

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
        let writer: serde_avro_fast::Schema = text.parse().map_err(|_| "it cannot be parsed")?;
        let fingerprint = writer.rabin_fingerprint();
        if let Some(index) = self.events.get(fingerprint) {
            return Ok(Meaning::Event(*index));
        }
        if let Some(ours) = self.requests.iter().find(|ours| ours.rabin_fingerprint() == fingerprint) {
            return Ok(Meaning::Request(Arc::clone(ours)));
        }
        let schema = Schema::parse_str(text).map_err(|_| "it cannot be parsed")?;
        let name = |schema: &Schema| schema.name().map(|name| name.name().to_owned());
        if !matches!(schema, Schema::Record(_)) || name(&schema) != name(&self.reader) {
            return Err("this version of paylog knows no such schema".to_owned());
        }
        SchemaCompatibility::can_read(&schema, &self.reader)
            .map_err(|error| format!("what it writes cannot be read as a request: {error}"))?;
        match least_bytes(&schema) {
            Some(_) => Ok(Meaning::Request(Arc::new(writer))),
            None => Err("it has a record, or items, that take no bytes: a few bytes could claim any number".to_owned()),
        }
    }
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
        Schema::Fixed(fixed) => Some(fixed.size),
        // A name that was looked at where it was given; and all that are written as a number, a text or bytes.
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
        let hidden = r#"["null", {"type": "map", "values": {"type": "array", "items": "null"}}]"#;
        for extra in [nothing, &nested, nulls, fixed, hidden] {
            let schema = theirs(|fields| fields.push(field(&format!(r#"{{"name": "extra", "type": {extra}}}"#))));
            assert!(matches!(known().meaning(&schema), Meaning::Other(_)), "{extra}");
        }
        let fine =
            theirs(|fields| fields.push(field(r#"{"name": "extra", "type": {"type": "map", "values": "null"}}"#)));
        assert!(matches!(known().meaning(&fine), Meaning::Request(_)), "its keys take bytes");
    }
}
