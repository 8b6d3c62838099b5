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

/// What is nested as brokers do is understood; what is deeper ends the connection, and nothing else. The library would follow it
/// by recursion, beyond the stack of this thread.
#[tokio::test]
async fn what_a_broker_nests_does_not_reach_the_stack_of_who_sends() {
    const USUAL: usize = 20; // with what it stands in, almost as deep as we let in
    const HOSTILE: usize = 20_000; // two bytes a level, as a frame has room for
    for depths in [[USUAL; 3], [HOSTILE, 0, 0], [USUAL, HOSTILE, 0], [USUAL, USUAL, HOSTILE]] {
        let (peer, at) = Peer::start().await;
        let (connection, talk) = open(&peer, at).await;
        let told = timeout(PATIENCE, tell(connection, talk, depths)).await.expect("all of it is answered");
        let expected = depths.iter().position(|depth| *depth == HOSTILE).unwrap_or(2);
        assert_eq!(told, expected, "{depths:?}");
    }
}

/// How much of it came to something: the link, and a message.
async fn tell(connection: Connection, mut talk: crate::amqp::peer::Talk, depths: [usize; 3]) -> usize {
    let (sender, ()) = tokio::join!(Sender::attach(connection, "orders"), talk.attach(depths[0]));
    let sender = match sender {
        Ok(sender) => sender,
        Err(error) => {
            assert!(matches!(error, AmqpError::Ended(_)), "{error:?}");
            return 0;
        }
    };
    let rejecting = async {
        talk.reject(depths[1]).await;
        talk.is_left().await;
    };
    tokio::select! {
        answer = sender.send(message()) => match answer {
            Ok(answer) => assert_eq!(answer, Answer::Rejected),
            Err(AmqpError::Ended(_)) => return 1,
            Err(error) => panic!("{error:?}"),
        },
        () = rejecting => return 1,
    }
    let ending = async {
        talk.end(depths[2]).await;
        talk.is_left().await;
    };
    // The library may leave it unsaid what became of a message when its connection was ended: senders have a deadline.
    tokio::select! {
        answer = sender.send(message()) => assert!(matches!(answer, Err(AmqpError::Ended(_))), "{answer:?}"),
        () = ending => {}
    }
    2
}
