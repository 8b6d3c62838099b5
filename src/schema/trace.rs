//! W3C Trace Context, level 1: the `traceparent` that goes with an event.

use crate::payment::holds_card_number;

/// The one that its cause came with, if it is valid; else a new one, so that every payment can be traced from its start.
#[must_use]
pub fn traceparent(given: Option<&str>) -> String {
    given.and_then(known).unwrap_or_else(mint)
}

/// Not sampled: whether to record is for whoever records.
fn mint() -> String {
    let (trace, span): (u128, u64) = (rand::random(), rand::random());
    format!("00-{:032x}-{:016x}-00", trace.max(1), span.max(1))
}

/// `00-<32>-<16>-<2>` in lower-case hexadecimal, neither id all zeros (3.2.2). A later version may say more after that, which
/// is left out: it is recorded for ever, and may be anything.
fn known(parent: &str) -> Option<String> {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &str, len| hex(part, len) && part.bytes().any(|b| b != b'0');
    let parts: Vec<&str> = parent.splitn(5, '-').collect();
    let (version, trace, span, flags) = match parts[..] {
        [version, trace, span, flags] => (version, trace, span, flags),
        [version, trace, span, flags, _] if version != "00" => (version, trace, span, flags),
        _ => return None,
    };
    let sound = hex(version, 2) && version != "ff" && id(trace, 32) && id(span, 16) && hex(flags, 2);
    (sound && !holds_card_number(span)).then(|| format!("00-{trace}-{span}-{flags}"))
}

#[cfg(test)]
mod tests {
    use super::{known, traceparent};

    #[test]
    fn valid_and_not() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let later = good.replacen("00", "cc", 1);
        for said in [good, &later, &format!("{later}-4242 4242 4242 4242")] {
            assert_eq!(traceparent(Some(said)), good, "of a later version only what this one knows is kept");
        }
        for bad in [
            "",
            &good.to_uppercase(),
            &good[..54],
            &format!("{good}-more"),
            &good.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-4242424242424242-01",
        ] {
            assert_eq!(known(bad), None, "{bad}");
            let new = traceparent(Some(bad));
            assert!(new.len() == good.len() && new.starts_with("00-") && new != bad, "replaced by a new one: {bad}");
        }
    }
}
