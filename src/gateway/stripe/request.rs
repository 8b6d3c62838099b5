//! The bytes of a charge: a function of the payment and of the request version recorded with it, and of nothing else. The
//! provider compares a repeat with the first request, so that no upgrade of paylog, and none of a library, may change them;
//! hence the encoding is written out here.

use super::amount::to_stripe;
use crate::gateway::Charge;

/// The newest version, recorded with new payments.
pub const VERSION: u32 = 1;

/// Sent with every request: what Stripe's answers look like depends on it. It belongs to request version 1.
pub(super) const STRIPE_VERSION: &str = "2025-09-30.clover";

/// Why there are no bytes for a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBody {
    /// A version that this build does not know; a newer one does.
    Version,
    /// Stripe has no word for this amount in this currency, and never had one under this version.
    Amount,
}

/// The body of `POST /v1/payment_intents`.
///
/// `payment_method_types[]=card` with `error_on_requires_action` is the one form in which Stripe confirms at once, asks for no
/// `return_url` and answers yes or no: what needs its owner (3-D Secure) is declined. `automatic_payment_methods` would take
/// more kinds of methods, but which ones would be decided by switches in Stripe's dashboard, and some are paid days later.
pub fn body(charge: &Charge) -> Result<String, NoBody> {
    if charge.request_version != 1 {
        return Err(NoBody::Version);
    }
    let amount = to_stripe(charge.money).ok_or(NoBody::Amount)?;
    let fields = [
        ("amount", amount.to_string()),
        ("currency", charge.money.currency().code().to_ascii_lowercase()),
        ("payment_method", charge.payment_method.as_str().to_owned()),
        ("confirm", "true".to_owned()),
        ("error_on_requires_action", "true".to_owned()),
        ("payment_method_types[]", "card".to_owned()),
        ("metadata[payment_id]", charge.key.to_string()),
        ("metadata[merchant_id]", charge.merchant.as_str().to_owned()),
    ];
    Ok(form(&fields))
}

/// `application/x-www-form-urlencoded`, for a body and for a query.
pub(super) fn form(fields: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        percent_encode(name, &mut text);
        text.push('=');
        percent_encode(value, &mut text);
    }
    text
}

/// All but the unreserved characters of RFC 3986.
fn percent_encode(text: &str, into: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(HEX[usize::from(byte >> 4)]));
            into.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NoBody, body, form};
    use crate::gateway::Charge;
    use crate::gateway::samples::charge;

    /// Golden: these bytes are at the provider, under keys that are alive. They may never change.
    #[test]
    fn version_1_never_changes() {
        let text = "amount=1999&currency=eur&payment_method=pm_card_visa&confirm=true&error_on_requires_action=true\
                    &payment_method_types%5B%5D=card&metadata%5Bpayment_id%5D=pay_py4e5muxaklg75g4chpkn2gms4\
                    &metadata%5Bmerchant_id%5D=default";
        assert_eq!(body(&charge("order-1001", "pm_card_visa")).unwrap(), text);
    }

    #[test]
    fn only_the_payment_counts_and_not_the_try() {
        let first = charge("order-1001", "pm_card_visa");
        let later = Charge { attempt: 9, since: crate::payment::samples::at(500), ..first.clone() };
        assert_eq!(body(&later), body(&first));
        assert_eq!(
            body(&Charge { request_version: 2, ..first }),
            Err(NoBody::Version),
            "no guess at what a later version will be"
        );
    }

    #[test]
    fn every_byte_survives_the_form() {
        let text: String = (' '..='~').chain(['ä', '€']).collect();
        let fields = [("a[b]", text.clone()), ("c", "x&y=z+ %".to_owned())];
        let read: Vec<_> = form_urlencoded::parse(form(&fields).as_bytes()).into_owned().collect();
        assert_eq!(read, [("a[b]".to_owned(), text), ("c".to_owned(), "x&y=z+ %".to_owned())]);
    }
}
