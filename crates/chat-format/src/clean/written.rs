//! The parts of a clean row as it is written: slices of its bytes, because most rows are compared and never parsed again.
//! The rows are ours, so they are valid JSON.

/// The fields of an object: each key, with its quotation marks, and its value.
pub(super) fn fields(object: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut parts = Parts { json: object, at: 1 };
    std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
}

/// The items of an array.
pub(super) fn items(array: &[u8]) -> impl Iterator<Item = &[u8]> {
    Parts { json: array, at: 1 }
}

/// The values inside an object or an array, keys included.
struct Parts<'j> {
    json: &'j [u8],
    at: usize,
}

impl<'j> Iterator for Parts<'j> {
    type Item = &'j [u8];

    fn next(&mut self) -> Option<&'j [u8]> {
        let between = |byte: &u8| matches!(byte, b' ' | b',' | b':' | b'\n');
        let start = self.at + self.json.get(self.at..)?.iter().position(|byte| !between(byte))?;
        self.at = end(self.json, start);
        self.json.get(start..self.at).filter(|part| !part.is_empty())
    }
}

/// Where the value ends that begins at `start`; `start` itself where an object or an array ends.
fn end(json: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0_usize, start);
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = end_of_text(json, at),
            b'{' | b'[' => (depth, at) = (depth + 1, at + 1),
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => (depth, at) = (depth - 1, at + 1),
            b',' | b':' if depth == 0 => return at,
            _ => {
                at += 1;
                continue;
            }
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

/// Where the text ends that begins with the quotation mark at `start`.
fn end_of_text(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(next) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += next;
        if json.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::json;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a\"\\\\{}\\[\\],: \n\u{1}é]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-c\"\\\\]{0,3}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    fn written(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        json::write(&mut bytes, value).unwrap();
        bytes
    }

    proptest! {
        /// The parts of a value are those that a parser finds.
        #[test]
        fn the_parts_are_those_of_the_value(value in value()) {
            let bytes = written(&value);
            match &value {
                Value::Object(object) => {
                    let found: Vec<_> = fields(&bytes).collect();
                    let expected: Vec<_> =
                        object.iter().map(|(key, value)| (written(&key.clone().into()), written(value))).collect();
                    prop_assert_eq!(found.len(), expected.len());
                    for (found, expected) in found.into_iter().zip(&expected) {
                        prop_assert_eq!(found, (&expected.0[..], &expected.1[..]));
                    }
                }
                Value::Array(array) => {
                    let expected: Vec<_> = array.iter().map(written).collect();
                    prop_assert_eq!(items(&bytes).collect::<Vec<_>>(), expected);
                }
                _ => {}
            }
        }
    }
}
