//! From a merchant's untrusted JSON to a [`NewPayment`] that cannot be wrong, and the fingerprint that says whether two
//! requests ask for the same. Strict: what is not exactly the contract is refused with its own stable code.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::payment::id::Parts;
use crate::payment::{Currency, CustomerId, MerchantId, Money};

pub const PAYMENT_METHOD_MAX: usize = 255;
pub const DESCRIPTION_MAX: usize = 500;
pub const METADATA_ENTRIES_MAX: usize = 50;
pub const METADATA_KEY_MAX: usize = 40;
pub const METADATA_VALUE_MAX: usize = 500;

/// What a merchant asks for. Everything in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPayment {
    pub money: Money,
    pub customer_id: CustomerId,
    pub payment_method: PaymentMethod,
    pub description: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// A token of the gateway for something to charge. Never a card number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PaymentMethod(String);

/// SHA-256 over what a request asks for, but not over who carries it out or when.
#[derive(Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fingerprint(#[serde(with = "serde_bytes")] pub [u8; 32]);

/// Why a request is refused. `code` is stable and for programs, `detail` is for people and repeats nothing that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub code: &'static str,
    pub field: Option<&'static str>,
    pub detail: String,
    /// The text could not even be read: no JSON, not the right shape. Otherwise a value in it is wrong.
    pub malformed: bool,
}

impl NewPayment {
    /// Parses the body of `POST /v1/payments` (DESIGN.md 9).
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(body)
            .map_err(|_| Invalid::malformed("malformed_json", "the body is not UTF-8".to_owned()))?;
        let fields = Fields::parse(text, "the body")?;
        fields.only(&["amount", "currency", "customer_id", "payment_method", "description", "metadata"])?;
        let currency = Currency::parse(&fields.required_text("currency")?)?;
        Ok(Self {
            money: Money::new(whole_number("amount", fields.required("amount")?)?, currency)?,
            customer_id: CustomerId::parse(&without_card("customer_id", fields.required_text("customer_id")?)?)?,
            payment_method: PaymentMethod::parse(&fields.required_text("payment_method")?)?,
            description: fields.optional_text("description")?.map(description).transpose()?,
            metadata: fields.optional("metadata").map(metadata).transpose()?,
        })
    }

    /// Frozen (DESIGN.md 5): two requests with one key are the same if and only if this is.
    #[must_use]
    pub fn fingerprint(&self, merchant: &MerchantId) -> Fingerprint {
        let mut hash = Parts::new("paylog/fp/1");
        hash.text(merchant.as_str());
        hash.text(self.customer_id.as_str());
        hash.text(&self.money.amount().to_string());
        hash.text(self.money.currency().code());
        hash.text(self.payment_method.as_str());
        match &self.description {
            Some(text) => hash.text(text),
            None => hash.absent(),
        }
        match &self.metadata {
            Some(entries) => {
                hash.count(entries.len());
                for (key, value) in entries {
                    hash.text(key);
                    hash.text(value);
                }
            }
            None => hash.absent(),
        }
        Fingerprint(hash.finish())
    }
}

impl PaymentMethod {
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let text = without_card("payment_method", text.to_owned())?;
        if (1..=PAYMENT_METHOD_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(Self(text));
        }
        let detail = format!("payment_method must be a token of 1 to {PAYMENT_METHOD_MAX} visible ASCII characters");
        Err(Invalid::field("invalid_payment_method", "payment_method", detail))
    }

    /// From a record, which was checked before it was written.
    #[must_use]
    pub fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Invalid {
    #[must_use]
    pub fn new(code: &'static str, detail: String) -> Self {
        Self { code, field: None, detail, malformed: false }
    }

    #[must_use]
    pub fn field(code: &'static str, field: &'static str, detail: String) -> Self {
        Self { code, field: Some(field), detail, malformed: false }
    }

    #[must_use]
    pub fn malformed(code: &'static str, detail: String) -> Self {
        Self { code, field: None, detail, malformed: true }
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

// === the fields ===

fn whole_number(field: &'static str, raw: &str) -> Result<i64, Invalid> {
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

fn description(text: String) -> Result<String, Invalid> {
    if text.chars().count() > DESCRIPTION_MAX {
        let detail = format!("description must be at most {DESCRIPTION_MAX} characters");
        return Err(Invalid::field("description_too_long", "description", detail));
    }
    without_card("description", text)
}

fn metadata(raw: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let refuse = |detail: String| Err(Invalid::field("invalid_metadata", "metadata", detail));
    if !raw.starts_with('{') {
        return refuse("metadata must be an object of strings".to_owned());
    }
    let fields = Fields::parse(raw, "metadata")?;
    if fields.0.len() > METADATA_ENTRIES_MAX {
        return refuse(format!("metadata must have at most {METADATA_ENTRIES_MAX} entries"));
    }
    let mut entries = BTreeMap::new();
    for (key, raw) in &fields.0 {
        let value = text("metadata", raw)?;
        if key.is_empty() || key.chars().count() > METADATA_KEY_MAX || value.chars().count() > METADATA_VALUE_MAX {
            return refuse(format!(
                "a metadata key must be 1 to {METADATA_KEY_MAX} characters and its value at most {METADATA_VALUE_MAX}"
            ));
        }
        let key = without_card("metadata", key.clone())?;
        entries.insert(key, without_card("metadata", value)?);
    }
    Ok(entries)
}

fn text(field: &'static str, raw: &str) -> Result<String, Invalid> {
    let refuse = |detail: &str| Invalid::field("not_a_string", field, format!("{field} {detail}"));
    if !raw.starts_with('"') {
        return Err(refuse("must be a string"));
    }
    serde_json::from_str(raw).map_err(|_| refuse("is not a valid JSON string"))
}

/// Refuses a value that holds what looks like a card number: a run of 13 to 19 digits, with single spaces or dashes
/// between them or without, that passes the Luhn check (ISO/IEC 7812-1).
pub(super) fn without_card(field: &'static str, text: String) -> Result<String, Invalid> {
    if holds_card_number(&text) {
        let detail = format!("{field} looks like a card number, and paylog takes only tokens: nothing was recorded");
        return Err(Invalid::field("card_number", field, detail));
    }
    Ok(text)
}

fn holds_card_number(text: &str) -> bool {
    let mut digits: Vec<u8> = Vec::new();
    let mut separated = false;
    for c in text.chars().chain(['.']) {
        match c.to_digit(10) {
            Some(digit) => {
                digits.push(digit as u8);
                separated = false;
            }
            None if matches!(c, ' ' | '-') && !separated && !digits.is_empty() => separated = true,
            None => {
                if is_card_number(&digits) {
                    return true;
                }
                digits.clear();
                separated = false;
            }
        }
    }
    false
}

fn is_card_number(digits: &[u8]) -> bool {
    let luhn: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, digit)| match (i % 2, u32::from(*digit) * 2) {
            (0, _) => u32::from(*digit),
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    (13..=19).contains(&digits.len()) && luhn.is_multiple_of(10)
}

// === a JSON object, field by field ===

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

#[cfg(test)]
mod tests {
    use super::{NewPayment, holds_card_number};
    use crate::payment::MerchantId;

    const GOOD: &str = r#"{"amount":1999,"currency":"EUR","customer_id":"cus_42","payment_method":"pm_card_visa"}"#;

    fn parse(body: &str) -> Result<NewPayment, super::Invalid> {
        NewPayment::parse(body.as_bytes())
    }

    fn with(field: &str, raw: &str) -> String {
        let mut json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(GOOD).unwrap();
        json.remove(field);
        let rest = serde_json::to_string(&json).unwrap();
        format!("{},\"{field}\":{raw}}}", &rest[..rest.len() - 1])
    }

    #[test]
    fn each_bad_input_has_its_own_code() {
        let deep = "[".repeat(100_000);
        let many: Vec<String> = (0..51).map(|i| format!("\"k{i}\":\"v\"")).collect();
        let cases: Vec<(String, &str)> = vec![
            (String::new(), "malformed_json"),
            ("[]".into(), "malformed_json"),
            ("{".into(), "malformed_json"),
            (format!("{GOOD}x"), "malformed_json"),
            (format!("\u{feff}{GOOD}"), "malformed_json"),
            (deep, "malformed_json"),
            (with("amount", "NaN"), "malformed_json"),
            (GOOD.replace("{", "{\"amount\":1,"), "duplicate_field"),
            (GOOD.replace("{", "{\"tip\":1,"), "unknown_field"),
            (GOOD.replace("\"amount\":1999,", ""), "missing_field"),
            (with("amount", "null"), "missing_field"),
            (with("amount", "\"1999\""), "amount_not_a_number"),
            (with("amount", "true"), "amount_not_a_number"),
            (with("amount", "19.99"), "amount_not_whole"),
            (with("amount", "1e3"), "amount_not_whole"),
            (with("amount", "0"), "amount_zero"),
            (with("amount", "-0"), "amount_zero"),
            (with("amount", "-1"), "amount_negative"),
            (with("amount", "-99999999999999999999"), "amount_negative"),
            (with("amount", "1000000000000000"), "amount_too_large"),
            (with("amount", "9223372036854775808"), "amount_too_large"),
            (with("amount", &"9".repeat(40)), "amount_too_large"),
            (with("currency", "\"eur\""), "invalid_currency"),
            (with("currency", "\"XXX\""), "invalid_currency"),
            (with("currency", "\"\""), "invalid_currency"),
            (with("currency", "978"), "not_a_string"),
            (with("customer_id", "\"\""), "invalid_customer_id"),
            (with("customer_id", "\"a b\""), "invalid_customer_id"),
            (with("customer_id", r#""\ud800""#), "not_a_string"),
            (with("payment_method", "\"4242424242424242\""), "card_number"),
            (with("payment_method", "\"4242 4242-4242 4242\""), "card_number"),
            (with("description", "\"card 4242424242424242, thanks\""), "card_number"),
            (with("metadata", r#"{"note":"378282246310005"}"#), "card_number"),
            (with("metadata", r#"{"4242424242424242":"x"}"#), "card_number"),
            (with("description", &format!("\"{}\"", "d".repeat(501))), "description_too_long"),
            (with("metadata", "[]"), "invalid_metadata"),
            (with("metadata", r#"{"a":1}"#), "not_a_string"),
            (with("metadata", r#"{"a":"1","a":"2"}"#), "duplicate_field"),
            (with("metadata", r#"{"":"1"}"#), "invalid_metadata"),
            (with("metadata", &format!("{{{}}}", many.join(","))), "invalid_metadata"),
        ];
        for (body, code) in cases {
            let shown: String = body.chars().take(120).collect();
            assert_eq!(parse(&body).map_err(|e| e.code), Err(code), "{shown}");
        }
        assert_eq!(NewPayment::parse(b"\xff{}").unwrap_err().code, "malformed_json");
    }

    #[test]
    fn an_error_never_repeats_what_was_sent() {
        for body in [with("payment_method", "\"4242424242424242\""), with("customer_id", "\"secret secret\"")] {
            let detail = parse(&body).unwrap_err().detail;
            assert!(!detail.contains("4242") && !detail.contains("secret"), "{detail}");
        }
    }

    #[test]
    fn only_luhn_valid_runs_of_13_to_19_digits_are_cards() {
        for card in ["4242424242424242", "x4242-4242-4242-4242", "378282246310005", "6011 1111 1111 1117 "] {
            assert!(holds_card_number(card), "{card}");
        }
        for other in ["", "4242424242424241", "424242424242", "order 1001", "4242  4242 4242 4242", "00000"] {
            assert!(!holds_card_number(other), "{other}");
        }
    }

    /// Computed by another program (Python's hashlib) from DESIGN.md 5: these may never change.
    #[test]
    fn golden_fingerprints() {
        let print = |body: &str| format!("{:?}", parse(body).unwrap().fingerprint(&MerchantId::default()));
        assert_eq!(print(GOOD), "1a0b3d8d591617acf59024e05b4bc9f7788a9d1b8d06a86d73e087c51e2df01b");
        let full = GOOD.replace("{", r#"{"description":"Zwei Bücher","metadata":{"order":"1001","a":"ä"},"#);
        assert_eq!(print(&full), "d3a4616f198cefec6f8d80cdd7682245552617bd02258d29c72269827c274942");
        let empty = GOOD.replace("{", r#"{"metadata":{},"#);
        assert_eq!(print(&empty), "0b12591707e1cb2e6a4452fbef09a10cc1ee5df1990ba48602f36422c424731c");
        let null = GOOD.replace("{", r#"{"metadata":null,"#);
        assert_eq!(print(&null), print(GOOD), "null and missing are alike");
    }
}
