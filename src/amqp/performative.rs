//! What a frame says: which of AMQP's performatives it is, and of a transfer what its message is judged by. The library takes the
//! fields that it knows and goes on where the last of them ends, so that what stands behind them would be a message to it: one
//! that says more than AMQP has fields for is none. Pure.

use super::nesting::value_bytes;

pub(super) const TRANSFER: u8 = 0x14;
const DETACH: u8 = 0x16;
const END: u8 = 0x17;
const CLOSE: u8 = 0x18;
/// From this code on, how many fields each has: open, begin, attach, flow, transfer, disposition, detach, end, close.
const FIRST: u8 = 0x10;
const FIELDS: [u32; 9] = [10, 8, 14, 11, 11, 6, 3, 1, 1];
/// The same of a login: mechanisms, init, challenge, response, outcome.
const SASL_FIRST: u8 = 0x40;
const SASL_FIELDS: [u32; 5] = [1, 3, 1, 1, 2];
/// AMQP: the tag of a delivery.
const TAG_BYTES_MAX: usize = 32;

pub(super) struct Performative<'b> {
    pub code: u8,
    count: u32,
    fields: &'b [u8],
}

/// What a transfer says of itself.
#[derive(Default)]
pub(super) struct Transfer {
    pub handle: u32,
    pub delivery: Option<u32>,
    pub more: bool,
    pub aborted: bool,
}

impl<'b> Performative<'b> {
    /// Of a value that was walked to its end. By a number, as every broker does: the library would know their names too.
    pub fn of(value: &'b [u8], is_sasl: bool) -> Option<Self> {
        let (code, list) = match value {
            [0x00, 0x53, code, list @ ..] | [0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, code, list @ ..] => (*code, list),
            _ => return None,
        };
        let (count, fields) = match list {
            [0x45] => (0, &list[1..]),
            [0xC0, _, count, fields @ ..] => ((*count).into(), fields),
            [0xD0, _, _, _, _, a, b, c, d, fields @ ..] => (u32::from_be_bytes([*a, *b, *c, *d]), fields),
            _ => return None,
        };
        let (first, known) = if is_sasl { (SASL_FIRST, &SASL_FIELDS[..]) } else { (FIRST, &FIELDS[..]) };
        let count_max = known.get(usize::from(code.checked_sub(first)?))?;
        Some(Self { code, count, fields }).filter(|_| count <= *count_max)
    }

    /// Does no more come of the message on this link?
    pub fn cuts_off(&self, handle: u32) -> bool {
        match self.code {
            CLOSE | END => true,
            DETACH => value_bytes(self.fields).is_ok_and(|end| number(&self.fields[..end]) == Some(handle)),
            _ => false,
        }
    }

    /// `None` for one that the library might take for another, or for none. One with a state resumes a delivery, which nobody
    /// here asks for.
    pub fn transfer(&self) -> Option<Transfer> {
        let (mut transfer, mut rest) = (Transfer::default(), self.fields);
        for place in 0..self.count {
            let (field, behind) = rest.split_at_checked(value_bytes(rest).ok()?)?;
            rest = behind;
            match (place, field) {
                (0, _) => transfer.handle = number(field)?,
                (_, [0x40]) => {}
                (1, _) => transfer.delivery = Some(number(field)?),
                (2, [0xA0, tag @ ..] | [0xB0, _, _, _, tag @ ..]) if tag.len() <= 1 + TAG_BYTES_MAX => {}
                (3, _) => _ = number(field)?,
                (4 | 10, _) => _ = truth(field)?,
                (5, _) => transfer.more = truth(field)?,
                (6, [0x50, 0 | 1]) => {}
                (8, _) if truth(field) == Some(false) => {}
                (9, _) => transfer.aborted = truth(field)?,
                _ => return None,
            }
        }
        (self.count > 0).then_some(transfer)
    }
}

fn number(field: &[u8]) -> Option<u32> {
    match *field {
        [0x43] => Some(0),
        [0x52, small] => Some(small.into()),
        [0x70, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

fn truth(field: &[u8]) -> Option<bool> {
    match *field {
        [0x41] | [0x56, 1] => Some(true),
        [0x42] | [0x56, 0] => Some(false),
        _ => None,
    }
}
