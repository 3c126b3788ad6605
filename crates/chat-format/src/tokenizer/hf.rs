//! A tokenizer from a model folder in Hugging Face's layout.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::Parts;
use crate::{Error, Result};

pub(super) fn read(folder: &Path) -> Result<Parts> {
    let file = folder.join("tokenizer.json");
    let bytes = read_optional(&file)?
        .ok_or(Error::Missing { path: folder.to_owned(), expected: "tokenizer.json" })?;
    let broken =
        |e: tokenizers::Error| Error::Tokenizer { path: file.clone(), reason: e.to_string() };
    let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(broken)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(broken)?;

    let config = read_json(&folder.join("tokenizer_config.json"))?;
    let added = added_tokens(
        &config["added_tokens_decoder"],
        &read_json(&folder.join("added_tokens.json"))?,
    );
    let odd = |reason: String| Error::Tokenizer { path: folder.to_owned(), reason };
    add_missing(&mut tokenizer, added.map_err(odd)?).map_err(odd)?;
    // Older checkpoints name their special tokens here only.
    let map = read_json(&folder.join("special_tokens_map.json"))?;
    let id = |key: &str| {
        let text = token_text(&config[key]).or_else(|| token_text(&map[key]));
        text.and_then(|text| tokenizer.token_to_id(text))
    };
    let (bos, eos) = (id("bos_token"), id("eos_token"));
    let opening = tokenizer.encode_fast("", true).map_err(broken)?;
    let adds_bos = bos.is_some() && opening.get_ids().first().copied() == bos;
    let mut stops = ids(&read_json(&folder.join("generation_config.json"))?["eos_token_id"]);
    if stops.is_empty() {
        stops = ids(&read_json(&folder.join("config.json"))?["eos_token_id"]);
    }
    Ok(Parts {
        template: template(folder, &config)?,
        eos: eos.or(stops.first().copied()),
        tokenizer,
        bos,
        adds_bos,
        stops,
    })
}

/// The tokens that `tokenizer_config.json` and `added_tokens.json` list, by id.
fn added_tokens(decoder: &Value, ids: &Value) -> Result<BTreeMap<u32, AddedToken>, String> {
    let mut added = BTreeMap::new();
    for (id, entry) in decoder.as_object().into_iter().flatten() {
        let flag = |key: &str| entry[key].as_bool().unwrap_or_default();
        let (Ok(id), Some(content)) = (id.parse(), entry["content"].as_str()) else {
            let expected = "expected ids with their tokens in `added_tokens_decoder`";
            return Err(format!("{expected}, found {id:?}: {entry}"));
        };
        let token = AddedToken::from(content, flag("special"))
            .single_word(flag("single_word"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip"))
            .normalized(flag("normalized"));
        added.insert(id, token);
    }
    for (token, id) in ids.as_object().into_iter().flatten() {
        let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) else {
            return Err(format!("expected an id of {token:?} in added_tokens.json, found {id}"));
        };
        added.insert(id, AddedToken::from(token.as_str(), false).normalized(false));
    }
    Ok(added)
}

/// Adds the tokens that `tokenizer.json` lacks. Each gets the next free id; the model was trained with the one that is listed.
fn add_missing(tokenizer: &mut Tokenizer, added: BTreeMap<u32, AddedToken>) -> Result<(), String> {
    for (id, token) in added {
        if tokenizer.token_to_id(&token.content).is_some() {
            continue;
        }
        let next = tokenizer.get_vocab_size(true);
        if id as usize != next {
            let found = format!("{id}, which does not follow the {next} tokens before it");
            return Err(format!(
                "the id of the added token {:?}: expected {next}, found {found}",
                token.content
            ));
        }
        let token = [token];
        let added = if token[0].special {
            tokenizer.add_special_tokens(token)
        } else {
            tokenizer.add_tokens(token)
        };
        added.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The chat template: `chat_template.jinja`, or else the one in `tokenizer_config.json`.
fn template(folder: &Path, config: &Value) -> Result<Option<String>> {
    let file = folder.join("chat_template.jinja");
    if let Some(bytes) = read_optional(&file)? {
        let text = String::from_utf8(bytes).map_err(|_| Error::Tokenizer {
            path: file,
            reason: "expected a template in UTF-8".to_owned(),
        })?;
        return Ok(Some(text));
    }
    Ok(match &config["chat_template"] {
        Value::String(template) => Some(template.clone()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        _ => None,
    })
}

/// A token is written as its text, or as an object around it.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// One id or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(items) => items.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    }
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// The file's JSON; `null` if there is no such file.
fn read_json(path: &Path) -> Result<Value> {
    let Some(bytes) = read_optional(path)? else { return Ok(Value::Null) };
    serde_json::from_slice(&bytes).map_err(|error| Error::Json {
        path: path.to_owned(),
        line: error.line() as u64,
        column: error.column() as u64,
        found: crate::json::reason(&bytes, &error),
    })
}
