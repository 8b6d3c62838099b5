//! A JSON object, field by field, each still as it was written: nothing is converted before it is known to be what the
//! contract says.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::payment::Invalid;

/// The fields of one JSON object, each still as it was written. A field given twice is refused: which one would count?
pub(super) struct Fields<'a>(Vec<(String, &'a str)>);

impl<'a> Fields<'a> {
    pub(super) fn parse(text: &'a str, what: &str) -> Result<Self, Invalid> {
        let mut json = serde_json::Deserializer::from_str(text);
        let fields = json.deserialize_map(FieldsVisitor).and_then(|fields| json.end().map(|()| fields));
        fields.map_err(|e| {
            if e.to_string().starts_with(DUPLICATE) {
                return Invalid::malformed("duplicate_field", format!("{what} names a field twice"));
            }
            let place = format!("line {} column {}", e.line(), e.column());
            Invalid::malformed("malformed_json", format!("{what} is not a JSON object: see {place}"))
        })
    }

    pub(super) fn only(&self, known: &[&str]) -> Result<(), Invalid> {
        if self.0.iter().all(|(name, _)| known.contains(&name.as_str())) {
            return Ok(());
        }
        let detail = format!("the body has a field that is not one of {}", known.join(", "));
        Err(Invalid::malformed("unknown_field", detail))
    }

    pub(super) fn all(&self) -> &[(String, &'a str)] {
        &self.0
    }

    /// A field that is there and not `null`.
    pub(super) fn optional(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(n, raw)| n == name && *raw != "null").map(|(_, raw)| *raw)
    }

    pub(super) fn required(&self, name: &'static str) -> Result<&'a str, Invalid> {
        self.optional(name).ok_or_else(|| Invalid::field("missing_field", name, format!("{name} is required")))
    }

    pub(super) fn required_text(&self, name: &'static str) -> Result<String, Invalid> {
        text(name, self.required(name)?)
    }

    pub(super) fn optional_text(&self, name: &'static str) -> Result<Option<String>, Invalid> {
        self.optional(name).map(|raw| text(name, raw)).transpose()
    }
}

const DUPLICATE: &str = "duplicate field";

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(String, &'de str)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(DUPLICATE));
            }
            fields.push((name, map.next_value::<&'de RawValue>()?.get()));
        }
        Ok(Fields(fields))
    }
}

/// Of a JSON number as it was written.
pub(super) fn whole_number(field: &'static str, raw: &str) -> Result<i64, Invalid> {
    let refuse = |code, detail: &str| Err(Invalid::field(code, field, format!("{field} {detail}")));
    if !raw.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return refuse("amount_not_a_number", "must be a JSON number of minor units, not another type");
    }
    if raw.contains(['.', 'e', 'E']) {
        return refuse("amount_not_whole", "must be a whole number of minor units, without a point or an exponent");
    }
    match raw.parse::<i64>() {
        Ok(number) => Ok(number),
        Err(_) if raw.starts_with('-') => refuse("amount_negative", "must be positive"),
        Err(_) => refuse("amount_too_large", "must be at most 999999999999999 minor units"),
    }
}

pub(super) fn text(field: &'static str, raw: &str) -> Result<String, Invalid> {
    let refuse = |detail: &str| Invalid::field("not_a_string", field, format!("{field} {detail}"));
    if !raw.starts_with('"') {
        return Err(refuse("must be a string"));
    }
    serde_json::from_str(raw).map_err(|_| refuse("is not a valid JSON string"))
}
