//! How far a value of AMQP's goes, and how deep: without recursion, so that whatever the bytes claim costs no stack. The library
//! follows values within values by recursion; nothing is given to it that this has not walked to its end. Pure.

/// Values within values, at most: what a broker says of a link has six, and a message that asks for a payment one or two.
pub(super) const DEPTH_MAX: usize = 32;
/// Items of an array that take no bytes, at most: the others are bounded by the bytes that they take.
const EMPTY_ITEMS_MAX: u32 = 1_024;

/// Why bytes are not given to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// More than [`DEPTH_MAX`].
    Deep,
    /// They end within a value, or are none.
    Malformed,
}

/// What still has to be walked at one level.
enum Level {
    /// So many values, each with its constructor.
    Values(u32),
    /// An array's constructor, and then so many items.
    Array(u32),
    /// So many items by this constructor.
    Items(u32, u8),
}

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    levels: Vec<Level>,
}

/// How long the first value of these bytes is.
pub(super) fn value_bytes(bytes: &[u8]) -> Result<usize, Bad> {
    let mut walk = Walk { bytes, at: 0, levels: vec![Level::Values(1)] };
    while let Some(level) = walk.levels.last_mut() {
        // A level stays until all within it is walked: so there are as many as the library would be deep.
        match level {
            Level::Values(0) | Level::Items(0, _) => drop(walk.levels.pop()),
            Level::Values(left) => {
                *left -= 1;
                walk.value()?;
            }
            Level::Array(items) => {
                let items = *items;
                walk.items(items)?;
            }
            Level::Items(left, code) => {
                let code = *code;
                *left -= 1;
                walk.body(code)?;
            }
        }
    }
    Ok(walk.at)
}

/// Are these bytes nothing but values?
pub(super) fn walk_all(mut bytes: &[u8]) -> Result<(), Bad> {
    while !bytes.is_empty() {
        bytes = &bytes[value_bytes(bytes)?..];
    }
    Ok(())
}

impl Walk<'_> {
    fn value(&mut self) -> Result<(), Bad> {
        match self.byte()? {
            0x00 => self.deeper(Level::Values(2)), // described: by a value, a value
            code => self.body(code),
        }
    }

    /// What stands behind a constructor.
    fn body(&mut self, code: u8) -> Result<(), Bad> {
        match code >> 4 {
            0x4 => Ok(()),
            width @ 0x5..=0x9 => self.skip(1 << (width - 5)),
            0xA => {
                let length = self.byte()?;
                self.skip(length.into())
            }
            0xB => {
                let length = self.wide()?;
                self.skip(length as usize)
            }
            0xC | 0xD => {
                let count = self.count(code)?;
                self.deeper(Level::Values(count))
            }
            0xE | 0xF => {
                let count = self.count(code)?;
                self.deeper(Level::Array(count))
            }
            _ => Err(Bad::Malformed),
        }
    }

    /// Behind the size, of which the library does not make much either.
    fn count(&mut self, code: u8) -> Result<u32, Bad> {
        if code & 0x10 == 0 {
            self.skip(1)?;
            Ok(self.byte()?.into())
        } else {
            self.skip(4)?;
            self.wide()
        }
    }

    fn items(&mut self, items: u32) -> Result<(), Bad> {
        match self.byte()? {
            0x00 => self.deeper(Level::Values(1)), // described: the description, and then a constructor again
            code => {
                if code >> 4 == 0x4 && items > EMPTY_ITEMS_MAX {
                    return Err(Bad::Malformed);
                }
                if let Some(level) = self.levels.last_mut() {
                    *level = Level::Items(items, code);
                }
                Ok(())
            }
        }
    }

    fn deeper(&mut self, level: Level) -> Result<(), Bad> {
        if self.levels.len() > DEPTH_MAX {
            return Err(Bad::Deep);
        }
        self.levels.push(level);
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Bad> {
        let byte = self.bytes.get(self.at).copied().ok_or(Bad::Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn wide(&mut self) -> Result<u32, Bad> {
        let four = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()).ok_or(Bad::Malformed)?;
        self.at += 4;
        Ok(u32::from_be_bytes(*four))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Bad> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.bytes.len()).ok_or(Bad::Malformed)?;
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested_lists(levels: usize) -> Vec<u8> {
        let mut value = vec![0x40];
        for _ in 0..levels {
            let size = u32::try_from(4 + value.len()).unwrap();
            value = [&[0xD0][..], &size.to_be_bytes(), &1_u32.to_be_bytes(), &value].concat();
        }
        value
    }

    #[test]
    fn every_kind_of_value_is_walked_to_its_end() {
        let values: [&[u8]; 14] = [
            b"\x40",
            b"\x56\x01",
            b"\x60\x00\x01",
            b"\x70\x00\x00\x00\x01",
            b"\x80\x00\x00\x00\x00\x00\x00\x00\x01",
            &[&[0x98][..], &[7; 16]].concat(),
            b"\xa1\x02hi",
            b"\xb0\x00\x00\x00\x02hi",
            b"\x45",
            b"\xc0\x04\x02\x40\x52\x07",
            b"\xc1\x06\x02\xa1\x01k\x52\x07",
            b"\x00\x53\x24\x45",
            b"\xe0\x08\x01\xa3\x05PLAIN",
            b"\xe0\x07\x02\x00\x53\x01\x50\x07\x08",
        ];
        for value in values {
            let behind = [value, b"\x41"].concat();
            assert_eq!(value_bytes(&behind), Ok(value.len()), "{value:02x?}");
            for end in 0..value.len() {
                assert_eq!(value_bytes(&value[..end]), Err(Bad::Malformed), "{:02x?}", &value[..end]);
            }
        }
        assert_eq!(walk_all(&values.concat()), Ok(()));
        assert_eq!(value_bytes(b"\x10"), Err(Bad::Malformed), "there is no such constructor");
    }

    #[test]
    fn what_is_too_deep_is_seen_however_deep_it_is() {
        assert!(value_bytes(&nested_lists(DEPTH_MAX)).is_ok());
        assert_eq!(value_bytes(&nested_lists(DEPTH_MAX + 1)), Err(Bad::Deep));
        let described = [&b"\x00\x44".repeat(100_000)[..], b"\x40"].concat();
        let descriptions = b"\x00".repeat(100_000);
        let arrays = b"\xf0\x00\x00\xff\xff\x00\x00\x00\x01".repeat(10_000);
        let of_array = [b"\xe0\xff\x01".as_slice(), &b"\x00\x44".repeat(100_000)].concat();
        for (what, bytes) in [("described", described), ("descriptions", descriptions), ("arrays", arrays)] {
            assert_eq!(value_bytes(&bytes), Err(Bad::Deep), "{what}");
        }
        assert_eq!(value_bytes(&of_array), Err(Bad::Malformed), "one description after the other, of nothing");
    }

    #[test]
    fn what_claims_more_than_it_has_is_not_walked_for_long() {
        assert_eq!(value_bytes(b"\xf0\x00\x00\x00\x05\xff\xff\xff\xff\x40"), Err(Bad::Malformed), "4 billion nulls");
        assert_eq!(value_bytes(b"\xd0\x00\x00\x00\x05\xff\xff\xff\xff\x40"), Err(Bad::Malformed));
        assert_eq!(value_bytes(b"\xb0\xff\xff\xff\xffx"), Err(Bad::Malformed));
    }
}
