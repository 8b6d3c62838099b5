//! From a merchant's untrusted request to a [`NewPayment`] that cannot be wrong, the fingerprint that says whether two
//! requests ask for the same, and what an accepted one becomes. Strict: what is not exactly the contract is refused with its own stable code.

use std::collections::BTreeMap;
use std::fmt;

use crate::payment::card::holds_card_number;
use crate::payment::event::{PaymentInProgress, Private};
use crate::payment::id::Parts;
use crate::payment::json::{Fields, text, whole_number};
use crate::payment::{Currency, CustomerId, MerchantId, Money, RequestId};

pub const PAYMENT_METHOD_MAX: usize = 255;
pub const DESCRIPTION_MAX: usize = 500;
pub const METADATA_ENTRIES_MAX: usize = 50;
pub const METADATA_KEY_MAX: usize = 40;
pub const METADATA_VALUE_MAX: usize = 500;
/// How requests to gateways are built today; recorded with each payment.
const GATEWAY_REQUEST_VERSION: u32 = 1;

/// What a merchant asks for. Everything in it has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPayment {
    pub money: Money,
    pub customer_id: CustomerId,
    pub payment_method: PaymentMethod,
    pub description: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What a request says, before anything of it is checked. Metadata may name a key twice: which one would count?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    pub amount: i64,
    pub currency: String,
    pub customer_id: String,
    pub payment_method: String,
    pub description: Option<String>,
    pub metadata: Option<Vec<(String, String)>>,
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
        Self::check(Unchecked {
            currency: fields.required_text("currency")?,
            amount: whole_number("amount", fields.required("amount")?)?,
            customer_id: fields.required_text("customer_id")?,
            payment_method: fields.required_text("payment_method")?,
            description: fields.optional_text("description")?,
            metadata: fields.optional("metadata").map(entries).transpose()?,
        })
    }

    /// The same judgement, in whatever form the request came.
    pub fn check(asked: Unchecked) -> Result<Self, Invalid> {
        Ok(Self {
            money: Money::new(asked.amount, Currency::parse(&asked.currency)?)?,
            customer_id: CustomerId::parse(&without_card("customer_id", asked.customer_id)?)?,
            payment_method: PaymentMethod::parse(&asked.payment_method)?,
            description: asked.description.map(description).transpose()?,
            metadata: asked.metadata.map(metadata).transpose()?,
        })
    }

    /// The payment that this becomes, once it is accepted: the same whichever way the request came.
    #[must_use]
    pub fn accept(self, merchant_id: MerchantId, gateway: &str, request_id: RequestId) -> PaymentInProgress {
        let fingerprint = self.fingerprint(&merchant_id);
        let Self { money, customer_id, payment_method, description, metadata } = self;
        PaymentInProgress {
            merchant_id,
            customer_id,
            money,
            payment_method,
            gateway: gateway.to_owned(),
            gateway_request_version: GATEWAY_REQUEST_VERSION,
            request_id,
            fingerprint,
            private: Private::plain(description, metadata),
        }
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

impl MerchantId {
    /// As a request names it, from which it gets onto the log.
    pub fn of_request(text: &str) -> Result<Self, Invalid> {
        Self::parse(&without_card("merchant_id", text.to_owned())?)
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

fn description(text: String) -> Result<String, Invalid> {
    if text.chars().count() > DESCRIPTION_MAX {
        let detail = format!("description must be at most {DESCRIPTION_MAX} characters");
        return Err(Invalid::field("description_too_long", "description", detail));
    }
    without_card("description", text)
}

fn metadata(entries: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Invalid> {
    let refuse = |detail: String| Err(Invalid::field("invalid_metadata", "metadata", detail));
    if entries.len() > METADATA_ENTRIES_MAX {
        return refuse(format!("metadata must have at most {METADATA_ENTRIES_MAX} entries"));
    }
    let mut checked = BTreeMap::new();
    for (key, value) in entries {
        if key.is_empty() || key.chars().count() > METADATA_KEY_MAX || value.chars().count() > METADATA_VALUE_MAX {
            return refuse(format!(
                "a metadata key must be 1 to {METADATA_KEY_MAX} characters and its value at most {METADATA_VALUE_MAX}"
            ));
        }
        let key = without_card("metadata", key)?;
        if checked.insert(key, without_card("metadata", value)?).is_some() {
            return Err(Invalid::malformed("duplicate_field", "metadata names a field twice".to_owned()));
        }
    }
    Ok(checked)
}

fn entries(raw: &str) -> Result<Vec<(String, String)>, Invalid> {
    if !raw.starts_with('{') {
        let detail = "metadata must be an object of strings".to_owned();
        return Err(Invalid::field("invalid_metadata", "metadata", detail));
    }
    let fields = Fields::parse(raw, "metadata")?;
    fields.all().iter().map(|(key, raw)| Ok((key.clone(), text("metadata", raw)?))).collect()
}

/// Refuses a value that holds what looks like a card number.
pub(super) fn without_card(field: &'static str, text: String) -> Result<String, Invalid> {
    if holds_card_number(&text) {
        let detail = format!("{field} looks like a card number, and paylog takes only tokens: nothing was recorded");
        return Err(Invalid::field("card_number", field, detail));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{NewPayment, Unchecked};
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
    fn a_request_in_another_form_is_judged_alike() {
        let asked = || Unchecked {
            amount: 1999,
            currency: "EUR".to_owned(),
            customer_id: "cus_42".to_owned(),
            payment_method: "pm_card_visa".to_owned(),
            description: None,
            metadata: None,
        };
        assert_eq!(NewPayment::check(asked()), parse(GOOD));
        let twice = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "1".to_owned())];
        let code = |asked: Unchecked| NewPayment::check(asked).unwrap_err().code;
        assert_eq!(code(Unchecked { metadata: Some(twice), ..asked() }), "duplicate_field");
        assert_eq!(code(Unchecked { amount: -1, ..asked() }), "amount_negative");
        assert_eq!(code(Unchecked { customer_id: "4242424242424242".to_owned(), ..asked() }), "card_number");
    }

    #[test]
    fn an_error_never_repeats_what_was_sent() {
        for body in [with("payment_method", "\"4242424242424242\""), with("customer_id", "\"secret secret\"")] {
            let detail = parse(&body).unwrap_err().detail;
            assert!(!detail.contains("4242") && !detail.contains("secret"), "{detail}");
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
