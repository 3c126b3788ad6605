//! The command line of `nightshift`.

use clap::{CommandFactory, Parser, Subcommand};

use crate::Exit;
use crate::commands::{
    abandon, bundle, champion, completions, config, controls, convert, doctor, enrich, evaluate,
    export, fetch, fuse, gate, generate, household, init, inspect, logits, man, night, preflight,
    schedule, score, serve, synthesize, train,
};

/// Fine-tunes a local language model overnight, and lets it serve only if it is better.
#[derive(Parser)]
#[command(name = "nightshift", version)]
pub struct Nightshift {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Args),
    #[command(visible_alias = "nightly")]
    Night(night::Args),
    Preflight(preflight::Args),
    Schedule(schedule::Args),
    Champion(champion::Args),
    Serve(serve::Args),
    Config(config::Args),
    Convert(convert::Args),
    Enrich(enrich::Args),
    Train(train::Args),
    Evaluate(evaluate::Args),
    Gate(gate::Args),
    Generate(generate::Args),
    Score(score::Args),
    Logits(logits::Args),
    Inspect(inspect::Args),
    Household(household::Args),
    Controls(controls::Args),
    Fetch(fetch::Args),
    Fuse(fuse::Args),
    Export(export::Args),
    Synthesize(synthesize::Args),
    Doctor(doctor::Args),
    Abandon(abandon::Args),
    Completions(completions::Args),
    Man(man::Args),
    Bundle(bundle::Args),
}

/// Runs the chosen command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Nightshift) -> anyhow::Result<Exit> {
    match args.command {
        Command::Init(args) => init::run(args),
        Command::Night(args) => night::run(args),
        Command::Preflight(args) => preflight::run(args),
        Command::Schedule(args) => schedule::run(args),
        Command::Champion(args) => champion::run(args),
        Command::Serve(args) => serve::run(args),
        Command::Config(args) => config::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Enrich(args) => enrich::run(args),
        Command::Train(args) => train::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Gate(args) => gate::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Score(args) => score::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Household(args) => household::run(args),
        Command::Controls(args) => controls::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Fuse(args) => fuse::run(args),
        Command::Export(args) => export::run(args),
        Command::Synthesize(args) => synthesize::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Abandon(args) => abandon::run(args),
        Command::Completions(args) => completions::run(args, Nightshift::command()),
        Command::Man(args) => man::run(args, crate::command()),
        Command::Bundle(args) => bundle::run(args, crate::command()),
    }
}
