//! The bytes that tokens stand for.

use tokenizers::Tokenizer;

use super::ChatTokenizer;

/// What a vocabulary writes in place of a space, unless it is of bytes.
const SPACE: char = '\u{2581}';

impl ChatTokenizer {
    /// The bytes that each token stands for, by its id; none for control tokens, and for ids that no token has.
    ///
    /// The bytes of an answer are those of its tokens, but for a space that some tokenizers leave out at its beginning.
    pub fn token_bytes(&self) -> Vec<Option<Vec<u8>>> {
        let written_as_is = self.plain.get_added_tokens_decoder();
        let of_bytes = is_of_bytes(&self.plain);
        let bytes = |id: u32| {
            if self.is_control(id) {
                return None;
            }
            let token = self.plain.id_to_token(id)?;
            Some(match of_bytes {
                _ if written_as_is.contains_key(&id) => token.into_bytes(),
                true => token.chars().map(byte_of).collect::<Option<_>>()?,
                false => fallback_byte(&token)
                    .map_or_else(|| token.replace(SPACE, " ").into_bytes(), |byte| vec![byte]),
            })
        };
        let ids = self.plain.get_vocab(true).into_values().max().map_or(0, |last| last + 1);
        (0..ids).map(bytes).collect()
    }
}

/// Whether the vocabulary writes each byte as one character, as GPT-2's does.
fn is_of_bytes(tokenizer: &Tokenizer) -> bool {
    let decoder = tokenizer.get_decoder().and_then(|it| serde_json::to_string(it).ok());
    decoder.is_some_and(|decoder| decoder.contains("\"ByteLevel\""))
}

/// The byte that a character of such a vocabulary stands for: printable ones for themselves, the others in order for
/// characters from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    let is_own = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_own(byte).then_some(byte),
        Err(_) => {
            (0..=u8::MAX).filter(|byte| !is_own(*byte)).nth(code.checked_sub(0x100)? as usize)
        }
    }
}

/// The byte of a token such as `<0x0A>`, in vocabularies that write a byte so if no other token has it.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    digits
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        let characters: Vec<char> = (0..0x200).filter_map(char::from_u32).collect();
        let mut bytes: Vec<u8> = characters.iter().filter_map(|c| byte_of(*c)).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(
            (byte_of('Ġ'), byte_of('Ċ'), byte_of('a')),
            (Some(b' '), Some(b'\n'), Some(b'a'))
        );
    }

    #[test]
    fn bytes_that_are_written_in_digits() {
        assert_eq!(fallback_byte("<0x0A>"), Some(10));
        for token in ["<0x0>", "<0xAG>", "0x0A", "<0x0A>a", "<0x+A>"] {
            assert_eq!(fallback_byte(token), None, "{token}");
        }
    }
}
