//! The walk against the library's own decoder: what the one lets pass the other reads as the same, value for value, and no
//! deeper. Each on a thread with the stack that those have which decode here: one that runs over ends the tests.

use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::messaging::Message;
use fe2o3_amqp::types::messaging::message::DecodeIntoMessage;
use fe2o3_amqp::types::performatives::Performative as Theirs;
use fe2o3_amqp::types::primitives::Value;
use serde_amqp::read::SliceReader;

use super::nesting::{Bad, DEPTH_MAX, VALUES_MAX, value_bytes, walk_all};
use super::performative::Performative;

const STACK_BYTES: usize = 2 * 1024 * 1024;
const ROUNDS: u64 = 60_000;
/// The sections before a body, then its three kinds, then the footer.
const SECTIONS: [u8; 9] = [0x70, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78];

fn on_a_thread_of_theirs(what: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, what).unwrap();
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn message(bytes: &[u8]) -> Result<Message<Body<Value>>, serde_amqp::Error> {
    Body::<Value>::decode_message_from_reader(SliceReader::new(bytes))
}

/// How many values, and how deep, each within nothing counted as one.
fn size_of(value: &Value) -> (usize, usize) {
    let of_all = |within: &mut dyn Iterator<Item = &Value>| {
        within.map(size_of).fold((1, 1), |(count, depth), (n, d)| (count + n, depth.max(d + 1)))
    };
    match value {
        Value::Described(described) => of_all(&mut std::iter::once(&described.value)),
        Value::List(values) => of_all(&mut values.iter()),
        Value::Array(values) => of_all(&mut values.iter()),
        Value::Map(map) => of_all(&mut map.iter().flat_map(|(key, value)| [key, value])),
        _ => (1, 1),
    }
}

/// What passes is read as what was walked.
fn agree(bytes: &[u8]) -> bool {
    if let Some(said) = Performative::of(bytes, false).filter(|_| value_bytes(bytes) == Ok(bytes.len())) {
        drop(serde_amqp::from_slice::<Theirs>(bytes).map(|theirs| (theirs, said.code)));
    }
    if let Ok(count) = walk_all(bytes) {
        drop(message(bytes));
        assert!(count <= VALUES_MAX);
    }
    let Ok(end) = value_bytes(bytes) else { return false };
    let (walked, theirs) = (walk_all(&bytes[..end]).unwrap(), serde_amqp::from_slice::<Value>(bytes));
    if let Ok(value) = &theirs {
        let (count, depth) = size_of(value);
        // A key that a map has twice is one to the library.
        assert!(depth <= DEPTH_MAX + 1 && count <= walked, "{count} of {walked}, {depth} deep: {bytes:02x?}");
        assert_eq!(
            serde_amqp::from_slice::<Value>(&bytes[..end]).ok().as_ref(),
            Some(value),
            "it reads on: {bytes:02x?}"
        );
    }
    theirs.is_ok()
}

/// What each could be made to follow without end, or to make gigabytes of.
#[test]
fn what_the_library_would_be_lost_in_is_refused() {
    let map_in_array = [b"\xf0\x00\x00\xe7\x05\x00\x00\x03\x80\xc1".as_slice(), &[0x40; 59_136]].concat();
    let behind = b"\x00\x44".repeat(98_304);
    let list_in_array = [b"\xd0\x01\xb0\x00\x03\x00\x00\x00\x01".as_slice(), &behind].concat();
    let size = u32::try_from(5 + 2 + list_in_array.len()).unwrap().to_be_bytes();
    let list_in_array = [b"\xf0", &size[..], b"\x00\x00\x00\x02\xc0\x01\x00", &list_in_array].concat();
    let nulls = b"\xf0\x00\x00\x04\x05\x00\x00\x04\x00\x40".repeat(26_000);
    let size = u32::try_from(4 + nulls.len()).unwrap().to_be_bytes();
    let arrays_of_nulls = [b"\xd0", &size[..], &26_000_u32.to_be_bytes(), &nulls].concat();
    for (what, value) in [
        ("maps in an array", map_in_array),
        ("lists in an array", list_in_array),
        ("arrays of nulls", arrays_of_nulls),
        ("no size", b"\xc0\x00\x00".to_vec()),
        ("maps with an odd count", b"\xc1\x02\x01\x40".repeat(30_000)),
    ] {
        assert_eq!(walk_all(&[b"\x00\x53\x77", &value[..]].concat()), Err(Bad::Malformed), "{what}");
    }
}

/// As deep and as many as may be.
#[test]
fn what_is_just_let_pass_the_library_reads() {
    on_a_thread_of_theirs(|| {
        for level in [&b"\x00\x44"[..], b"\xd0"] {
            let mut value = vec![0x40];
            for _ in 0..DEPTH_MAX - 1 {
                let size = u32::try_from(4 + value.len()).unwrap().to_be_bytes();
                let list = [&size[..], &[0, 0, 0, 1]].concat();
                value = [level, if level[0] == 0 { &[] } else { &list[..] }, &value].concat();
            }
            assert!(agree(&value), "{value:02x?}");
            assert!(message(&[b"\x00\x53\x77", &value[..]].concat()).is_ok());
        }
        let many = u32::try_from(VALUES_MAX - 1).unwrap();
        let list = [b"\xd0", &(4 + many).to_be_bytes()[..], &many.to_be_bytes(), &vec![0x40; VALUES_MAX - 1]].concat();
        assert!(agree(&list));
    });
}

/// Numbers that look like any others, and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(128) as u8).collect()
    }

    fn value(&mut self, depth: usize) -> Vec<u8> {
        match self.below(if depth == 0 { 4 } else { 9 }) {
            0 => vec![self.one_of(&[0x40, 0x41, 0x42, 0x43, 0x44, 0x45])],
            1..4 => {
                let code = self.flat();
                [vec![code], self.behind(code)].concat()
            }
            4 => [self.described(), self.value(depth - 1)].concat(),
            5 => {
                let (code, count) = (self.flat(), self.below(4));
                let items: Vec<u8> = (0..count).flat_map(|_| self.behind(code)).collect();
                let code = if count == 0 { vec![] } else { vec![code] };
                self.compound(0xE0, count, &[code, items].concat())
            }
            6 => {
                let pairs = self.below(3);
                let within: Vec<u8> = (0..2 * pairs).flat_map(|_| self.value(depth - 1)).collect();
                self.compound(0xC1, 2 * pairs, &within)
            }
            _ => {
                let count = self.below(5);
                let within: Vec<u8> = (0..count).flat_map(|_| self.value(depth - 1)).collect();
                self.compound(0xC0, count, &within)
            }
        }
    }

    fn flat(&mut self) -> u8 {
        self.one_of(&[
            0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x60, 0x61, 0x70, 0x71, 0x72, 0x74, 0x80, 0x81, 0x82, 0x83, 0x84, 0x94,
            0x98, 0xA0, 0xA1, 0xA3, 0xB0, 0xB1, 0xB3,
        ])
    }

    fn behind(&mut self, code: u8) -> Vec<u8> {
        let length = self.below(4);
        match code {
            0x50..=0x56 => self.bytes(1),
            0x60 | 0x61 => self.bytes(2),
            0x70..=0x74 => self.bytes(4),
            0x80..=0x84 => self.bytes(8),
            0x94 | 0x98 => self.bytes(16),
            0xA0..=0xA3 => [vec![length as u8], self.bytes(length)].concat(),
            _ => [vec![0, 0, 0, length as u8], self.bytes(length)].concat(),
        }
    }

    fn described(&mut self) -> Vec<u8> {
        let code = self.one_of(&SECTIONS);
        self.one_of(&[&b"\x00\x44"[..], b"\x00\xa3\x01k", &[0x00, 0x53, code]]).to_vec()
    }

    fn compound(&mut self, code: u8, count: usize, within: &[u8]) -> Vec<u8> {
        if within.len() < 250 && self.below(4) > 0 {
            return [&[code, within.len() as u8 + 1, count as u8], within].concat();
        }
        let size = u32::try_from(within.len() + 4).unwrap().to_be_bytes();
        [&[code | 0x10], &size[..], &[0, 0, 0, count as u8], within].concat()
    }

    fn message(&mut self) -> Vec<u8> {
        let sections = 1 + self.below(3);
        (0..sections).flat_map(|_| [vec![0x00, 0x53, self.one_of(&SECTIONS)], self.value(3)].concat()).collect()
    }

    fn performative(&mut self) -> Vec<u8> {
        let code = 0x10 + self.below(9) as u8;
        let count = self.below(12);
        let fields: Vec<u8> = (0..count).flat_map(|_| self.value(3)).collect();
        [vec![0x00, 0x53, code], self.compound(0xC0, count, &fields)].concat()
    }

    /// In one to three places.
    fn hurt(&mut self, bytes: &mut [u8]) {
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            bytes[at] = match self.below(4) {
                0 => bytes[at].wrapping_add(1),
                1 => bytes[at].wrapping_sub(1),
                2 => self.one_of(&[0x00, 0x40, 0x45, 0xC0, 0xC1, 0xD0, 0xD1, 0xE0, 0xF0]),
                _ => self.below(256) as u8,
            };
        }
    }
}

#[test]
fn whatever_is_let_pass_is_read_as_what_was_walked() {
    on_a_thread_of_theirs(|| {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        let mut read = 0;
        for _ in 0..ROUNDS {
            let mut bytes = match numbers.below(3) {
                0 => numbers.value(4),
                1 => numbers.message(),
                _ => numbers.performative(),
            };
            assert!(walk_all(&bytes).is_ok(), "it is as it should be: {bytes:02x?}");
            assert!(agree(&bytes), "{bytes:02x?}");
            numbers.hurt(&mut bytes);
            read += usize::from(agree(&bytes));
        }
        assert!(read > ROUNDS as usize / 10, "hardly any passed: {read}");
    });
}
