//! Sizes in bytes as people write them.

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `"20 GiB"`, `"1.5GB"` or `"4096"`; `None` when it is not a size or overflows.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
    let (number, unit) = text.split_at_checked(split.unwrap_or(text.len()))?;
    let unit = match unit.trim() {
        "" => 1,
        unit => UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    let number = number.replace('_', "");
    let (whole, decimals) = number.split_once('.').unwrap_or((&number, ""));
    let whole: u64 = whole.parse().ok()?;
    let mut bytes = whole.checked_mul(unit)?;
    if !decimals.is_empty() {
        let scale = 10u64.checked_pow(u32::try_from(decimals.len()).ok()?)?;
        let part = decimals.parse::<u64>().ok()?.checked_mul(unit)?;
        bytes = bytes.checked_add(part / scale)?;
    }
    Some(bytes)
}

/// Writes a size with the largest binary unit that divides it.
pub(super) fn show_bytes(bytes: u64) -> String {
    let binary = UNITS
        .iter()
        .rev()
        .filter(|(_, size)| size.is_power_of_two());
    for (name, size) in binary {
        if bytes >= *size && bytes.is_multiple_of(*size) {
            return format!("{} {name}", bytes / size);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        assert_eq!(parse_bytes("20 GiB"), Some(20 << 30));
        assert_eq!(parse_bytes("20GiB"), Some(20 << 30));
        assert_eq!(parse_bytes(" 1.5 kB "), Some(1_500));
        assert_eq!(parse_bytes("131_072"), Some(131_072));
        assert_eq!(parse_bytes("7 B"), Some(7));
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "GiB",
            "20 Gio",
            "-1",
            "1e9",
            "1.2.3 MB",
            "99999999999 TiB",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_shown_size_reads_back_the_same(bytes: u64) {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text: String) {
            let _ = parse_bytes(&text);
        }
    }
}
