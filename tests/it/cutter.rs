//! Stands between a client and a server, and cuts each connection at some byte of what is said, so many times.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What a cut is made in, and after how many bytes of it at most.
#[derive(Clone, Copy)]
pub enum CutIn {
    /// What the server says.
    Answers(usize),
    /// One connection in three is refused, one is cut in what the client says, and one in what the server says.
    Both { requests: usize, answers: usize },
}

pub struct Cutter {
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

/// After how many bytes a connection is cut, each way.
#[derive(Clone, Copy)]
struct Left {
    requests: usize,
    answers: usize,
}

impl CutIn {
    fn some(self) -> Left {
        let never = Left { requests: usize::MAX, answers: usize::MAX };
        match self {
            Self::Answers(max) => Left { answers: rand::random_range(0..max), ..never },
            Self::Both { requests, answers } => match rand::random_range(0..3) {
                0 => Left { requests: 0, ..never },
                1 => Left { requests: rand::random_range(1..requests), ..never },
                _ => Left { answers: rand::random_range(0..answers), ..never },
            },
        }
    }
}

impl Cutter {
    /// Before `server`, with `cuts` cuts to make. After them it passes everything on.
    pub async fn before(server: SocketAddr, cut_in: CutIn, cuts: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, made) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&made);
        let serving = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let all_made = counted.load(Ordering::SeqCst) >= cuts;
                let left = if all_made { Left { requests: usize::MAX, answers: usize::MAX } } else { cut_in.some() };
                tokio::spawn(pass(client, server, left, Arc::clone(&counted)));
            }
        });
        Self { address, cuts: made, _serving: AbortOnDropHandle::new(serving) }
    }

    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, left: Left, cuts: Arc<AtomicUsize>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let cut = tokio::select! {
            cut = pump(from_server, to_client, left.answers) => cut,
            cut = pump(from_client, to_server, left.requests) => cut,
        };
        cuts.fetch_add(usize::from(cut), Ordering::SeqCst);
    }
    // Half of them with a reset.
    if rand::random() {
        let _ = client.set_zero_linger();
    }
}

/// Passes on what comes; `true` when so much has come that it is time to cut.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut left: usize) -> bool {
    let mut buffer = [0; 1024];
    while left > 0 {
        let room = left.min(buffer.len());
        let read = from.read(&mut buffer[..room]).await.unwrap_or(0);
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return false;
        }
        left -= read;
    }
    true
}
