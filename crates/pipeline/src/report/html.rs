//! The pages' templates.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;

use super::words;
use crate::error::Result;

/// What can be rendered.
#[derive(Debug, Clone, Copy)]
pub(super) enum Template {
    /// One night.
    Night,
    /// All of them.
    Index,
}

/// One self-contained HTML file: style and charts are in it. All text in `page` is escaped, since
/// answers are hostile.
pub(super) fn render(template: Template, page: &impl Serialize) -> Result<String> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.add_filter("duration", words::duration);
    env.add_template("base", include_str!("base.html"))?;
    let source = match template {
        Template::Night => include_str!("page.html"),
        Template::Index => include_str!("index.html"),
    };
    let css = include_str!("page.css");
    let page = Value::from(Serde(page));
    Ok(env.template_from_str(source)?.render(context! { page, css })?)
}
