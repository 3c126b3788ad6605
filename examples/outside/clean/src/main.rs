//! Cleans a file of raw chats: `clean-outside raw.jsonl clean.jsonl`.

use chat_format::clean::{self, Options, Strictness};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, raw, cleaned] = arguments.as_slice() else {
        return Err(
            "expected two paths: the file of raw chats, and where to write the clean ones".into()
        );
    };
    clean::convert(raw, cleaned, Options::default(), Strictness::LeaveOut)?;
    Ok(())
}
