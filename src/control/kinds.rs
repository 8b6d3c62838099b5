//! How an endpoint is told, and what of: the names that stand on the control log and in the API.

/// By what an endpoint is told. Who adds one adds its name here, its addresses in `api/webhooks/body.rs`, and how it is told in
/// `notifier/`; everything else is the same for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// A POST to somebody's server, signed (Standard Webhooks).
    #[default]
    Webhook,
    /// A custom topic of Azure Event Grid.
    EventGrid,
    /// A queue or topic of Azure Service Bus, or of another AMQP 1.0 broker.
    ServiceBus,
    /// A hub of Azure Event Hubs.
    EventHubs,
}

/// How much of a payment is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PayloadKind {
    /// The event and the payment, as in a stream.
    #[default]
    Full,
    /// What happened to which payment: the receiver asks for the rest.
    Thin,
    /// As `full`, in a CloudEvent 1.0 (structured mode). Of kinds that are no webhook always.
    #[serde(rename = "cloudevents")]
    CloudEvents,
}

impl EndpointKind {
    /// Those that an endpoint can be created of.
    pub const ALL: &'static [Self] = &[Self::Webhook, Self::EventGrid, Self::ServiceBus, Self::EventHubs];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::EventGrid => "event_grid",
            Self::ServiceBus => "service_bus",
            Self::EventHubs => "event_hubs",
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Is one sent what is due at one look together? How, `notifier/attempt.rs` says of each.
    #[must_use]
    pub fn takes_several(self) -> bool {
        match self {
            Self::Webhook | Self::ServiceBus | Self::EventHubs => false,
            Self::EventGrid => true,
        }
    }

    // Serde asks for a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    #[must_use]
    pub fn is_webhook(&self) -> bool {
        *self == Self::Webhook
    }
}

#[cfg(test)]
mod tests {
    use super::EndpointKind;

    #[test]
    fn a_kind_has_one_name_everywhere() {
        for kind in EndpointKind::ALL {
            assert_eq!(EndpointKind::parse(kind.name()), Some(*kind));
            assert_eq!(serde_json::to_string(kind).unwrap(), format!("\"{}\"", kind.name()));
        }
        assert_eq!(EndpointKind::parse("carrier_pigeon"), None);
    }

    #[test]
    fn a_topic_alone_is_sent_several_together() {
        let several: Vec<_> = EndpointKind::ALL.iter().filter(|kind| kind.takes_several()).collect();
        assert_eq!(several, [&EndpointKind::EventGrid]);
    }
}
