//! Text templates.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::english::Number;
pub(crate) use crate::english::capitalized;
use crate::{Error, Result};

/// A sentence with slots: `{of}` is replaced by the slot's value, `{Of}` by the value with a capital.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Template(String);

impl Template {
    /// A template from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Template(text.into())
    }

    /// The text with its slots unfilled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Fills every slot; a slot that `slots` does not have is an error.
    ///
    /// ```
    /// use enrich::Template;
    ///
    /// let template = Template::new("{Of} is on port {value}.");
    /// let text = template.fill(&[("of", "the hub"), ("value", "8443")])?;
    /// assert_eq!(text, "The hub is on port 8443.");
    /// # Ok::<(), enrich::Error>(())
    /// ```
    pub fn fill(&self, slots: &[(&str, &str)]) -> Result<String> {
        self.fill_for(Number::Singular, slots)
    }

    /// Fills every slot, and takes the first word of `{is|are}` for a singular subject and the second for a plural one.
    ///
    /// ```
    /// use enrich::{Number, Template};
    ///
    /// let template = Template::new("How long {is|are} {of} kept?");
    /// let text = template.fill_for(Number::Plural, &[("of", "receipts")])?;
    /// assert_eq!(text, "How long are receipts kept?");
    /// # Ok::<(), enrich::Error>(())
    /// ```
    pub fn fill_for(&self, number: Number, slots: &[(&str, &str)]) -> Result<String> {
        let mut filled = String::with_capacity(self.0.len() + 16);
        let mut rest = self.0.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let (name, after) = after.split_once('}').ok_or_else(|| self.unknown(after, slots))?;
            rest = after;
            if let Some((one, several)) = name.split_once('|') {
                filled.push_str(if number == Number::Plural { several } else { one });
                continue;
            }
            let wanted = name.to_lowercase();
            let value = slots
                .iter()
                .find(|(slot, _)| *slot == wanted)
                .map(|(_, value)| *value)
                .ok_or_else(|| self.unknown(name, slots))?;
            if name.starts_with(char::is_uppercase) {
                filled.push_str(&capitalized(value));
            } else {
                filled.push_str(value);
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn unknown(&self, slot: &str, slots: &[(&str, &str)]) -> Error {
        let known: Vec<_> = slots.iter().map(|(slot, _)| format!("{{{slot}}}")).collect();
        Error::Slot { template: self.0.clone(), slot: slot.to_owned(), known: known.join(" ") }
    }
}
