//! The frame that all pages share, and the template engine.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;

use crate::error::Result;
use crate::format;

/// A page's template.
#[derive(Debug, Clone, Copy)]
pub(super) enum Template {
    /// The report of one night.
    Night,
    /// The list of all nights.
    Index,
    /// Two exam runs side by side.
    Comparison,
}

/// One self-contained HTML file with inline style and charts. Every text in `page` is escaped, as
/// answers and names may contain markup.
pub(super) fn render(template: Template, page: &impl Serialize) -> Result<String> {
    let mut env = Environment::new();
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.add_filter("duration", format::duration);
    env.add_filter("figure", eval::gate::figure);
    env.add_template("frame", include_str!("templates/frame.html"))?;
    let source = match template {
        Template::Night => include_str!("templates/night.html"),
        Template::Index => include_str!("templates/index.html"),
        Template::Comparison => include_str!("templates/comparison.html"),
    };
    let css = include_str!("templates/style.css");
    let page = Value::from(Serde(page));
    Ok(env.template_from_str(source)?.render(context! { page, css })?)
}
