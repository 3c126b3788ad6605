//! The JSON schemas of a household's files.

use std::collections::BTreeMap;

use schemars::schema_for;
use serde_json::Value;

use crate::data::Requests;
use crate::entries::{Harmless, IdentityQuestion, RefusalParts, Route, Situations};
use crate::household::Phrasings;
use crate::reply::Technique;
use crate::{GeneratorFiles, Household};

/// The JSON schema of each file of a household, with its key, in the order of [`GeneratorFiles::KEYS`]: for editors and the
/// reference.
///
/// ```
/// let schemas = enrich::household_schemas();
/// assert_eq!(schemas.map(|(key, _)| key), enrich::GeneratorFiles::KEYS);
/// ```
pub fn household_schemas() -> [(&'static str, Value); 11] {
    let schemas = [
        schema_for!(eval::Council),
        schema_for!(BTreeMap<String, String>),
        schema_for!(Phrasings),
        schema_for!(Vec<Technique>),
        schema_for!(Requests),
        schema_for!(Vec<IdentityQuestion>),
        schema_for!(Vec<Route>),
        schema_for!(Situations),
        schema_for!(Vec<Harmless>),
        schema_for!(RefusalParts),
        schema_for!(Household),
    ];
    let mut keys = GeneratorFiles::KEYS.into_iter();
    schemas.map(|schema| (keys.next().unwrap_or_default(), schema.to_value()))
}
