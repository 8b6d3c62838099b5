//! Stream tokens and tickets: what a merchant's backend gives to a browser, so that it follows one payment or one customer for
//! a while and can do nothing else. A token is a JWT as RFC 9068 has it, a ticket one that goes into a URL and is taken once.
//!
//! RFC 8725: one algorithm (HS256, for who signs is who verifies), each kind with a type and an audience of its own, an issuer
//! that is this installation's log, and nothing taken from a token before its signature is known to be ours.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sha2::{Digest, Sha256};

use crate::journal::LogId;
use crate::payment::{CustomerId, MerchantId, PaymentId};

/// The longest life of a token. A page that is open for longer asks its backend for the next one.
pub const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// The life of a token of which nothing is said.
pub const LIFETIME: Duration = Duration::from_secs(900);
/// The life of a ticket, which is used as soon as it has come.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(30);
/// What signs is not shorter than what comes out of it (RFC 7518, 3.2).
const SIGNING_KEY_MIN_BYTES: usize = 32;
/// A token is never longer; more is not even looked at.
const TOKEN_MAX_BYTES: usize = 4096;

/// The two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Token,
    Ticket,
}

/// What a token names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    Payment(PaymentId),
    Customer(CustomerId),
}

/// What a token says, once it is known to be ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub merchant: MerchantId,
    pub named: Named,
    /// The id of the key that it was asked for with, and without which it is nothing; or [`NO_KEY`].
    pub client: String,
    /// When it ends, in seconds since 1970.
    pub ends_at_s: u64,
    pub(super) jti: String,
}

/// The client of who needed no key.
pub const NO_KEY: &str = "loopback";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadToken {
    Invalid,
    Expired,
}

/// Signs and verifies. The first key signs, all of them verify, so that a key can be exchanged while its tokens live.
pub struct Tokens {
    issuer: String,
    keys: Vec<SigningKey>,
}

struct SigningKey {
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    client_id: String,
    iat: u64,
    exp: u64,
    jti: String,
    scope: String,
    merchant: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    payment_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    customer_id: Option<String>,
    /// Of a ticket: when what is opened with it ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    grant_exp: Option<u64>,
}

const SCOPE: &str = "follow";

impl Use {
    fn kind(self) -> &'static str {
        match self {
            Self::Token => "at+jwt",
            Self::Ticket => "ticket+jwt",
        }
    }

    fn audience(self, issuer: &str) -> String {
        let face = match self {
            Self::Token => "streams",
            Self::Ticket => "tickets",
        };
        format!("{issuer}/{face}")
    }
}

impl Tokens {
    /// `keys` is one or several, with commas between.
    pub fn new(keys: &str, log: LogId) -> anyhow::Result<Self> {
        let keys = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
        let keys = keys.map(|key| SigningKey::new(key.as_bytes())).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(!keys.is_empty(), "there is no key to sign stream tokens with");
        Ok(Self { issuer: format!("paylog:{log}"), keys })
    }

    /// A token of `lifetime`, or a ticket to what ends then.
    pub(super) fn sign(&self, kind: Use, grant: &Grant, now_s: u64) -> anyhow::Result<String> {
        let key = self.keys.first().context("there is no key to sign with")?;
        let (payment_id, customer_id) = match &grant.named {
            Named::Payment(id) => (Some(id.to_string()), None),
            Named::Customer(id) => (None, Some(id.as_str().to_owned())),
        };
        let (exp, grant_exp) = match kind {
            Use::Token => (grant.ends_at_s, None),
            Use::Ticket => (grant.ends_at_s.min(now_s + TICKET_LIFETIME.as_secs()), Some(grant.ends_at_s)),
        };
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: kind.audience(&self.issuer),
            sub: grant.named.to_string(),
            client_id: grant.client.clone(),
            iat: now_s,
            exp,
            jti: grant.jti.clone(),
            scope: SCOPE.to_owned(),
            merchant: grant.merchant.as_str().to_owned(),
            payment_id,
            customer_id,
            grant_exp,
        };
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(kind.kind().to_owned());
        header.kid = Some(key.id.clone());
        jsonwebtoken::encode(&header, &claims, &key.encoding).context("signing a token")
    }

    pub(super) fn read(&self, kind: Use, text: &str) -> Result<Grant, BadToken> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(BadToken::Invalid);
        }
        let header = jsonwebtoken::decode_header(text).map_err(|_| BadToken::Invalid)?;
        let is_kind = header.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case(kind.kind()));
        let key = self.keys.iter().find(|key| header.kid.as_deref() == Some(&key.id));
        let key = key.filter(|_| is_kind).ok_or(BadToken::Invalid)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[kind.audience(&self.issuer)]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let read = jsonwebtoken::decode::<Claims>(text, &key.decoding, &validation);
        let claims = read.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => BadToken::Expired,
            _ => BadToken::Invalid,
        })?;
        grant(kind, claims.claims).ok_or(BadToken::Invalid)
    }
}

/// What the claims of one of ours come to.
fn grant(kind: Use, claims: Claims) -> Option<Grant> {
    let longest = match kind {
        Use::Token => LIFETIME_MAX,
        Use::Ticket => TICKET_LIFETIME,
    };
    let lives = claims.exp.checked_sub(claims.iat)?;
    if claims.scope != SCOPE || lives > longest.as_secs() {
        return None;
    }
    let named = match (claims.payment_id, claims.customer_id) {
        (Some(id), None) => Named::Payment(PaymentId::parse(&id)?),
        (None, Some(id)) => Named::Customer(CustomerId::parse(&id).ok()?),
        _ => return None,
    };
    let merchant = MerchantId::parse(&claims.merchant).ok()?;
    let ends_at_s = claims.grant_exp.unwrap_or(claims.exp);
    Some(Grant { merchant, named, client: claims.client_id, ends_at_s, jti: claims.jti })
}

impl SigningKey {
    fn new(key: &[u8]) -> anyhow::Result<Self> {
        let (min, has) = (SIGNING_KEY_MIN_BYTES, key.len());
        ensure!(has >= min, "a key to sign stream tokens with must have {min} bytes at least, and one has {has}");
        let id = HEXLOWER.encode(&Sha256::digest([b"paylog/kid/1".as_slice(), key].concat())[..4]);
        Ok(Self { id, encoding: EncodingKey::from_secret(key), decoding: DecodingKey::from_secret(key) })
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payment(id) => write!(f, "payment:{id}"),
            Self::Customer(id) => write!(f, "customer:{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64URL_NOPAD;
    use serde_json::{Value, json};

    use super::{BadToken, Grant, LIFETIME_MAX, NO_KEY, Named, Tokens, Use};
    use crate::journal::LogId;
    use crate::payment::{CustomerId, MerchantId, Timestamp};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn tokens(keys: &str) -> Tokens {
        Tokens::new(keys, LogId([7; 16])).unwrap()
    }

    fn now_s() -> u64 {
        u64::try_from(Timestamp::now().as_micros() / 1_000_000).unwrap()
    }

    fn grant(ends_at_s: u64) -> Grant {
        Grant {
            merchant: MerchantId::parse("acme").unwrap(),
            named: Named::Customer(CustomerId::parse("cus_1").unwrap()),
            client: NO_KEY.to_owned(),
            ends_at_s,
            jti: "j1".to_owned(),
        }
    }

    fn part(token: &str, n: usize) -> Value {
        serde_json::from_slice(&BASE64URL_NOPAD.decode(token.split('.').nth(n).unwrap().as_bytes()).unwrap()).unwrap()
    }

    /// As somebody signs who has our key, and does not keep to our form.
    fn forged(header: &Value, claims: &Value, secret: &str) -> String {
        let mut real = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        if header["alg"] == "HS384" {
            real.alg = jsonwebtoken::Algorithm::HS384;
        }
        real.typ = header["typ"].as_str().map(str::to_owned);
        real.kid = header["kid"].as_str().map(str::to_owned);
        jsonwebtoken::encode(&real, claims, &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn a_token_says_what_was_signed() {
        let (tokens, grant) = (tokens(SECRET), grant(now_s() + 60));
        let token = tokens.sign(Use::Token, &grant, now_s()).unwrap();
        assert_eq!(tokens.read(Use::Token, &token), Ok(grant.clone()));
        let (header, claims) = (part(&token, 0), part(&token, 1));
        assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("HS256")));
        let log = "07".repeat(16);
        let expected = json!({"iss": format!("paylog:{log}"), "aud": format!("paylog:{log}/streams"), "sub": "customer:cus_1",
            "client_id": "loopback", "merchant": "acme", "customer_id": "cus_1", "scope": "follow", "jti": "j1"});
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&claims[name], value, "{claims}");
        }
        let ticket = tokens.sign(Use::Ticket, &grant, now_s()).unwrap();
        assert_eq!(tokens.read(Use::Ticket, &ticket), Ok(grant), "a ticket opens what lasts as long as its token");
        assert!(part(&ticket, 1)["exp"].as_u64().unwrap() <= now_s() + 30);
        assert_eq!(tokens.read(Use::Token, &ticket), Err(BadToken::Invalid), "each for its own use");
        assert_eq!(tokens.read(Use::Ticket, &token), Err(BadToken::Invalid));
    }

    #[test]
    fn what_is_not_ours_or_is_over_is_refused() {
        let ours = tokens(SECRET);
        let token = ours.sign(Use::Token, &grant(now_s() + 60), now_s()).unwrap();
        let (header, claims) = (part(&token, 0), part(&token, 1));
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            forged(&header, &claims, SECRET)
        };
        let headed = |name: &str, value: Value| {
            let mut header = header.clone();
            header[name] = value;
            forged(&header, &claims, SECRET)
        };
        assert!(ours.read(Use::Token, &forged(&header, &claims, SECRET)).is_ok());
        let none = BASE64URL_NOPAD.encode(&serde_json::to_vec(&json!({"alg": "none", "typ": "at+jwt"})).unwrap());
        let body = token.split('.').nth(1).unwrap();
        for (why, bad) in [
            ("no algorithm", format!("{none}.{body}.")),
            ("another algorithm", headed("alg", json!("HS384"))),
            ("another type", headed("typ", json!("JWT"))),
            ("no type", headed("typ", Value::Null)),
            ("an unknown key", headed("kid", json!("00000000"))),
            ("another key", forged(&header, &claims, OTHER)),
            ("another issuer", with("iss", json!("paylog:x"))),
            ("another audience", with("aud", json!("x"))),
            ("another scope", with("scope", json!("pay"))),
            ("no merchant", with("merchant", json!(""))),
            ("two names", with("payment_id", json!("pay_py4e5muxaklg75g4chpkn2gms4"))),
            ("too long a life", with("exp", json!(now_s() + LIFETIME_MAX.as_secs() + 60))),
            ("no name", with("customer_id", Value::Null)),
            ("nothing", String::new()),
            ("no token", "x.y.z".to_owned()),
            ("too long", format!("{token}{}", "x".repeat(5_000))),
        ] {
            assert_eq!(ours.read(Use::Token, &bad), Err(BadToken::Invalid), "{why}");
        }
        assert_eq!(ours.read(Use::Token, &with("exp", json!(now_s() - 1))), Err(BadToken::Expired));
        let of_another_log = Tokens::new(SECRET, LogId([8; 16])).unwrap();
        assert_eq!(of_another_log.read(Use::Token, &token), Err(BadToken::Invalid));
    }

    #[test]
    fn the_key_that_signs_is_exchanged_while_its_tokens_live() {
        let token = tokens(SECRET).sign(Use::Token, &grant(now_s() + 60), now_s()).unwrap();
        let both = tokens(&format!("{OTHER}, {SECRET}"));
        assert!(both.read(Use::Token, &token).is_ok());
        let newer = both.sign(Use::Token, &grant(now_s() + 60), now_s()).unwrap();
        assert!(tokens(OTHER).read(Use::Token, &newer).is_ok() && tokens(OTHER).read(Use::Token, &token).is_err());
        assert!(Tokens::new("short", LogId([7; 16])).is_err_and(|e| !format!("{e:#}").contains("short")));
        assert!(Tokens::new(" , ", LogId([7; 16])).is_err());
    }
}
