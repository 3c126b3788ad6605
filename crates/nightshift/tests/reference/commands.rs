//! The command line as Markdown.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// A section for each command, and for each of its own commands.
pub fn sections(program: &Command) -> String {
    let mut text = String::new();
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        section(command, "nightshift", 2, &mut text);
    }
    text
}

fn section(command: &Command, parent: &str, level: usize, text: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    writeln!(text, "{} {name}\n\n{}\n", "#".repeat(level), escaped(&about)).unwrap();
    let aliases: Vec<_> = command.get_visible_aliases().collect();
    if !aliases.is_empty() {
        writeln!(text, "Also called `{}`.\n", aliases.join("`, `")).unwrap();
    }
    let arguments = command.get_arguments().filter(|argument| {
        !argument.is_hide_set() && !["help", "version"].contains(&argument.get_id().as_str())
    });
    let rows: Vec<_> = arguments.map(row).collect();
    if !rows.is_empty() {
        writeln!(text, "| argument | |\n|---|---|\n{}\n", rows.join("\n")).unwrap();
    }
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        section(inner, &name, level + 1, text);
    }
}

fn row(argument: &Arg) -> String {
    let value = if argument.get_action().takes_values() {
        let names = argument.get_value_names().unwrap_or_default();
        names.iter().map(|name| format!(" {name}")).collect::<String>()
    } else {
        String::new()
    };
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
        (None, Some(long)) => format!("--{long}{value}"),
        (Some(short), None) => format!("-{short}{value}"),
        (None, None) => value.trim().to_owned(),
    };
    let about = argument.get_long_help().or(argument.get_help());
    let mut about = about.map(ToString::to_string).unwrap_or_default();
    if !about.ends_with('.') {
        about.push('.');
    }
    let words: Vec<_> = argument.get_possible_values();
    if argument.get_action().takes_values() && !words.is_empty() {
        let words: Vec<_> = words.iter().map(|word| format!("`{}`", word.get_name())).collect();
        write!(about, " One of {}.", words.join(", ")).unwrap();
    }
    let defaults = argument.get_default_values();
    if argument.get_action().takes_values() && !defaults.is_empty() {
        let defaults: Vec<_> = defaults.iter().map(|it| it.to_string_lossy()).collect();
        write!(about, " Default `{}`.", defaults.join(" ")).unwrap();
    }
    let required = if argument.is_required_set() { " (required)" } else { "" };
    let about = escaped(&about).replace('\n', " ");
    format!("| `{name}`{required} | {about} |")
}

/// Without what Markdown would take for a table or markup.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").trim().to_owned()
}
