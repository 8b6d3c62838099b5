//! The answer to a subscription, as its bytes arrive: head, chunks or not, lines, events. Of an event only the number of its
//! publication is kept. What is not understood is an error: a client that guesses proves nothing.

use memchr::{memchr, memmem};

use crate::dialect::MARK;

/// A head or a line that is longer is not one of these servers'.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// From here on the stream tells what is published.
    Ready,
    Publication(u64),
}

pub struct Parser {
    ready: &'static [u8],
    is_ready: bool,
    at: At,
    chunked: bool,
    /// The beginning of a head, of a chunk's size or of a line, whose rest has not arrived.
    head: Vec<u8>,
    line: Vec<u8>,
    /// Of the event that is being told.
    number: Option<u64>,
}

enum At {
    Head,
    Size,
    Data(usize),
    /// The line break after a chunk: so many bytes of it are missing.
    Break(usize),
    /// All that comes, until the connection ends.
    Rest,
}

impl Parser {
    pub fn new(ready: &'static [u8]) -> Self {
        let (head, line) = (Vec::new(), Vec::new());
        Self { ready, is_ready: false, at: At::Head, chunked: false, head, line, number: None }
    }

    pub fn feed(&mut self, mut bytes: &[u8], told: &mut impl FnMut(Told)) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            match self.at {
                At::Head => bytes = self.head(bytes)?,
                At::Size => bytes = self.size(bytes)?,
                At::Data(left) => {
                    let taken = left.min(bytes.len());
                    self.lines(&bytes[..taken], told)?;
                    bytes = &bytes[taken..];
                    self.at = if taken == left { At::Break(2) } else { At::Data(left - taken) };
                }
                At::Break(left) => {
                    let taken = left.min(bytes.len());
                    anyhow::ensure!(bytes[..taken].iter().all(|byte| b"\r\n".contains(byte)), "a chunk does not end");
                    bytes = &bytes[taken..];
                    self.at = if taken == left { At::Size } else { At::Break(left - taken) };
                }
                At::Rest => {
                    self.lines(bytes, told)?;
                    bytes = &[];
                }
            }
        }
        Ok(())
    }

    /// Answers with what comes behind the head.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> anyhow::Result<&'a [u8]> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        anyhow::ensure!(self.head.len() <= LINE_BYTES_MAX, "the head does not end");
        let Some(end) = memmem::find(&self.head, b"\r\n\r\n") else { return Ok(&[]) };
        let text = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
        anyhow::ensure!(text.starts_with("http/1.1 200"), "it answers {:?}", text.lines().next().unwrap_or_default());
        self.chunked = text.lines().any(|line| line.starts_with("transfer-encoding:") && line.ends_with("chunked"));
        self.at = if self.chunked { At::Size } else { At::Rest };
        self.head = Vec::new();
        Ok(&bytes[end + 4 - before..])
    }

    /// Answers with what comes behind the size.
    fn size<'a>(&mut self, bytes: &'a [u8]) -> anyhow::Result<&'a [u8]> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.head.extend_from_slice(bytes);
            anyhow::ensure!(self.head.len() <= LINE_BYTES_MAX, "the size of a chunk does not end");
            return Ok(&[]);
        };
        self.head.extend_from_slice(&bytes[..end]);
        let text = String::from_utf8_lossy(&self.head);
        let digits = text.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| anyhow::anyhow!("{text:?} is no size of a chunk"))?;
        anyhow::ensure!(size > 0, "the server ended the stream");
        self.head.clear();
        self.at = At::Data(size);
        Ok(&bytes[end + 1..])
    }

    fn lines(&mut self, mut bytes: &[u8], told: &mut impl FnMut(Told)) -> anyhow::Result<()> {
        while let Some(end) = memchr(b'\n', bytes) {
            if self.line.is_empty() {
                self.one(&bytes[..end], told)?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.one(&line, told)?;
            }
            bytes = &bytes[end + 1..];
        }
        self.line.extend_from_slice(bytes);
        anyhow::ensure!(self.line.len() <= LINE_BYTES_MAX, "a line does not end");
        Ok(())
    }

    fn one(&mut self, line: &[u8], told: &mut impl FnMut(Told)) -> anyhow::Result<()> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if let Some(number) = self.number.take() {
                told(Told::Publication(number));
            }
            return Ok(());
        }
        if !self.is_ready && line.starts_with(self.ready) {
            self.is_ready = true;
            told(Told::Ready);
        }
        if line.starts_with(b"data:")
            && let Some(at) = memmem::find(line, MARK)
        {
            anyhow::ensure!(self.number.is_none(), "two publications in one event");
            let digits = line[at + MARK.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0, |number: u64, digit| number.wrapping_mul(10) + u64::from(digit - b'0'));
            self.number = Some(number);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Parser, Told};

    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12;x=1\r\nretry: 1\n\nid: aa\n\n\r\n\
        5\r\nid: b\r\n1c\r\nb\ndata: {\"amount\":17,\"x\":1}\n\r\n1\r\n\n\r\n";
    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nid: a\r\n\r\ndata: {\"amount\":17}\r\n\r\ndata: {\"amount\":18}\n\n";

    fn told(answer: &[u8], piece: usize) -> anyhow::Result<Vec<Told>> {
        let (mut parser, mut all) = (Parser::new(b"id:"), Vec::new());
        for bytes in answer.chunks(piece) {
            parser.feed(bytes, &mut |one| all.push(one))?;
        }
        Ok(all)
    }

    #[test]
    fn an_answer_is_understood_in_pieces_of_any_size() {
        for piece in 1..CHUNKED.len() {
            assert_eq!(told(CHUNKED, piece).unwrap(), [Told::Ready, Told::Publication(17)], "{piece}");
        }
        for piece in 1..WHOLE.len() {
            let two = [Told::Ready, Told::Publication(17), Told::Publication(18)];
            assert_eq!(told(WHOLE, piece).unwrap(), two, "{piece}");
        }
    }

    #[test]
    fn what_is_no_stream_is_an_error() {
        let ended = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let unfinished = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n:x\r\n";
        let refused = b"HTTP/1.1 503 Service Unavailable\r\n\r\n";
        let twice = b"HTTP/1.1 200 OK\r\n\r\ndata: {\"amount\":17}\ndata: {\"amount\":17}\n\n";
        for (answer, why) in [
            (&ended[..], "ended the stream"),
            (unfinished, "does not end"),
            (refused, "503"),
            (twice, "two publications"),
        ] {
            let error = told(answer, 7).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
