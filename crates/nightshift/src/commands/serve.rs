//! Serves a model, with the champion of a home, to OpenAI's clients.
//!
//! ```sh
//! nightshift serve --home HOME
//! curl http://127.0.0.1:8080/v1/chat/completions \
//!   -d '{"model": "champion", "messages": [{"role": "user", "content": "Who are you?"}]}'
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use eval::Council;
use pipeline::serving;
use serde_json::json;
use serve::{Agent, Base, Champion, ChatLog, Contract, Options, Server, TOKEN_VARIABLE, Token};

use crate::home::home_here;
use crate::{Exit, show_warnings};

/// Serves a model to OpenAI's clients at /v1, and swaps its adapter between requests.
///
/// With --home it serves what the home's serving/BASE.json says and follows it: after a promotion or a
/// rollback, new requests go to the new champion within a second, and running ones finish on the old.
/// /health says what serves, and why if that is not what should.
#[derive(Parser)]
pub struct Args {
    /// A .gguf file, or a folder with config.json and safetensors; without it, the base model of the home.
    #[arg(long)]
    model: Option<PathBuf>,
    /// The home whose champion serves; without --model and --home, that of `night.yaml` in the working folder, or else that
    /// in your data folder.
    #[arg(long)]
    home: Option<PathBuf>,
    /// An adapter folder to serve as champion, instead of a home's.
    #[arg(long, conflicts_with = "home")]
    adapter: Option<PathBuf>,
    /// A further adapter, for requests that ask for NAME; repeatable.
    #[arg(long = "name", value_name = "NAME=DIR", value_parser = named)]
    names: Vec<(String, PathBuf)>,
    /// The address to listen on. Any but this machine's own needs a token.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// The port to listen on; 0 for any free one.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The most tokens of a prompt and its answer together.
    #[arg(long, default_value_t = 8192)]
    context: usize,
    /// The most answers that are generated at a time.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// The most requests that wait.
    #[arg(long, default_value_t = 128)]
    queue: usize,
    /// The temperature of requests without one; 0 takes the most probable token, as exams do.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// The most tokens of an answer, for requests that do not say.
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// Record chats in the home's chats/DATE.jsonl, without personal data: of these agents (by the
    /// request's metadata.agent), or all.
    #[arg(long, value_name = "AGENT,...|all", value_delimiter = ',', requires = "home")]
    chats: Vec<String>,
    /// Let the page link to the reports of the home's nights. They quote rows and answers: without a token every
    /// program on this machine may read them.
    #[arg(long, requires = "home")]
    reports: bool,
    /// The agents that the page offers to ask; without it, the built-in council.
    #[arg(long, value_name = "FILE")]
    council: Option<PathBuf>,
    /// Print one JSON object with the address to stdout when it serves.
    #[arg(long)]
    json: bool,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) => Ok((name.to_owned(), folder.into())),
        None => Err(format!("expected NAME=DIR, found {text:?}")),
    }
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let home = match (&args.home, &args.model) {
        (Some(home), _) => Some(home.clone()),
        (None, None) => Some(home_here()?),
        (None, Some(_)) => None,
    };
    let serving = home.as_deref().map(|home| home.join("serving"));
    let (base, contract) = match (&args.model, &serving) {
        (Some(model), serving) => {
            let base = Base::open(model)?;
            let model = std::path::absolute(model)?;
            let find = |folder: &PathBuf| serving::file_for(folder, &model, base.digest());
            let contract = serving.as_ref().map(find).transpose()?;
            (base, contract)
        }
        (None, Some(folder)) => {
            let contract = only_contract(folder)?;
            (Base::open(Contract::read(&contract)?.base)?, Some(contract))
        }
        (None, None) => bail!("expected --model: nothing was promoted in this home yet"),
    };
    let server = Server::start(base, options(&args, home.as_deref())?)?;
    if let Some(adapter) = &args.adapter {
        server.swap(&Champion::new(adapter, 1))?;
    }
    for (name, folder) in &args.names {
        server.add(name, folder)?;
    }
    if let Some(contract) = &contract {
        server.follow(contract)?;
    }
    let address = server.address();
    errln!("serving at http://{address}/v1; a page for people at http://{address}/");
    if args.json {
        outln!("{}", json!({ "address": address, "contract": contract }))?;
    }
    server.wait();
    Ok(Exit::Done)
}

/// The only file in `serving` of a home.
fn only_contract(folder: &Path) -> anyhow::Result<PathBuf> {
    let items = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()));
    let items = items.context("expected --model: nothing was promoted in this home yet")?;
    let mut found: Vec<PathBuf> = items.filter_map(|item| Some(item.ok()?.path())).collect();
    found.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    match &found[..] {
        [only] => Ok(only.clone()),
        [] => bail!("{}: expected --model: nothing was promoted yet", folder.display()),
        _ => bail!("{}: expected --model: {} base models serve", folder.display(), found.len()),
    }
}

fn options(args: &Args, home: Option<&Path>) -> anyhow::Result<Options> {
    let mut options = Options::port(args.port);
    options.address.set_ip(args.host);
    options.token = Token::from_environment()?;
    options.limits.context_tokens = args.context;
    options.limits.batch = args.batch;
    options.limits.queue = args.queue;
    options.sampling.temperature = args.temperature;
    options.sampling.max_tokens = args.max_tokens;
    let council = match &args.council {
        Some(path) => Council::load(path)?,
        None => Council::built_in().clone(),
    };
    options.agents = council
        .agents
        .iter()
        .map(|agent| Agent::new(agent.id.as_str(), &agent.name, agent.system_prompt()))
        .collect();
    if let (Some(home), false) = (home, args.chats.is_empty()) {
        let log = ChatLog::new(home.join("chats"));
        let all = args.chats.iter().any(|agent| agent == "all");
        options.chats = Some(if all { log } else { log.agents(args.chats.clone()) });
    }
    options.reports = home.filter(|_| args.reports).map(Path::to_path_buf);
    if options.token.is_none() {
        errln!("no token: every program on this machine may ask ({TOKEN_VARIABLE} sets one)");
    }
    Ok(options)
}
