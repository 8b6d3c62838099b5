//! What passes and what does not, however it is cut into reads.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

fn frame(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(HEAD_BYTES + body.len()).unwrap();
    [&size.to_be_bytes()[..], &[2, 0, 0, 0], body].concat()
}

/// Handle 0; no tag, no format, not settled.
fn transfer(delivery: u8, more: bool, payload: &[u8]) -> Vec<u8> {
    let more = if more { 0x41 } else { 0x42 };
    let performative = [0x00, 0x53, 0x14, 0xC0, 8, 6, 0x43, 0x52, delivery, 0x40, 0x40, 0x42, more];
    frame(&[&performative[..], payload].concat())
}

const EMPTY_TRANSFER: usize = HEAD_BYTES + 13;

/// One section: data of so many bytes.
fn data(bytes: usize) -> Vec<u8> {
    let length = u32::try_from(bytes).unwrap();
    [b"\x00\x53\x75\xb0".as_slice(), &length.to_be_bytes(), &vec![b'x'; bytes]].concat()
}

fn nested(levels: usize) -> Vec<u8> {
    [b"\x00\x53\x77".as_slice(), &b"\x00\x44".repeat(levels), b"\x40"].concat()
}

/// In frames as large as they may be.
fn message(delivery: u8, payload: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = payload.chunks(FRAME_MAX as usize - EMPTY_TRANSFER).collect();
    let last = parts.len() - 1;
    parts.iter().enumerate().flat_map(|(n, part)| transfer(delivery, n < last, part)).collect()
}

/// What the library sees of it, or that the connection was ended, and what was emptied.
async fn seen(says: &[u8], at_once: usize) -> (Option<Vec<u8>>, Vec<(u32, Unusable)>) {
    let (mut broker, ours) = duplex(at_once);
    let (mut guard, emptied) = Guard::new(ours, "a broker".to_owned());
    let says = says.to_vec();
    tokio::spawn(async move {
        drop(broker.write_all(&says).await); // a guard that has ended it reads no more
    });
    let mut out = Vec::new();
    let whole = guard.read_to_end(&mut out).await.is_ok();
    let emptied = lock(&emptied).iter().map(|(delivery, why)| (*delivery, *why)).collect();
    (whole.then_some(out), emptied)
}

#[tokio::test]
async fn what_is_as_it_should_be_passes_as_it_is() {
    let says = [
        b"AMQP\x03\x01\x00\x00".to_vec(),
        b"\x00\x00\x00\x18\x02\x01\x00\x00\x00\x53\x44\xc0\x0b\x01\xe0\x08\x01\xa3\x05PLAIN".to_vec(),
        b"AMQP\x00\x01\x00\x00".to_vec(),
        frame(b""),
        message(1, &data(100)),
        message(2, &data(200_000)),
        transfer(3, true, &data(10)[..4]),
        frame(b"\x00\x53\x13\x45"), // a flow between two frames of a message
        transfer(3, false, &data(10)[4..]),
        message(4, &nested(DEPTH_MAX - 3)),
    ]
    .concat();
    let mut says = says;
    says[8 + 3] = 8 + 16; // the frame of the mechanisms is as long as it is
    for at_once in [1, 7, 64 * 1024] {
        let (out, emptied) = seen(&says, at_once).await;
        assert!(out.as_deref() == Some(&says[..]) && emptied.is_empty(), "{at_once}: {emptied:?}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_too_deep_or_none_is_emptied_and_those_around_it_pass() {
    let (before, behind) = (message(1, &data(10)), message(5, &data(10)));
    let large = message(2, &data(2 * 1024 * 1024));
    let frames_of_large = 2 * 1024 * 1024 / (FRAME_MAX as usize - EMPTY_TRANSFER) + 1;
    let says = [&before[..], &large, &message(3, &nested(100_000)), &message(4, &data(10)[..9]), &behind].concat();
    for at_once in [1_000, 64 * 1024] {
        let (out, emptied) = seen(&says, at_once).await;
        let expected = [(2, Unusable::TooLarge), (3, Unusable::TooDeep), (4, Unusable::NoMessage)];
        assert_eq!(emptied, expected);
        let out = out.unwrap();
        let frames_of_deep = 4; // 200 KB
        let empty = EMPTY_TRANSFER * (frames_of_large + frames_of_deep + 1);
        assert_eq!(out.len(), before.len() + empty + behind.len());
        assert!(out.starts_with(&before) && out.ends_with(&behind));
        assert_eq!(out[before.len()..][..EMPTY_TRANSFER], transfer(2, true, b"")[..], "it says that more comes");
    }
}

#[tokio::test]
async fn many_small_frames_are_not_waited_for_without_end() {
    let says: Vec<u8> = (0..3_000).flat_map(|n| transfer(1, n < 2_999, b"\x40")).collect();
    let (out, emptied) = seen(&says, 64 * 1024).await;
    assert_eq!((out.unwrap().len(), emptied), (3_000 * EMPTY_TRANSFER, vec![(1, Unusable::TooLarge)]));
}

#[tokio::test]
async fn what_is_wrong_beside_messages_ends_the_connection() {
    for (what, says) in [
        ("short", b"\x00\x00\x00\x07\x02\x00\x00\x00".to_vec()),
        ("large", b"\x00\x02\x00\x00\x02\x00\x00\x00".to_vec()),
        ("a longer head", [&b"\x00\x00\x00\x0c\x03\x00\x00\x00\x00\x00\x00\x00"[..]].concat()),
        ("deep", frame(&[b"\x00\x53\x12".as_slice(), &b"\x00\x44".repeat(1_000), b"\x40"].concat())),
        ("left over", frame(b"\x00\x53\x13\x45\x40")),
        ("cut", frame(b"\x00\x53\x13\xc0")),
        ("no performative", frame(b"\x00\x53\x19\x45")),
        ("in a list", frame(b"\xc0\x09\x02\x00\x53\x14\xc0\x02\x01\x43\x40")),
        ("by name", frame(b"\x00\xa3\x0eamqp:flow:list\x45")),
        ("a field more", frame(b"\x00\x53\x18\xc0\x03\x02\x40\x40")),
        ("a map with an odd count", frame(b"\x00\x53\x18\xc0\x05\x01\xc1\x02\x01\x40")),
        ("a transfer of twelve", frame(&[&b"\x00\x53\x14\xc0\x0e\x0c\x43\x52\x01"[..], &[0x40; 10]].concat())),
        ("one that is resumed", frame(b"\x00\x53\x14\xc0\x0b\x09\x43\x52\x01\x40\x40\x42\x42\x40\x40\x41")),
        ("with a state", frame(b"\x00\x53\x14\xc0\x0d\x08\x43\x52\x01\x40\x40\x42\x42\x40\x00\x53\x24\x45")),
        ("with a long tag", frame(&[&b"\x00\x53\x14\xc0\x27\x03\x43\x52\x01\xa0\x21"[..], &[7; 33]].concat())),
        ("of no number", frame(b"\x00\x53\x14\x45")),
        ("two at once", [transfer(1, true, b"\x40"), frame(b"\x00\x53\x14\xc0\x05\x02\x52\x01\x52\x02")].concat()),
    ] {
        let (out, _) = seen(&[&frame(b"")[..], &says].concat(), 64 * 1024).await;
        assert_eq!(out, None, "{what}");
    }
}

#[tokio::test]
async fn a_transfer_with_all_its_fields_passes() {
    let full = b"\x00\x53\x14\xc0\x13\x0b\x43\x52\x01\xa0\x04\x00\x00\x00\x01\x43\x42\x42\x50\x01\x40\x42\x42\x41";
    let full = frame(&[&full[..], &data(3)].concat());
    assert_eq!(seen(&full, 1_000).await, (Some(full), Vec::new()));
}

/// What says nothing is no reason to wait, and what says something is held back up to a bound.
#[test]
fn what_comes_within_a_message_has_a_bound() {
    let mut judge = Judge::default();
    let bytes = |frame: Vec<u8>| BytesMut::from(&frame[..]);
    judge.take(bytes(transfer(1, true, b"\x40"))).unwrap();
    for _ in 0..100_000 {
        judge.take(bytes(frame(b""))).unwrap();
    }
    assert_eq!(judge.message.as_ref().unwrap().frames.len(), 1);
    assert_eq!(judge.out.len(), 100_000 * HEAD_BYTES);
    judge.out.clear();
    let fields = [b"\x41\xb0\x00\x00\x80\x00".as_slice(), &vec![7; 0x8000]].concat();
    let size = u32::try_from(4 + fields.len()).unwrap().to_be_bytes();
    let flow = frame(&[b"\x00\x53\x15\xd0", &size[..], &[0, 0, 0, 2], &fields].concat());
    for n in 0..100 {
        judge.take(bytes(flow.clone())).unwrap();
        assert!(judge.message.as_ref().unwrap().held_bytes <= HELD_MAX + FRAME_MAX as usize, "{n}");
    }
    judge.take(bytes(transfer(1, false, b"\x40"))).unwrap();
    assert_eq!(judge.out.len(), 2 * EMPTY_TRANSFER + 100 * flow.len());
    assert_eq!(lock(&judge.emptied).get(&1), Some(&Unusable::TooLarge));
}

/// The broker that ends a link, or all, sends no more of the message that it has begun, and says why.
#[tokio::test]
async fn a_goodbye_within_a_message_is_heard() {
    for goodbye in [&b"\x00\x53\x18\x45"[..], b"\x00\x53\x17\x45", b"\x00\x53\x16\xc0\x03\x02\x43\x41"] {
        let says = [transfer(1, true, b"\x00\x53"), frame(b"\x00\x53\x13\x45"), frame(goodbye)].concat();
        let (out, emptied) = seen(&says, 1_000).await;
        let expected = [transfer(1, true, b""), frame(b"\x00\x53\x13\x45"), frame(goodbye)].concat();
        assert_eq!((out, emptied), (Some(expected), Vec::new()));
    }
    let of_another = frame(b"\x00\x53\x16\xc0\x04\x02\x52\x01\x41");
    let says = [transfer(1, true, b"\x00\x53"), of_another, transfer(1, false, b"\x75\xa0\x00")].concat();
    assert_eq!(seen(&says, 1_000).await, (Some(says), Vec::new()));
}
