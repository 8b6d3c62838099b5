//! For tests: the other side of a connection, byte by byte, as no library would be it. It nests what it says as deep as it is
//! told, and never says goodbye.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(super) struct Peer(TcpListener);

impl Peer {
    pub async fn start() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        (Self(listener), at)
    }

    /// Lets the client log in and open a session.
    pub async fn greet(&self) -> Talk {
        let mut talk = Talk(self.0.accept().await.unwrap().0);
        for answer in [
            [b"AMQP\x03\x01\x00\x00".to_vec(), frame(1, b"\x00\x53\x40\xc0\x0b\x01\xe0\x08\x01\xa3\x05PLAIN")].concat(),
            frame(1, b"\x00\x53\x44\xc0\x03\x01\x50\x00"),
            b"AMQP\x00\x01\x00\x00".to_vec(),
            frame(0, b"\x00\x53\x10\xc0\x04\x01\xa1\x01p"),
            frame(0, b"\x00\x53\x11\xc0\x0a\x04\x60\x00\x00\x52\x01\x52\x7f\x52\x7f"),
        ] {
            assert!(!talk.hear().await.is_empty(), "the client has gone");
            talk.say(&answer).await;
        }
        talk
    }
}

pub(super) struct Talk(TcpStream);

impl Talk {
    /// Attaches the link that the client wants, with nested properties, and lets it send.
    pub async fn attach(&mut self, levels: usize) {
        let heard = self.hear().await;
        let name = heard.windows(7).position(|part| part == b"paylog-").expect("a link has a name");
        let name = [&[0xa1, 39][..], &heard[name..name + 39]].concat();
        // Name, handle, receiver, two modes, no source, a target, and nothing of the next six.
        let fields = [&name[..], b"\x43\x41\x40\x40\x40\x00\x53\x29\x45", &[0x40; 6], &nested_map(levels)].concat();
        self.say(&frame(0, &[b"\x00\x53\x12".as_slice(), &list(14, &fields)].concat())).await;
        self.say(&frame(0, b"\x00\x53\x13\xc0\x0c\x07\x43\x52\x7f\x52\x01\x52\x7f\x43\x43\x52\x0a")).await;
    }

    /// Rejects a message, with nested information.
    pub async fn reject(&mut self, levels: usize) {
        self.hear().await;
        let error = [b"\xa3\x11amqp:decode-error\x40".as_slice(), &nested_map(levels)].concat();
        let error = [b"\x00\x53\x1d".as_slice(), &list(3, &error)].concat();
        let rejected = [b"\x00\x53\x25".as_slice(), &list(1, &error)].concat();
        let fields = [b"\x41\x43\x40\x41".as_slice(), &rejected].concat();
        self.say(&frame(0, &[b"\x00\x53\x15".as_slice(), &list(5, &fields)].concat())).await;
    }

    /// Ends the connection for a nested reason.
    pub async fn end(&mut self, levels: usize) {
        self.hear().await;
        let error = [b"\xa3\x13amqp:internal-error\x40".as_slice(), &nested_map(levels)].concat();
        let error = [b"\x00\x53\x1d".as_slice(), &list(3, &error)].concat();
        self.say(&frame(0, &[b"\x00\x53\x18".as_slice(), &list(1, &error)].concat())).await;
    }

    /// Until the client's socket is gone, whatever the client says meanwhile.
    pub async fn is_left(&mut self) {
        while !self.hear().await.is_empty() {}
    }

    async fn hear(&mut self) -> Vec<u8> {
        let mut heard = vec![0; 64 * 1024];
        let length = self.0.read(&mut heard).await.unwrap_or(0);
        heard.truncate(length);
        heard
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).unwrap();
    [&size.to_be_bytes()[..], &[2, kind, 0, 0], body].concat()
}

fn list(count: u32, fields: &[u8]) -> Vec<u8> {
    wide(0xd0, count, fields)
}

/// A map with one value: a description of a description of ... nothing.
fn nested_map(levels: usize) -> Vec<u8> {
    wide(0xd1, 2, &[b"\xa3\x01n".as_slice(), &b"\x00\x44".repeat(levels), b"\x40"].concat())
}

fn wide(kind: u8, count: u32, fields: &[u8]) -> Vec<u8> {
    let size = u32::try_from(4 + fields.len()).unwrap();
    [&[kind][..], &size.to_be_bytes(), &count.to_be_bytes(), fields].concat()
}
