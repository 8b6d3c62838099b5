//! From an operator's untrusted JSON to a decision that cannot be wrong: what becomes of a parked payment, who says so, and
//! why. As strict as a merchant's request, for it is kept for as long.

use crate::payment::Invalid;
use crate::payment::event::{Decision, PaymentResumed};
use crate::payment::json::Fields;
use crate::payment::request::without_card;

/// The longest name of an operator, in characters.
pub const OPERATOR_MAX: usize = 64;
/// The longest reason of an operator, in characters.
pub const REASON_MAX: usize = 500;
/// The longest reference of a gateway, in bytes.
pub const REFERENCE_MAX: usize = 255;
/// The longest code of a failure, in bytes.
pub const CODE_MAX: usize = 64;

/// Who decides something, and why: without either nothing is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    operator: String,
    reason: String,
}

/// What becomes of a parked payment, if it still is as the operator saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDecision {
    pub decision: Decision,
    pub at_version: u64,
    pub signed: Signed,
}

impl NewDecision {
    /// Parses the body of `POST /v1/operator/parked/{id}/resume`.
    pub fn parse(body: &[u8]) -> Result<Self, Invalid> {
        let fields = fields_of(body)?;
        fields.only(&["decision", "reference", "code", "at_version", "operator", "reason"])?;
        Ok(Self {
            decision: decision(&fields)?,
            at_version: at_version(fields.required("at_version")?)?,
            signed: Signed::parse(&fields)?,
        })
    }

    #[must_use]
    pub fn into_event(self) -> PaymentResumed {
        let Self { decision, at_version, signed: Signed { operator, reason } } = self;
        PaymentResumed { operator, reason, at_version, decision }
    }
}

impl Signed {
    /// Parses a body that has `operator`, `reason` and one more text, about which something is decided; and perhaps another,
    /// which says what is set aside by it.
    pub fn parse_about(
        body: &[u8],
        about: &'static str,
        despite: &'static str,
    ) -> Result<(String, Option<String>, Self), Invalid> {
        let fields = fields_of(body)?;
        fields.only(&[about, despite, "operator", "reason"])?;
        Ok((fields.required_text(about)?, fields.optional_text(despite)?, Self::parse(&fields)?))
    }

    /// Of a body that says nothing else.
    pub fn parse_alone(body: &[u8]) -> Result<Self, Invalid> {
        let fields = fields_of(body)?;
        fields.only(&["operator", "reason"])?;
        Self::parse(&fields)
    }

    fn parse(fields: &Fields<'_>) -> Result<Self, Invalid> {
        Self::new(&fields.required_text("operator")?, &fields.required_text("reason")?)
    }

    /// Each is one line of text.
    pub fn new(operator: &str, reason: &str) -> Result<Self, Invalid> {
        Ok(Self {
            operator: line("invalid_operator", "operator", operator, OPERATOR_MAX)?,
            reason: line("invalid_reason", "reason", reason, REASON_MAX)?,
        })
    }

    #[must_use]
    pub fn operator(&self) -> &str {
        &self.operator
    }

    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

fn fields_of(body: &[u8]) -> Result<Fields<'_>, Invalid> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Invalid::malformed("malformed_json", "the body is not UTF-8".to_owned()))?;
    Fields::parse(text, "the body")
}

fn decision(fields: &Fields<'_>) -> Result<Decision, Invalid> {
    let token = |field, max| -> Result<Option<String>, Invalid> {
        fields.optional_text(field)?.map(|text| token(field, text, max)).transpose()
    };
    let (reference, code) = (token("reference", REFERENCE_MAX)?, token("code", CODE_MAX)?);
    let refuse = |code, field, detail: &str| Err(Invalid::field(code, field, detail.to_owned()));
    match (fields.required_text("decision")?.as_str(), reference, code) {
        ("inquire", None, None) => Ok(Decision::Inquire),
        ("charge_again", None, None) => Ok(Decision::ChargeAgain),
        ("settle_successful", Some(reference), None) => Ok(Decision::SettleSuccessful { reference }),
        ("settle_failed", None, Some(code)) => Ok(Decision::SettleFailed { code }),
        ("settle_successful", None, _) => {
            let detail = "settle_successful needs reference: under what name the gateway has the charge";
            refuse("missing_field", "reference", detail)
        }
        ("settle_failed", _, None) => {
            refuse("missing_field", "code", "settle_failed needs code: why it failed, as the customer is told")
        }
        ("inquire" | "charge_again" | "settle_failed", Some(_), _) => {
            refuse("field_not_allowed", "reference", "reference goes with settle_successful only")
        }
        ("inquire" | "charge_again" | "settle_successful", _, Some(_)) => {
            refuse("field_not_allowed", "code", "code goes with settle_failed only")
        }
        _ => refuse(
            "invalid_decision",
            "decision",
            "decision must be inquire, charge_again, settle_successful or settle_failed",
        ),
    }
}

/// A version is counted from 1.
fn at_version(raw: &str) -> Result<u64, Invalid> {
    let digits = raw.bytes().all(|b| b.is_ascii_digit());
    raw.parse().ok().filter(|version| digits && *version > 0).ok_or_else(|| {
        let detail = "at_version must be a whole number from 1: the version that you saw";
        Invalid::field("invalid_at_version", "at_version", detail.to_owned())
    })
}

/// Text for people, in one line.
fn line(code: &'static str, field: &'static str, text: &str, max: usize) -> Result<String, Invalid> {
    let text = text.trim().to_owned();
    if text.is_empty() || text.chars().count() > max || text.chars().any(char::is_control) {
        let detail = format!("{field} must be one line of 1 to {max} characters");
        return Err(Invalid::field(code, field, detail));
    }
    without_card(field, text)
}

/// A word for programs.
fn token(field: &'static str, text: String, max: usize) -> Result<String, Invalid> {
    if !(1..=max).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let detail = format!("{field} must be 1 to {max} visible ASCII characters");
        let code = if field == "code" { "invalid_code" } else { "invalid_reference" };
        return Err(Invalid::field(code, field, detail));
    }
    without_card(field, text)
}

#[cfg(test)]
mod tests {
    use super::{NewDecision, REASON_MAX};
    use crate::payment::event::Decision;

    fn parse(decision: &str) -> Result<NewDecision, &'static str> {
        let signed = r#""at_version":2,"operator":"ada","reason":"seen at the provider""#;
        NewDecision::parse(format!("{{{decision},{signed}}}").as_bytes()).map_err(|e| e.code)
    }

    #[test]
    fn each_decision_has_what_it_needs_and_nothing_else() {
        let good = [
            (r#""decision":"inquire""#, Decision::Inquire),
            (r#""decision":"charge_again""#, Decision::ChargeAgain),
            (
                r#""decision":"settle_successful","reference":"ch_9""#,
                Decision::SettleSuccessful { reference: "ch_9".to_owned() },
            ),
            (r#""decision":"settle_failed","code":"fraud""#, Decision::SettleFailed { code: "fraud".to_owned() }),
        ];
        for (body, decision) in good {
            let parsed = parse(body).unwrap();
            assert_eq!((parsed.decision, parsed.at_version, parsed.signed.operator()), (decision, 2, "ada"));
        }
        for (body, code) in [
            (r#""decision":"settle_successful""#, "missing_field"),
            (r#""decision":"settle_failed""#, "missing_field"),
            (r#""decision":"settle_failed","reference":"ch_9","code":"x""#, "field_not_allowed"),
            (r#""decision":"settle_successful","reference":"ch_9","code":"x""#, "field_not_allowed"),
            (r#""decision":"inquire","reference":"ch_9""#, "field_not_allowed"),
            (r#""decision":"charge_again","code":"x""#, "field_not_allowed"),
            (r#""decision":"forget""#, "invalid_decision"),
            (r#""decision":"Inquire""#, "invalid_decision"),
            (r#""decision":1"#, "not_a_string"),
            (r#""decision":"settle_successful","reference":"""#, "invalid_reference"),
            (r#""decision":"settle_successful","reference":"4242424242424242""#, "card_number"),
            (r#""decision":"settle_failed","code":"two words""#, "invalid_code"),
            (r#""decision":"inquire","force":true"#, "unknown_field"),
            (r#""decision":"inquire","decision":"inquire""#, "duplicate_field"),
        ] {
            assert_eq!(parse(body).err(), Some(code), "{body}");
        }
    }

    #[test]
    fn nothing_is_decided_without_a_version_a_name_and_a_reason() {
        let parse = |version: &str, operator: &str, reason: &str| {
            let body =
                format!(r#"{{"decision":"inquire","at_version":{version},"operator":{operator},"reason":{reason}}}"#);
            NewDecision::parse(body.as_bytes()).map_err(|e| e.code)
        };
        assert!(parse("1", "\"ada\"", &format!("\"{}\"", "x".repeat(REASON_MAX))).is_ok());
        for version in ["0", "-1", "1.0", "1e3", "\"1\"", "99999999999999999999"] {
            assert_eq!(parse(version, "\"a\"", "\"b\"").err(), Some("invalid_at_version"), "{version}");
        }
        assert_eq!(parse("null", "\"a\"", "\"b\"").err(), Some("missing_field"));
        let long = format!("\"{}\"", "x".repeat(REASON_MAX + 1));
        for wrong in [r#""""#, r#"" ""#, r#""a\nb""#, r#""\u0007""#, long.as_str()] {
            assert_eq!(parse("1", wrong, "\"b\"").err(), Some("invalid_operator"), "{wrong}");
            assert_eq!(parse("1", "\"a\"", wrong).err(), Some("invalid_reason"), "{wrong}");
        }
        assert_eq!(parse("1", "\"a\"", "null").err(), Some("missing_field"));
        assert_eq!(parse("1", "\"a\"", "\"card 4242 4242 4242 4242\"").err(), Some("card_number"));
        assert_eq!(NewDecision::parse(b"\xff").err().map(|e| e.code), Some("malformed_json"));
    }
}
