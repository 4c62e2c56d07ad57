//! Unique identifiers that are the same on every run.

/// The UID of the object that `path` names inside the sample exams.
///
/// UUID-derived (`2.25.` and a decimal UUID, PS3.5 annex B.2): the UUID is made of the first 128 bits
/// of SHA-256 over a fixed name space and `path`, marked as a version 8 UUID (RFC 9562 §5.8), so that
/// it needs no registered root and can't collide with the UID of a real exam.
pub(super) fn uid(path: &str) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    digest.update(b"sample exams, name space 1\0");
    digest.update(path.as_bytes());
    let hash = digest.finish();
    let bits = hash
        .as_ref()
        .iter()
        .take(16)
        .fold(0_u128, |bits, &byte| bits << 8 | u128::from(byte));
    let version = bits & !(0xF << 76) | 0x8 << 76;
    let variant = version & !(0x3 << 62) | 0x2 << 62;
    format!("2.25.{variant}")
}

#[cfg(test)]
mod tests {
    use super::uid;

    #[test]
    fn a_uid_depends_on_its_path_alone_and_fits_64_characters() {
        assert_eq!(uid("ct/1/1"), uid("ct/1/1"));
        assert_ne!(uid("ct/1/1"), uid("ct/1/2"));
        assert!(uid("ct/1/1").starts_with("2.25."));
        assert!(uid("ct/1/1").len() <= 64);
    }
}
