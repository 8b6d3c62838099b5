//! From the form of `POST /v1/payment_intents` to a request that makes sense, or to Stripe's words for what is wrong with it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::answer::Answer;

const AMOUNT_MAX: i64 = 99_999_999_999_999;
const KEY_MAX: usize = 255;
const PARAMETERS_MAX: usize = 200;

/// Everything in it was checked, but for what the payment method is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub key: String,
    pub amount: i64,
    pub currency: String,
    pub payment_method: String,
    pub metadata: BTreeMap<String, String>,
    /// Of the parameters, in whatever order they came: what a repeat must have too.
    pub parameters: [u8; 32],
}

/// Taken, and without a meaning here.
const WITHOUT_MEANING: &[&str] = &["description", "payment_method_types[]", "payment_method_types[0]"];

/// Counted in hundredths, of which there must be none.
const WITHOUT_FRACTIONS: &[&str] = &["isk", "ugx"];

impl Request {
    pub fn parse(key: &str, body: &[u8]) -> Result<Self, Answer> {
        if key.len() > KEY_MAX {
            return Err(Answer::invalid("idempotency_key_too_long", "Idempotency-Key", "The key is too long."));
        }
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            if fields.len() == PARAMETERS_MAX || fields.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Answer::invalid("parameter_invalid", &name, "Too many parameters, or one of them twice."));
            }
        }
        let parameters = digest(&fields);
        let amount = required(&mut fields, "amount")?.parse::<i64>().ok().filter(|n| (1..=AMOUNT_MAX).contains(n));
        let amount = amount.ok_or_else(|| Answer::invalid("parameter_invalid_integer", "amount", "Invalid amount."))?;
        let currency = required(&mut fields, "currency")?;
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err(Answer::invalid("invalid_currency", "currency", "Invalid currency."));
        }
        if WITHOUT_FRACTIONS.contains(&currency.as_str()) && amount % 100 != 0 {
            let message = "Invalid amount: it must be divisible by 100 in this currency.";
            return Err(Answer::invalid("parameter_invalid_integer", "amount", message));
        }
        let payment_method = required(&mut fields, "payment_method")?;
        for switch in ["confirm", "error_on_requires_action"] {
            if required(&mut fields, switch)? != "true" {
                return Err(Answer::invalid("parameter_invalid", switch, "This simulator knows only true."));
            }
        }
        let metadata = metadata(&mut fields);
        if let Some(name) = fields.keys().find(|name| !WITHOUT_MEANING.contains(&name.as_str())) {
            return Err(Answer::invalid("parameter_unknown", name, "Received unknown parameter."));
        }
        Ok(Self { key: key.to_owned(), amount, currency, payment_method, metadata, parameters })
    }
}

fn required(fields: &mut BTreeMap<String, String>, name: &str) -> Result<String, Answer> {
    let missing = || Answer::invalid("parameter_missing", name, &format!("Missing required param: {name}."));
    fields.remove(name).filter(|value| !value.is_empty()).ok_or_else(missing)
}

/// `metadata[name]=value`, taken out of the rest.
fn metadata(fields: &mut BTreeMap<String, String>) -> BTreeMap<String, String> {
    let name = |field: &str| Some(field.strip_prefix("metadata[")?.strip_suffix(']')?.to_owned());
    let found: BTreeMap<String, String> =
        fields.iter().filter_map(|(field, value)| Some((name(field)?, value.clone()))).collect();
    fields.retain(|field, _| name(field).is_none());
    found
}

fn digest(fields: &BTreeMap<String, String>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in fields.iter().flat_map(|(name, value)| [name, value]) {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::Request;

    const GOOD: &str = "amount=1999&currency=eur&payment_method=pm_card_visa&confirm=true&error_on_requires_action=true\
                        &payment_method_types[]=card&metadata[payment_id]=pay_1";

    #[test]
    fn a_good_form_is_read_and_its_order_does_not_matter() {
        let request = Request::parse("k", GOOD.as_bytes()).unwrap();
        assert_eq!((request.amount, request.currency.as_str()), (1999, "eur"));
        assert_eq!(request.metadata["payment_id"], "pay_1");
        let (first, rest) = GOOD.split_once('&').unwrap();
        let turned = Request::parse("k", format!("{rest}&{first}").as_bytes()).unwrap();
        assert_eq!(turned, request);
    }

    #[test]
    fn what_is_missing_wrong_unknown_or_twice_is_refused_in_stripe_s_words() {
        let refused = |form: &str| match Request::parse("k", form.as_bytes()) {
            Err(answer) => (answer.status, answer.body["error"]["code"].as_str().unwrap().to_owned()),
            Ok(request) => panic!("{request:?}"),
        };
        assert_eq!(refused(&GOOD.replace("amount=1999&", "")), (400, "parameter_missing".to_owned()));
        assert_eq!(refused(&GOOD.replace("1999", "-1")).1, "parameter_invalid_integer");
        assert_eq!(refused(&GOOD.replace("=eur", "=EUR")).1, "invalid_currency");
        assert_eq!(refused(&GOOD.replace("confirm=true", "confirm=false")).1, "parameter_invalid");
        assert_eq!(refused(&format!("{GOOD}&amout=1")).1, "parameter_unknown");
        assert_eq!(refused(&format!("{GOOD}&amount=2000")).1, "parameter_invalid");
    }
}
