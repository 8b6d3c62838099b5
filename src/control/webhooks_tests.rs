use super::{
    Asks, Change, Document, Endpoint, EndpointId, EndpointKind, EndpointState, KnownWebhooks, PayloadKind, Range,
    RequestBody,
};
use crate::control::state::{Folded, State};
use crate::journal::{LogId, Offset};
use crate::payment::MerchantId;

const OURS: LogId = LogId([7; 16]);

fn endpoint() -> Endpoint {
    Endpoint {
        id: EndpointId([1; 16]),
        merchant_id: "default".to_owned(),
        url: "https://example.org/hook".to_owned(),
        events: Some(vec!["PaymentSuccessful".to_owned()]),
        ordered: false,
        payload: PayloadKind::Full,
        state: EndpointState::Enabled,
        reason: None,
        from: vec![3, 0],
        secrets: Vec::new(),
        created_at: "2025-11-24T16:00:00.000000Z".to_owned(),
        enabled_at: "2025-11-24T16:00:00.000000Z".to_owned(),
        kind: EndpointKind::Webhook,
        credential: None,
    }
}

fn document<T: serde::Serialize>(log: LogId, kind: &str, entity: String, version: u64, body: T) -> Vec<u8> {
    let (kind, log, at) = (kind.to_owned(), log.to_string(), "2025-11-24T16:00:00.000000Z".to_owned());
    serde_json::to_vec(&Document { kind, entity, version, log, at, body }).unwrap()
}

fn changed(change: Change, version: u64, endpoint: Endpoint) -> Vec<u8> {
    document(OURS, change.kind(), format!("webhook-endpoint/{}", endpoint.id), version, endpoint)
}

fn known(state: &mut State, offset: u64, value: &[u8]) -> KnownWebhooks {
    match state.fold(OURS, Offset(offset), value) {
        Folded::Webhooks(known) => (*known).clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_lower_offset_wins_and_a_request_is_open_while_its_endpoint_is_as_it_was() {
    let mut state = State::default();
    known(&mut state, 0, &changed(Change::Created, 1, endpoint()));
    let asks = RequestBody { endpoint: endpoint().id, asks: Asks::Test };
    let request = document(OURS, "WebhookTestRequested", format!("webhook-request/wr_{}", "02".repeat(16)), 1, asks);
    let after = known(&mut state, 1, &request);
    let asked = after.requests.since(0).remove(0);
    assert!(after.is_open(&asked));
    let off = Endpoint { state: EndpointState::Disabled, ..endpoint() };
    let after = known(&mut state, 2, &changed(Change::Disabled, 2, off));
    assert!(!after.is_open(&asked) && after.requests.get(asked.id).is_none());
    let unheard = String::from_utf8(request).unwrap().replace("wr_02", "wr_03");
    assert_eq!(known(&mut state, 2, unheard.as_bytes()).requests.count(), 1, "nobody is asked who is disabled");
    assert_eq!(state.fold(OURS, Offset(3), &changed(Change::Deleted, 2, endpoint())), Folded::Late);
    let after = known(&mut state, 4, &changed(Change::Enabled, 3, endpoint()));
    assert!(!after.is_open(&asked), "it was asked of what it was before");
    assert_eq!(after.endpoints[&endpoint().id].enabled_offset, Offset(4));
    let rotated = known(&mut state, 5, &changed(Change::Rotated, 4, endpoint()));
    assert_eq!(rotated.endpoints[&endpoint().id].enabled_offset, Offset(4));
}

#[test]
fn what_is_of_another_log_has_no_effect() {
    let mut state = State::default();
    let entity = format!("webhook-endpoint/{}", endpoint().id);
    let other = document(LogId([8; 16]), "WebhookEndpointCreated", entity, 1, endpoint());
    assert_eq!(state.fold(OURS, Offset(0), &other), Folded::NotForUs);
    let wrong = document(OURS, "WebhookEndpointCreated", "webhook-endpoint/x".to_owned(), 1, endpoint());
    assert!(matches!(state.fold(OURS, Offset(1), &wrong), Folded::Unreadable(_)));
}

#[test]
fn an_endpoint_hears_of_its_merchant_and_of_what_it_wants() {
    let (mine, theirs) = (MerchantId::default(), MerchantId::parse("other").unwrap());
    assert!(endpoint().wants(&mine, "PaymentSuccessful"));
    assert!(!endpoint().wants(&mine, "PaymentFailed") && !endpoint().wants(&theirs, "PaymentSuccessful"));
    assert!(Endpoint { events: None, ..endpoint() }.wants(&mine, "SomethingNew"));
}

/// As they stand on somebody's log: these bytes never change their meaning.
#[test]
fn golden_documents() {
    let created = r#"{"type":"WebhookEndpointCreated","entity":"webhook-endpoint/we_01010101010101010101010101010101","version":1,"log":"07070707070707070707070707070707","at":"2025-11-24T16:00:00.000000Z","id":"we_01010101010101010101010101010101","merchant_id":"default","url":"https://example.org/hook","events":["PaymentSuccessful"],"ordered":false,"payload":"full","state":"enabled","reason":null,"from":[3,0],"secrets":[],"created_at":"2025-11-24T16:00:00.000000Z","enabled_at":"2025-11-24T16:00:00.000000Z"}"#;
    assert_eq!(String::from_utf8(changed(Change::Created, 1, endpoint())).unwrap(), created);
    let sealed = r#"{"key_id":"01020304","sealed":"AAAA"}"#;
    let grid = created
        .replace(r#""payload":"full""#, r#""payload":"cloudevents""#)
        .replace("}", &format!(r#","kind":"event_grid","credential":{sealed}}}"#));
    let (kind, payload) = (EndpointKind::EventGrid, PayloadKind::CloudEvents);
    let of_grid = Endpoint { kind, payload, credential: Some(serde_json::from_str(sealed).unwrap()), ..endpoint() };
    assert_eq!(String::from_utf8(changed(Change::Created, 1, of_grid.clone())).unwrap(), grid);
    let (mut state, id) = (State::default(), of_grid.id);
    assert_eq!(known(&mut state, 0, grid.as_bytes()).endpoints[&id].endpoint, of_grid);
    let recover = r#"{"type":"WebhookRecoveryRequested","entity":"webhook-request/wr_02020202020202020202020202020202","version":1,"log":"07070707070707070707070707070707","at":"2025-11-24T16:00:00.000000Z","endpoint":"we_01010101010101010101010101010101","recover":{"ranges":[{"partition":1,"from":0,"to":5}]}}"#;
    let asks = Asks::Recover { ranges: vec![Range { partition: 1, from: 0, to: 5 }] };
    let body = RequestBody { endpoint: endpoint().id, asks };
    let written =
        document(OURS, "WebhookRecoveryRequested", format!("webhook-request/wr_{}", "02".repeat(16)), 1, body);
    assert_eq!(String::from_utf8(written).unwrap(), recover);
    let mut state = State::default();
    known(&mut state, 0, created.as_bytes());
    let after = known(&mut state, 1, recover.as_bytes());
    assert_eq!(after.requests.count(), 1);
}
