//! Messages as the rest of paylog sees them: bytes, names and texts, whatever AMQP type they came in.

use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body as AmqpBody, Data, Message, MessageId, Properties,
};
use fe2o3_amqp::types::primitives::{Binary, SimpleValue, Symbol, Value};

/// A message that was taken off a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The message id: a text, or a number or UUID as text, or bytes.
    pub id: Option<Vec<u8>>,
    /// Application properties; `None` for a value that is no text, no bytes, no whole number and no UUID.
    pub properties: Vec<(String, Option<Vec<u8>>)>,
    pub body: Body,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Body {
    #[default]
    Empty,
    Bytes(Vec<u8>),
    /// A structure of AMQP's own, which nobody here reads.
    Structure,
}

/// A message to put on a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub id: String,
    /// The session (AMQP: the group): messages of one are kept in order by a broker that knows sessions.
    pub session: String,
    pub subject: String,
    pub content_type: &'static str,
    pub properties: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

/// How a message comes off the wire.
pub(super) type Wire = Message<AmqpBody<Value>>;

impl Received {
    pub(super) fn of(message: Wire) -> Self {
        let id = message.properties.and_then(|properties| properties.message_id).map(id_bytes);
        let properties = message.application_properties.map(|ApplicationProperties(map)| map).unwrap_or_default();
        let properties = properties.into_iter().map(|(name, value)| (name, value_bytes(value))).collect();
        Self { id, properties, body: body(message.body) }
    }
}

impl Outgoing {
    pub(super) fn message(self) -> Message<Data> {
        let properties = Properties {
            message_id: Some(MessageId::String(self.id)),
            subject: Some(self.subject),
            content_type: Some(Symbol::from(self.content_type)),
            group_id: Some(self.session),
            ..Properties::default()
        };
        let mut named = ApplicationProperties::builder();
        for (name, value) in self.properties {
            named = named.insert(name, value);
        }
        Message::builder()
            // A broker that is stopped and started again still has it.
            .header(fe2o3_amqp::types::messaging::Header { durable: true, ..Default::default() })
            .properties(properties)
            .application_properties(named.build())
            .data(Binary::from(self.body))
            .build()
    }
}

fn id_bytes(id: MessageId) -> Vec<u8> {
    match id {
        MessageId::String(text) => text.into_bytes(),
        MessageId::Binary(bytes) => bytes.into_vec(),
        MessageId::Ulong(number) => number.to_string().into_bytes(),
        MessageId::Uuid(id) => uuid::Uuid::from_bytes(id.into_inner()).hyphenated().to_string().into_bytes(),
    }
}

fn value_bytes(value: SimpleValue) -> Option<Vec<u8>> {
    Some(match value {
        SimpleValue::String(text) => text.into_bytes(),
        SimpleValue::Symbol(Symbol(text)) => text.into_bytes(),
        SimpleValue::Binary(bytes) => bytes.into_vec(),
        SimpleValue::Uuid(id) => uuid::Uuid::from_bytes(id.into_inner()).hyphenated().to_string().into_bytes(),
        SimpleValue::Ubyte(number) => number.to_string().into_bytes(),
        SimpleValue::Ushort(number) => number.to_string().into_bytes(),
        SimpleValue::Uint(number) => number.to_string().into_bytes(),
        SimpleValue::Ulong(number) => number.to_string().into_bytes(),
        SimpleValue::Byte(number) => number.to_string().into_bytes(),
        SimpleValue::Short(number) => number.to_string().into_bytes(),
        SimpleValue::Int(number) => number.to_string().into_bytes(),
        SimpleValue::Long(number) => number.to_string().into_bytes(),
        _ => return None,
    })
}

fn body(body: AmqpBody<Value>) -> Body {
    match body {
        AmqpBody::Empty => Body::Empty,
        AmqpBody::Data(parts) => Body::Bytes(parts.into_iter().flat_map(|Data(part)| part.into_vec()).collect()),
        AmqpBody::Value(AmqpValue(Value::String(text))) => Body::Bytes(text.into_bytes()),
        AmqpBody::Value(AmqpValue(Value::Binary(bytes))) => Body::Bytes(bytes.into_vec()),
        AmqpBody::Value(AmqpValue(Value::Null)) => Body::Empty,
        AmqpBody::Value(_) | AmqpBody::Sequence(_) => Body::Structure,
    }
}
