//! Whom a broker takes us for: a name and a key, as of a shared access policy of Azure Service Bus, or both out of its
//! connection string. Neither is ever shown.

use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    name: String,
    key: String,
}

/// `Endpoint=sb://<host>/;SharedAccessKeyName=<name>;SharedAccessKey=<key>;EntityPath=<queue>`, of which the first and the
/// last may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionString {
    pub host: Option<String>,
    pub credential: Credential,
    pub node: Option<String>,
}

impl Credential {
    pub fn new(name: &str, key: &str) -> Result<Self, String> {
        if name.is_empty() || key.is_empty() {
            return Err("it needs a name and a key".to_owned());
        }
        Ok(Self { name: name.to_owned(), key: key.to_owned() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl ConnectionString {
    /// Does it say nothing else of the namespace and the queue than `address` does?
    #[must_use]
    pub fn is_of(&self, address: &super::Address) -> bool {
        let same = |said: &Option<String>, is: &str| said.as_deref().is_none_or(|said| said == is);
        same(&self.host, address.host()) && same(&self.node, address.node())
    }

    /// The text of an error repeats no value of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut host, mut name, mut key, mut node) = (None, None, None, None);
        for part in text.trim().split(';').filter(|part| !part.trim().is_empty()) {
            let Some((field, value)) = part.split_once('=') else {
                return Err("it is no connection string: its parts are NAME=VALUE, with ; between".to_owned());
            };
            let value = value.trim();
            let slot = match field.trim().to_ascii_lowercase().as_str() {
                "endpoint" => &mut host,
                "sharedaccesskeyname" => &mut name,
                "sharedaccesskey" => &mut key,
                "entitypath" => &mut node,
                "sharedaccesssignature" => {
                    return Err("a shared access signature is not taken: give SharedAccessKeyName and SharedAccessKey"
                        .to_owned());
                }
                // Whatever transport it names, it is AMQP here.
                "transporttype" => continue,
                _ => {
                    return Err(
                        "it may have Endpoint, SharedAccessKeyName, SharedAccessKey and EntityPath, and no other part"
                            .to_owned(),
                    );
                }
            };
            if slot.replace(value.to_owned()).is_some() {
                return Err("it has a part twice".to_owned());
            }
        }
        let host = host.map(|endpoint| host_of(&endpoint)).transpose()?;
        let credential = Credential::new(&name.unwrap_or_default(), &key.unwrap_or_default())
            .map_err(|_| "it needs SharedAccessKeyName and SharedAccessKey".to_owned())?;
        Ok(Self { host, credential, node })
    }
}

fn host_of(endpoint: &str) -> Result<String, String> {
    let host = endpoint.strip_prefix("sb://").map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['/', ':', '@']) => Ok(host.to_ascii_lowercase()),
        _ => Err("its Endpoint must be sb://HOST/".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionString, Credential};

    #[test]
    fn a_connection_string_is_read_as_azure_writes_it() {
        let text = "Endpoint=sb://Shop.servicebus.windows.net/;SharedAccessKeyName=paylog;SharedAccessKey=c2VjcmV0PQ==;EntityPath=orders";
        let read = ConnectionString::parse(text).unwrap();
        let credential = Credential::new("paylog", "c2VjcmV0PQ==").unwrap();
        let (host, node) = (Some("shop.servicebus.windows.net".to_owned()), Some("orders".to_owned()));
        assert_eq!(read, ConnectionString { host, credential: credential.clone(), node });
        let short = ConnectionString::parse(" SharedAccessKeyName=paylog;sharedaccesskey=c2VjcmV0PQ==; ").unwrap();
        assert_eq!(short, ConnectionString { host: None, credential, node: None });
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_secret() {
        for wrong in [
            "",
            "s3cret",
            "SharedAccessKeyName=paylog",
            "SharedAccessKey=s3cret",
            "SharedAccessKeyName=;SharedAccessKey=s3cret",
            "SharedAccessKeyName=a;SharedAccessKey=s3cret;SharedAccessKey=s3cret",
            "Endpoint=https://host/;SharedAccessKeyName=a;SharedAccessKey=s3cret",
            "Endpoint=sb://s3cret@host/;SharedAccessKeyName=a;SharedAccessKey=s3cret",
            "SharedAccessSignature=s3cret",
            "s3cret=1;SharedAccessKeyName=a;SharedAccessKey=s3cret",
        ] {
            let why = ConnectionString::parse(wrong).expect_err(wrong);
            assert!(!why.contains("s3cret"), "{why}");
        }
        assert_eq!(format!("{:?}", Credential::new("paylog", "s3cret").unwrap()), "Credential(..)");
    }
}
