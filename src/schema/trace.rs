//! W3C Trace Context, level 1: the `traceparent` that goes with an event.

/// The one that its cause came with, if it is valid; else a new one, so that every payment can be traced from its start.
#[must_use]
pub fn traceparent(given: Option<&str>) -> String {
    given.filter(|parent| is_valid(parent)).map_or_else(mint, str::to_owned)
}

/// Not sampled: whether to record is for whoever records.
fn mint() -> String {
    let (trace, span): (u128, u64) = (rand::random(), rand::random());
    format!("00-{:032x}-{:016x}-00", trace.max(1), span.max(1))
}

/// `00-<32>-<16>-<2>` in lower-case hexadecimal, neither id all zeros (3.2.2). A later version may say more after that.
fn is_valid(parent: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &str, len| hex(part, len) && part.bytes().any(|b| b != b'0');
    let parts: Vec<&str> = parent.splitn(5, '-').collect();
    match parts[..] {
        ["00", trace, span, flags] => id(trace, 32) && id(span, 16) && hex(flags, 2),
        [version, trace, span, flags, ..] => {
            hex(version, 2) && !["00", "ff"].contains(&version) && id(trace, 32) && id(span, 16) && hex(flags, 2)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_valid, mint, traceparent};

    #[test]
    fn valid_and_not() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_valid(good) && is_valid(&mint()));
        assert!(is_valid(&good.replacen("00", "cc", 1)) && is_valid(&format!("{}-more", good.replacen("00", "cc", 1))));
        assert_eq!(traceparent(Some(good)), good);
        for bad in [
            "",
            &good.to_uppercase(),
            &good[..54],
            &format!("{good}-more"),
            &good.replacen("00", "ff", 1),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_valid(bad), "{bad}");
            assert!(is_valid(&traceparent(Some(bad))), "replaced by a new one: {bad}");
        }
    }
}
