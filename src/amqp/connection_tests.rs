use std::time::Duration;

use tokio::time::timeout;

use crate::amqp::peer::Peer;
use crate::amqp::{Address, AmqpError, Answer, CLOSE_MAX, Connection, Credential, Outgoing, Sender};

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(peer: &Peer, at: std::net::SocketAddr) -> (Connection, crate::amqp::peer::Talk) {
    let address = Address::parse(&format!("amqp://{at}/orders")).unwrap();
    let (to, credential) = ([at], Credential::new("paylog", "key").unwrap());
    let opening = async { tokio::join!(Connection::open(&address, &to, &credential), peer.greet()) };
    let (connection, talk) = timeout(PATIENCE, opening).await.expect("they meet");
    (connection.unwrap(), talk)
}

fn message() -> Outgoing {
    let text = || "m".to_owned();
    let (content_type, properties, body) = ("text/plain", Vec::new(), b"m".to_vec());
    Outgoing { id: text(), session: text(), subject: text(), content_type, properties, body }
}

/// The library alone would wait for the broker's goodbye for ever.
#[tokio::test]
async fn a_broker_that_never_says_goodbye_keeps_no_socket() {
    let (peer, at) = Peer::start().await;
    let (closed, mut of_closed) = open(&peer, at).await;
    let (dropped, mut of_dropped) = open(&peer, at).await;
    drop(dropped);
    let left = async { tokio::join!(closed.close(), of_closed.is_left(), of_dropped.is_left()) };
    timeout(CLOSE_MAX + Duration::from_secs(8), left).await.expect("both sockets are gone");
}

/// On threads with an ordinary stack each of the three would end the process: here is one, and the test is on it.
#[tokio::test]
async fn what_a_broker_nests_does_not_reach_the_stack_of_who_sends() {
    let (peer, at) = Peer::start().await;
    let (connection, mut talk) = open(&peer, at).await;
    let work = async {
        let (sender, ()) = tokio::join!(Sender::attach(connection, "orders"), talk.attach());
        let sender = sender.unwrap();
        let (answer, ()) = tokio::join!(sender.send(message()), talk.reject());
        assert_eq!(answer.unwrap(), Answer::Rejected);
        let end = async {
            talk.end().await;
            talk.is_left().await;
        };
        // The library may leave it unsaid what became of a message when its connection was ended: senders have a deadline.
        tokio::select! {
            answer = sender.send(message()) => assert!(matches!(answer, Err(AmqpError::Ended(_))), "{answer:?}"),
            () = end => {}
        }
        drop(sender);
    };
    timeout(PATIENCE, work).await.expect("all of it is answered");
}
