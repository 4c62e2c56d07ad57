//! Cuts the JSON array of a QIDO-RS answer into its objects as it arrives, so that one match at a
//! time is in memory.
//!
//! Only strings and brackets are looked at; each object is parsed by who gets it.

/// Brackets inside one another in one object.
const MAX_DEPTH: usize = 120;

/// Why an answer is not a JSON array of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// Something else than an array of objects.
    #[error("the answer is not a JSON array of objects")]
    NotAnArray,
    /// An object is longer than the limit.
    #[error("a match has more than {0} bytes")]
    TooLong(usize),
    /// An object is nested too deeply.
    #[error("a match has more than {MAX_DEPTH} brackets inside one another")]
    TooDeep,
}

/// The reader of one array.
#[derive(Debug)]
pub struct Items {
    limit: usize,
    object: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the array.
    Before,
    /// In the array, where an object or the end is due.
    First,
    /// After an object.
    After,
    /// After a comma.
    Next,
    /// In an object.
    Object,
    /// After the array.
    Done,
}

impl Items {
    /// A reader of objects of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            object: Vec::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            place: Place::Before,
        }
    }

    /// Whether the array has ended.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Takes the next bytes; each object that they complete goes to `take`.
    ///
    /// # Errors
    /// [`ItemsError`], or what `take` returns.
    pub fn push<E: From<ItemsError>>(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            if self.place == Place::Object {
                self.in_object(byte)?;
                if self.depth == 0 {
                    self.place = Place::After;
                    take(&self.object)?;
                    self.object.clear();
                }
                continue;
            }
            self.place = match (self.place, byte) {
                (place, b' ' | b'\t' | b'\r' | b'\n') => place,
                (Place::Before, b'[') => Place::First,
                (Place::First | Place::Next, b'{') => {
                    self.object.push(byte);
                    self.depth = 1;
                    Place::Object
                }
                (Place::First | Place::After, b']') => Place::Done,
                (Place::After, b',') => Place::Next,
                _ => return Err(ItemsError::NotAnArray.into()),
            };
        }
        Ok(())
    }

    fn in_object(&mut self, byte: u8) -> Result<(), ItemsError> {
        if self.object.len() == self.limit {
            return Err(ItemsError::TooLong(self.limit));
        }
        self.object.push(byte);
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' if self.depth == MAX_DEPTH => return Err(ItemsError::TooDeep),
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &[u8], piece: usize) -> Result<(Vec<Value>, bool), ItemsError> {
        let mut items = Items::new(10_000);
        let mut found = Vec::new();
        for piece in text.chunks(piece.max(1)) {
            items.push::<ItemsError>(piece, |object| {
                found.extend(serde_json::from_slice::<Value>(object).ok());
                Ok(())
            })?;
        }
        Ok((found, items.is_done()))
    }

    #[test]
    fn objects_come_one_by_one_whatever_their_strings_hold() {
        let all = json!([{"a": "}]\"\\", "b": [{"c": "["}, []]}, {}, {"d": {"e": 1}}]);
        for text in [all.to_string(), format!(" {all:#}\r\n")] {
            for piece in 1..text.len() {
                let (found, done) = read(text.as_bytes(), piece).unwrap();
                assert_eq!(Value::from(found), all);
                assert!(done);
            }
        }
        assert_eq!(read(b"[]", 1), Ok((Vec::new(), true)));
    }

    #[test]
    fn what_is_cut_is_not_done_and_what_is_no_array_is_refused() {
        let text = br#"[{"a": 1}, {"b": 2}]"#;
        for end in 0..text.len() {
            assert!(!read(&text[..end], 3).unwrap().1, "cut at {end}");
        }
        for text in [
            "{}", "[1]", "[{},]", "[,{}]", "[{} {}]", "[] []", "<html>", "[\"a\"]", "null",
        ] {
            assert_eq!(
                read(text.as_bytes(), 9),
                Err(ItemsError::NotAnArray),
                "{text}"
            );
        }
    }

    #[test]
    fn an_object_without_end_is_refused() {
        let mut long = b"[{\"a\":\"".to_vec();
        long.resize(20_000, b'x');
        assert_eq!(read(&long, 100), Err(ItemsError::TooLong(10_000)));
        let mut deep = b"[{\"a\":".to_vec();
        deep.resize(1_000, b'[');
        assert_eq!(read(&deep, 100), Err(ItemsError::TooDeep));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_without_panic(
            bytes in vec(prop_oneof![Just(b'['), Just(b']'), Just(b'{'), Just(b'}'), Just(b'"'), Just(b','), Just(b'\\'), any::<u8>()], 0..200),
        ) {
            let _ = read(&bytes, 7);
        }
    }
}
