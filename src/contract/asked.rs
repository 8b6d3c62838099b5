//! Bodies of requests that are read field by field ([`crate::payment`]), as their description has them: nothing is read into
//! these. That they are what is taken is shown by `tests/it`, where every body that was taken is held to them.

use std::collections::BTreeMap;

use super::text;

/// A payment to be made.
#[derive(utoipa::ToSchema)]
#[schema(
    as = NewPayment,
    examples(json!({"amount": 1999, "currency": "EUR", "customer_id": "cus_42", "payment_method": "pm_card_visa"}))
)]
#[serde(deny_unknown_fields)]
pub struct NewPaymentBody {
    /// In minor units, such as cents.
    #[schema(minimum = 1, maximum = 999_999_999_999_999_i64)]
    pub amount: i64,
    #[schema(value_type = text::Currency)]
    pub currency: String,
    #[schema(value_type = text::CustomerId)]
    pub customer_id: String,
    #[schema(value_type = text::PaymentMethod)]
    pub payment_method: String,
    #[schema(max_length = 500)]
    pub description: Option<String>,
    /// At most 50 entries; a key has 1 to 40 characters, and a value 500 at most.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What becomes of a parked payment, if it still is as the operator saw it.
#[derive(utoipa::ToSchema)]
#[schema(as = NewDecision)]
#[serde(deny_unknown_fields)]
pub struct NewDecisionBody {
    #[schema(value_type = text::DecisionKind)]
    pub decision: String,
    /// With `settle_successful`, and only with that.
    #[schema(value_type = Option<text::Reference>)]
    pub reference: Option<String>,
    /// With `settle_failed`, and only with that.
    #[schema(value_type = Option<text::FailureCode>)]
    pub code: Option<String>,
    /// The version that the operator saw.
    #[schema(minimum = 1)]
    pub at_version: u64,
    #[schema(value_type = text::OperatorName)]
    pub operator: String,
    #[schema(value_type = text::Reason)]
    pub reason: String,
}

/// A record that the fold is to pass over.
#[derive(utoipa::ToSchema)]
#[schema(as = NewRejection)]
#[serde(deny_unknown_fields)]
pub struct NewRejectionBody {
    #[schema(value_type = text::Place)]
    pub position: String,
    /// `unknown_schema`: the operator knows that no paylog wrote the record.
    #[schema(value_type = Option<text::Despite>)]
    pub despite: Option<String>,
    #[schema(value_type = text::OperatorName)]
    pub operator: String,
    #[schema(value_type = text::Reason)]
    pub reason: String,
}

/// The word that this log alone acts for what was imported.
#[derive(utoipa::ToSchema)]
#[schema(as = Adoption)]
#[serde(deny_unknown_fields)]
pub struct AdoptionBody {
    /// Of the archive that the operator has looked at.
    pub digest: String,
    #[schema(value_type = text::OperatorName)]
    pub operator: String,
    #[schema(value_type = text::Reason)]
    pub reason: String,
}

/// Which version of a projection is meant.
#[derive(utoipa::ToSchema)]
#[schema(as = VersionChange)]
#[serde(deny_unknown_fields)]
pub struct VersionChangeBody {
    pub version: String,
    #[schema(value_type = text::OperatorName)]
    pub operator: String,
    #[schema(value_type = text::Reason)]
    pub reason: String,
}

/// Which version of a projection is to be served.
#[derive(utoipa::ToSchema)]
#[schema(as = Promotion)]
#[serde(deny_unknown_fields)]
pub struct PromotionBody {
    pub version: String,
    /// `accepted`: the operator has looked at the differences.
    #[schema(value_type = Option<text::Accepted>)]
    pub differences: Option<String>,
    #[schema(value_type = text::OperatorName)]
    pub operator: String,
    #[schema(value_type = text::Reason)]
    pub reason: String,
}

/// Who wants a key to be revoked, and why.
#[derive(utoipa::ToSchema)]
#[schema(as = Revocation)]
#[serde(deny_unknown_fields)]
pub struct RevocationBody {
    #[schema(value_type = text::OperatorName)]
    pub operator: String,
    #[schema(value_type = text::Reason)]
    pub reason: String,
}

/// Who decides about requests by an id of the schema registry, and why.
#[derive(utoipa::ToSchema)]
#[schema(as = NewSchemaDecision)]
#[serde(deny_unknown_fields)]
pub struct NewSchemaDecisionBody {
    #[schema(value_type = text::OperatorName)]
    pub operator: String,
    #[schema(value_type = text::Reason)]
    pub reason: String,
}

/// A CloudEvent 1.0 that asks for a payment. What else stands in it is passed over.
#[derive(utoipa::ToSchema)]
#[schema(as = CloudEventAsked)]
pub struct CloudEventBody {
    #[schema(value_type = text::SpecVersion)]
    pub specversion: String,
    #[schema(min_length = 1)]
    pub id: String,
    #[schema(min_length = 1)]
    pub source: String,
    /// Any, if the data is JSON.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub datacontenttype: Option<String>,
    pub traceparent: Option<String>,
    /// The body of `POST /v1/payments`: this or `data_base64`.
    #[schema(value_type = Option<Object>)]
    pub data: Option<NewPaymentBody>,
    pub data_base64: Option<String>,
}

/// An event in Event Grid's own schema that asks for a payment. What else stands in it is passed over.
#[derive(utoipa::ToSchema)]
#[schema(as = GridEventAsked)]
pub struct GridEventBody {
    #[schema(min_length = 1)]
    pub id: String,
    pub topic: Option<String>,
    /// The body of `POST /v1/payments`; of a validation its code.
    #[schema(value_type = Object)]
    pub data: NewPaymentBody,
}
