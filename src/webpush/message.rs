//! A message, encrypted for one browser (RFC 8291): its push service sees how long it is, and nothing else.

use p256::PublicKey;
use web_push_native::Auth;

use super::Subscription;

/// What fits into the 4,096 bytes that every push service takes, as one record (RFC 8291, 4).
pub const PLAIN_MAX: usize = 3_993;
/// The length says nothing either: that of a payment that failed is that of one that did not.
const BLOCK_BYTES: usize = 512;

/// Says nothing of the message.
#[derive(Debug, thiserror::Error)]
pub enum Unencryptable {
    #[error("the message has {0} bytes, and {PLAIN_MAX} is the most")]
    TooLong(usize),
    #[error("the subscription's key is no key")]
    Key,
    #[error("it cannot be encrypted")]
    Failed,
}

/// The body of a request to the push service, `Content-Encoding: aes128gcm`. `json` is JSON: blanks at its end change nothing.
pub fn encrypt(subscription: &Subscription, json: &str) -> Result<Vec<u8>, Unencryptable> {
    if json.len() > PLAIN_MAX {
        return Err(Unencryptable::TooLong(json.len()));
    }
    let mut plain = json.as_bytes().to_vec();
    plain.resize(plain.len().next_multiple_of(BLOCK_BYTES).min(PLAIN_MAX), b' ');
    let key = PublicKey::from_sec1_bytes(subscription.p256dh()).map_err(|_| Unencryptable::Key)?;
    web_push_native::encrypt(plain, &key, &Auth::from(subscription.auth())).map_err(|_| Unencryptable::Failed)
}

#[cfg(test)]
mod tests {
    use ece::{EcKeyComponents, generate_keypair_and_auth_secret};
    use p256::SecretKey;
    use web_push_native::Auth;

    use super::{PLAIN_MAX, Unencryptable, encrypt};
    use crate::webpush::{BASE64, Subscription};

    fn bytes(text: &str) -> Vec<u8> {
        BASE64.decode(text.as_bytes()).unwrap()
    }

    /// RFC 8291, appendix A, read by the library that we encrypt with and by Mozilla's.
    #[test]
    fn the_message_of_the_standard_is_read() {
        let private = bytes("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94");
        let public = bytes("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4");
        let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg");
        let message = bytes(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        let secret = SecretKey::from_slice(&private).unwrap();
        let auth_key = Auth::from(<[u8; 16]>::try_from(auth.as_slice()).unwrap());
        let ours = web_push_native::decrypt(message.clone(), &secret, &auth_key).unwrap();
        assert_eq!(ours, b"When I grow up, I want to be a watermelon");
        let theirs = ece::decrypt(&EcKeyComponents::new(private, public), &auth, &message).unwrap();
        assert_eq!(theirs, ours);
    }

    #[test]
    fn what_is_encrypted_is_read_by_its_browser_alone_and_its_length_says_nothing() {
        let (key, auth) = generate_keypair_and_auth_secret().unwrap();
        let components = key.raw_components().unwrap();
        let public = BASE64.encode(components.public_key());
        let browser = Subscription::parse("https://push.example/1", &public, &BASE64.encode(&auth)).unwrap();
        let sent = encrypt(&browser, r#"{"a":1}"#).unwrap();
        let read = ece::decrypt(&components, &auth, &sent).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&read).unwrap(), serde_json::json!({"a": 1}));
        assert_eq!(sent.len(), encrypt(&browser, &format!("{{\"a\":\"{}\"}}", "x".repeat(400))).unwrap().len());
        let (other, _) = generate_keypair_and_auth_secret().unwrap();
        assert!(ece::decrypt(&other.raw_components().unwrap(), &auth, &sent).is_err());
    }

    #[test]
    fn the_longest_message_fits_into_what_every_push_service_takes() {
        let (key, auth) = generate_keypair_and_auth_secret().unwrap();
        let public = BASE64.encode(key.raw_components().unwrap().public_key());
        let browser = Subscription::parse("https://push.example/1", &public, &BASE64.encode(&auth)).unwrap();
        let longest = format!("\"{}\"", "x".repeat(PLAIN_MAX - 2));
        assert_eq!(encrypt(&browser, &longest).unwrap().len(), 4_096);
        assert!(matches!(encrypt(&browser, &format!("{longest} ")), Err(Unencryptable::TooLong(3_994))));
    }
}
