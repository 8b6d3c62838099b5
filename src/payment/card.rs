//! What looks like a card number, which is never recorded: 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1), in
//! one piece or in groups with single spaces or dashes between them, whatever other digits stand before or after.

/// How many digits a card number has.
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Where the letters of a UUID are, and its dashes: one of 300 would otherwise hold groups that pass.
const UUID: &[u8] = b"hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";

/// Is there a card number in it? Digits without a gap are one group, and a card number begins and ends with a group: "4242 4242
/// 4242 4242 12/27" has one, and an order number of 24 digits has none, whatever is in the middle of it.
#[must_use]
pub fn holds_card_number(text: &str) -> bool {
    let text = text.as_bytes();
    let mut groups: Vec<&[u8]> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if is_uuid(text, at) {
            groups.clear();
            at += UUID.len();
        } else if digits == 0 {
            let joins = matches!(text[at], b' ' | b'-') && at > 0 && text[at - 1].is_ascii_digit();
            if !joins {
                groups.clear();
            }
            at += 1;
        } else {
            groups.push(&text[at..at + digits]);
            if ends_card_number(&groups) {
                return true;
            }
            at += digits;
        }
    }
    false
}

/// Is one of the stretches that end with the last group a card number?
fn ends_card_number(groups: &[&[u8]]) -> bool {
    let mut luhn = Luhn::default();
    for group in groups.iter().rev() {
        if luhn.digits + group.len() > *DIGITS.end() {
            return false;
        }
        group.iter().rev().for_each(|digit| luhn.add(digit - b'0'));
        if DIGITS.contains(&luhn.digits) && luhn.sum.is_multiple_of(10) {
            return true;
        }
    }
    false
}

/// The check over digits that come from the last to the first.
#[derive(Default)]
struct Luhn {
    digits: usize,
    sum: u32,
}

impl Luhn {
    fn add(&mut self, digit: u8) {
        let (digit, doubled) = (u32::from(digit), u32::from(digit) * 2);
        self.sum += if self.digits.is_multiple_of(2) { digit } else { doubled / 10 + doubled % 10 };
        self.digits += 1;
    }
}

/// Does a UUID stand here, as a word of its own? One without a letter may be a card number.
fn is_uuid(text: &[u8], at: usize) -> bool {
    let Some(word) = text.get(at..at + UUID.len()) else { return false };
    let shaped = word.iter().zip(UUID).all(|(byte, place)| match place {
        b'-' => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let before = at.checked_sub(1).map(|before| text[before]);
    let alone = ![before, text.get(at + UUID.len()).copied()].into_iter().flatten().any(|b| b.is_ascii_alphanumeric());
    shaped && alone && word.iter().any(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::holds_card_number;

    #[test]
    fn only_luhn_valid_runs_of_13_to_19_digits_are_cards() {
        for card in ["4242424242424242", "x4242-4242-4242-4242", "378282246310005", "6011 1111 1111 1117 "] {
            assert!(holds_card_number(card), "{card}");
        }
        for other in ["", "4242424242424241", "424242424242", "order 1001", "4242  4242 4242 4242", "00000"] {
            assert!(!holds_card_number(other), "{other}");
        }
    }

    #[test]
    fn a_card_among_other_digits_is_a_card() {
        for card in [
            "4242 4242 4242 4242 12/27",
            "4242-4242-4242-4242 1227 123",
            "4242424242424242 123",
            "12 4242 4242 4242 4242",
            "2 x 4242 4242 4242 4242",
            "7-3782 822463 10005-7",
            "Ünïcode 4242424242424242",
            "4242 4242 4242 4242 4242 4242 4242 4241 1",
        ] {
            assert!(holds_card_number(card), "{card}");
        }
        for other in ["9942424242424242424299", "4242 4242 4242 x4242", "2026-01-02 03:04:05", "10 20 30 40 50"] {
            assert!(!holds_card_number(other), "{other}");
        }
    }

    #[test]
    fn a_uuid_is_no_card_whatever_digits_are_in_it() {
        let uuid = "a50e8400-e29b-41d4-4242-424242424242";
        assert!(holds_card_number(&uuid[19..]), "by itself its end is one");
        for other in [uuid.to_owned(), format!("cus_{uuid}"), format!("{uuid} {uuid}"), uuid.to_uppercase()] {
            assert!(!holds_card_number(&other), "{other}");
        }
        for card in [format!("{uuid} 4242424242424242"), format!("4242424242424242 {uuid}"), format!("x{uuid}")] {
            assert!(holds_card_number(&card), "{card}");
        }
        assert!(holds_card_number("12345678-4242-4242-4242-424242424242"), "nothing but digits");
    }
}
