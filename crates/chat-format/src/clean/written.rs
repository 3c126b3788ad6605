//! The parts of a clean row as it is written: slices of its bytes, because most rows are compared and never parsed again.
//! The rows are ours, so they are valid JSON.

/// The values inside an object or an array, keys (with their quotation marks) included.
pub(super) struct Parts<'j> {
    json: &'j [u8],
    at: usize,
}

impl<'j> Parts<'j> {
    /// The parts of an object or an array.
    pub(super) fn of(json: &'j [u8]) -> Self {
        Parts { json, at: 1 }
    }

    /// The parts of the object or array that comes next.
    pub(super) fn enter(&mut self) -> Vec<&'j [u8]> {
        let start = self.next_start().unwrap_or(self.json.len());
        let mut inside = Parts { json: self.json, at: start + 1 };
        let parts = inside.by_ref().collect();
        self.at = inside.at + 1;
        parts
    }

    fn next_start(&self) -> Option<usize> {
        let between = |byte: &u8| matches!(byte, b' ' | b',' | b':' | b'\n');
        Some(self.at + self.json.get(self.at..)?.iter().position(|byte| !between(byte))?)
    }
}

impl<'j> Iterator for Parts<'j> {
    type Item = &'j [u8];

    fn next(&mut self) -> Option<&'j [u8]> {
        let start = self.next_start()?;
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
                    let field = |(key, value): (&String, &Value)| {
                        [written(&key.clone().into()), written(value)]
                    };
                    let expected: Vec<_> = object.iter().flat_map(field).collect();
                    prop_assert_eq!(Parts::of(&bytes).collect::<Vec<_>>(), expected);
                }
                Value::Array(array) => {
                    let expected: Vec<_> = array.iter().map(written).collect();
                    prop_assert_eq!(Parts::of(&bytes).collect::<Vec<_>>(), expected);
                }
                _ => {}
            }
            // Inside of another value, and what is behind it.
            if value.is_object() || value.is_array() {
                let outer = written(&Value::from(vec![value, Value::from("behind")]));
                let mut parts = Parts::of(&outer);
                prop_assert_eq!(parts.enter(), Parts::of(&bytes).collect::<Vec<_>>());
                prop_assert_eq!(parts.collect::<Vec<_>>(), [b"\"behind\""]);
            }
        }
    }
}
