//! How far a value of AMQP's goes, how deep, and how many there are: without recursion, so that whatever the bytes claim costs no
//! stack. The library follows values within values by recursion; nothing is given to it that this has not walked to its end. Pure.
//!
//! It takes for a value only what the library cannot take for another: the library makes nothing of a compound's size, carries an
//! array's constructor into the maps and lists among its items, and takes two from a map's count whatever it is. So a size has to
//! be as long as what it is of, items of an array are no compounds and take bytes, and a map has as many keys as values.
//! `library_tests.rs` holds both against each other.

/// Values within values, at most: what a broker says of a link has six, and a message that asks for a payment one or two.
pub(super) const DEPTH_MAX: usize = 32;
/// Values, those within others too: the library makes some hundred bytes of one that took a single byte.
pub(super) const VALUES_MAX: usize = 8 * 1024;

/// Why bytes are not given to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// More than [`DEPTH_MAX`].
    Deep,
    /// More than [`VALUES_MAX`].
    Many,
    /// They end within a value, are none, or could be read in two ways.
    Malformed,
}

/// What still has to be walked at one level.
struct Level {
    left: u32,
    /// The constructor of an array's items; other values have one each.
    code: Option<u8>,
    /// Where it has to end, for what says so.
    end: Option<usize>,
}

struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    values: usize,
    levels: Vec<Level>,
}

/// How long the first value of these bytes is.
pub(super) fn value_bytes(bytes: &[u8]) -> Result<usize, Bad> {
    let mut walk = Walk::new(bytes);
    walk.one()?;
    Ok(walk.at)
}

/// Are these bytes nothing but values? How many.
pub(super) fn walk_all(bytes: &[u8]) -> Result<usize, Bad> {
    let mut walk = Walk::new(bytes);
    while walk.at < bytes.len() {
        walk.one()?;
    }
    Ok(walk.values)
}

impl<'b> Walk<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        Self { bytes, at: 0, values: 0, levels: Vec::new() }
    }

    /// A level stays until all within it is walked: so there are as many as the library would be deep.
    fn one(&mut self) -> Result<(), Bad> {
        self.levels.push(Level { left: 1, code: None, end: None });
        while let Some(level) = self.levels.last_mut() {
            if level.left == 0 {
                if level.end.is_some_and(|end| end != self.at) {
                    return Err(Bad::Malformed);
                }
                self.levels.pop();
                continue;
            }
            level.left -= 1;
            let code = level.code;
            self.values += 1;
            if self.values > VALUES_MAX {
                return Err(Bad::Many);
            }
            match code {
                Some(code) => self.flat(code)?,
                None => self.value()?,
            }
        }
        Ok(())
    }

    fn value(&mut self) -> Result<(), Bad> {
        match self.byte()? {
            0x00 => {
                self.descriptor()?;
                self.deeper(Level { left: 1, code: None, end: None })
            }
            0x40..=0x45 => Ok(()),
            code @ (0xC0 | 0xC1 | 0xD0 | 0xD1) => {
                let (count, end) = self.compound(code)?;
                if code & 1 == 1 && count % 2 == 1 {
                    return Err(Bad::Malformed);
                }
                self.deeper(Level { left: count, code: None, end: Some(end) })
            }
            code @ (0xE0 | 0xF0) => {
                let (count, end) = self.compound(code)?;
                // One without items has no constructor for the library: it would be the next value's.
                let code = if count == 0 { None } else { Some(self.byte()?) };
                self.deeper(Level { left: count, code, end: Some(end) })
            }
            code => self.flat(code),
        }
    }

    /// The library knows numbers and names.
    fn descriptor(&mut self) -> Result<(), Bad> {
        match self.byte()? {
            0x44 => Ok(()),
            code @ (0x53 | 0x80 | 0xA3 | 0xB3) => self.flat(code),
            _ => Err(Bad::Malformed),
        }
    }

    /// What stands behind the constructor of a value that takes bytes and has none within it.
    fn flat(&mut self, code: u8) -> Result<(), Bad> {
        let bytes = match code {
            0x50..=0x56 => 1,
            0x60 | 0x61 => 2,
            0x70..=0x74 => 4,
            0x80..=0x84 => 8,
            0x94 | 0x98 => 16,
            0xA0 | 0xA1 | 0xA3 => self.byte()?.into(),
            0xB0 | 0xB1 | 0xB3 => self.wide()? as usize,
            _ => return Err(Bad::Malformed),
        };
        self.at = self.end_of(bytes)?;
        Ok(())
    }

    /// How many there are, and where they end.
    fn compound(&mut self, code: u8) -> Result<(u32, usize), Bad> {
        if code & 0x10 == 0 {
            let size = self.byte()?;
            let end = self.end_of(size.into())?;
            Ok((self.byte()?.into(), end))
        } else {
            let size = self.wide()?;
            let end = self.end_of(size as usize)?;
            Ok((self.wide()?, end))
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

    fn end_of(&self, bytes: usize) -> Result<usize, Bad> {
        self.at.checked_add(bytes).filter(|end| *end <= self.bytes.len()).ok_or(Bad::Malformed)
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
        let values: [&[u8]; 15] = [
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
            b"\xe0\x04\x02\x50\x07\x08",
            b"\xe0\x01\x00",
        ];
        for value in values {
            let behind = [value, b"\x41"].concat();
            assert_eq!(value_bytes(&behind), Ok(value.len()), "{value:02x?}");
            for end in 0..value.len() {
                assert_eq!(value_bytes(&value[..end]), Err(Bad::Malformed), "{:02x?}", &value[..end]);
            }
        }
        assert!(walk_all(&values.concat()).is_ok());
        assert_eq!(value_bytes(b"\x10"), Err(Bad::Malformed), "there is no such constructor");
    }

    #[test]
    fn what_is_too_deep_is_seen_however_deep_it_is() {
        assert!(value_bytes(&nested_lists(DEPTH_MAX)).is_ok());
        assert_eq!(value_bytes(&nested_lists(DEPTH_MAX + 1)), Err(Bad::Deep));
        assert_eq!(value_bytes(&[&b"\x00\x44".repeat(100_000)[..], b"\x40"].concat()), Err(Bad::Deep));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (what, bytes) in [
            ("a description described", &b"\x00\x00\x44\x40\x40"[..]),
            ("described by a text", b"\x00\xa1\x01k\x40"),
            ("an array of described values", b"\xe0\x07\x02\x00\x53\x01\x50\x07\x08"),
            ("of arrays", b"\xe0\x05\x01\xe0\x02\x00\x40"),
            ("of lists", b"\xe0\x04\x01\xc0\x01\x00"),
            ("of maps", b"\xe0\x04\x01\xc1\x01\x00"),
            ("of what takes no bytes", b"\xe0\x02\x02\x40"),
            ("of nothing, with a constructor", b"\xe0\x02\x00\xa3"),
            ("a map with a key more than values", b"\xc1\x02\x01\x40"),
            ("a list of no size", b"\xc0\x00\x00"),
            ("a size too small", b"\xc0\x02\x02\x40\x40"),
            ("a size too large", b"\xc0\x04\x02\x40\x40\x40"),
            ("four billion", b"\xd0\x00\x00\x00\x05\xff\xff\xff\xff\x40"),
            ("longer than all there is", b"\xb0\xff\xff\xff\xffx"),
        ] {
            assert_eq!(value_bytes(bytes), Err(Bad::Malformed), "{what}");
        }
    }

    #[test]
    fn what_is_too_many_is_not_walked_for_long() {
        assert_eq!(walk_all(&[0x40; VALUES_MAX]), Ok(VALUES_MAX));
        assert_eq!(walk_all(&[0x40; VALUES_MAX + 1]), Err(Bad::Many));
        let count = u32::try_from(VALUES_MAX).unwrap().to_be_bytes();
        let size = u32::try_from(VALUES_MAX + 5).unwrap().to_be_bytes();
        let array = [b"\xf0", &size[..], &count, b"\x50", &[7; VALUES_MAX]].concat();
        assert_eq!(value_bytes(&array), Err(Bad::Many));
    }
}
