//! What looks like a card number, which is never recorded.

/// Is there a run of 13 to 19 digits in it, with single spaces or dashes between them or without, that passes the Luhn check
/// (ISO/IEC 7812-1)?
pub(super) fn holds_card_number(text: &str) -> bool {
    let mut digits: Vec<u8> = Vec::new();
    let mut separated = false;
    for c in text.chars().chain(['.']) {
        match c.to_digit(10) {
            Some(digit) => {
                digits.push(digit as u8);
                separated = false;
            }
            None if matches!(c, ' ' | '-') && !separated && !digits.is_empty() => separated = true,
            None => {
                if is_card_number(&digits) {
                    return true;
                }
                digits.clear();
                separated = false;
            }
        }
    }
    false
}

fn is_card_number(digits: &[u8]) -> bool {
    let luhn: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, digit)| match (i % 2, u32::from(*digit) * 2) {
            (0, _) => u32::from(*digit),
            (_, doubled) => doubled / 10 + doubled % 10,
        })
        .sum();
    (13..=19).contains(&digits.len()) && luhn.is_multiple_of(10)
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
}
