use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// The environment variable for the token that requests must have.
pub const TOKEN_VARIABLE: &str = "NIGHTSHIFT_SERVE_TOKEN";

/// Where and how a server serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where to listen. Only 127.0.0.1 and the like are allowed without a [token](Self::token).
    pub address: SocketAddr,
    /// What requests must have as `Authorization: Bearer TOKEN`; without one, every program of this
    /// machine may ask.
    pub token: Option<Token>,
    /// What a request and the server as a whole may use.
    pub limits: Limits,
    /// The sampling of requests that do not say otherwise.
    pub sampling: Sampling,
    /// Where chats are recorded; nowhere unless set.
    pub chats: Option<ChatLog>,
    /// Whom the page at `/` offers to ask.
    pub agents: Vec<Agent>,
    /// The home whose nights' reports the page links to; none unless set. Without a [token](Self::token), every program
    /// of this machine may read them.
    pub reports: Option<PathBuf>,
}

/// An agent: a system prompt with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Agent {
    /// Its id, for the log of chats.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its system prompt.
    pub system: String,
}

impl Agent {
    /// An agent with this id, name and system prompt.
    pub fn new(id: impl Into<String>, name: impl Into<String>, system: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), system: system.into() }
    }
}

/// A secret that is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// The sampling of requests that do not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// 0 takes the most probable token: exams are answered that way, so it is what was examined that
    /// serves.
    pub temperature: f32,
    /// Sample only from the most probable tokens whose probabilities add up to this.
    pub top_p: f32,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

/// What a request and the server as a whole may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Messages of a request.
    pub messages: usize,
    /// Tokens of a prompt and its answer together.
    pub context_tokens: usize,
    /// Answers to one request (`n`).
    pub choices: usize,
    /// Requests that wait; further ones are refused with status 429.
    pub queue: usize,
    /// Answers that are generated at a time.
    pub batch: usize,
    /// Bytes of the caches of running sequences. One request is always served.
    pub cache_bytes: usize,
    /// Bytes of the caches of prompt beginnings that several requests share.
    pub prefix_bytes: usize,
    /// Prompt tokens that are processed between two steps of running answers.
    pub prompt_tokens_per_step: usize,
    /// Connections at a time; further ones wait to be accepted.
    pub connections: usize,
    /// The time for a request, waiting included.
    pub request: Duration,
    /// The time in which a client must send a request, and take some of the answer.
    pub client: Duration,
    /// After so long without a token a streamed answer has a comment, so that nothing between takes the connection for dead.
    pub keep_alive: Duration,
}

/// A folder in which chats are recorded, one file a day.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatLog {
    /// The folder.
    pub folder: PathBuf,
    /// The agents whose chats are recorded, by `metadata.agent` of the request; without a list, all
    /// chats are.
    pub agents: Option<Vec<String>>,
}

impl ChatLog {
    /// Records all chats in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), agents: None }
    }

    /// Records only the chats of these agents.
    pub fn agents(self, agents: Vec<String>) -> Self {
        Self { agents: Some(agents), ..self }
    }
}

impl Token {
    /// The token of the environment variable [`TOKEN_VARIABLE`], if it is set.
    ///
    /// # Errors
    /// [`Error::Option`] for one that is shorter than 16 characters or that a header cannot hold.
    pub fn from_environment() -> Result<Option<Self>> {
        let token = std::env::var_os(TOKEN_VARIABLE).map(|token| token.to_string_lossy().into());
        token.map(Self::new).transpose()
    }

    /// This token.
    ///
    /// # Errors
    /// As [`from_environment`](Self::from_environment).
    pub fn new(token: String) -> Result<Self> {
        if token.len() >= 16 && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(token));
        }
        Err(Error::Option {
            name: TOKEN_VARIABLE,
            expected: "at least 16 printable ASCII characters without spaces",
            found: format!("{} bytes", token.len()),
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Options {
    /// Listens on this port of 127.0.0.1; 0 for any free one.
    pub fn port(port: u16) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, port).into(), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.token.is_none() && !self.address.ip().is_loopback() {
            return Err(Error::Open { address: self.address, variable: TOKEN_VARIABLE });
        }
        let Limits {
            context_tokens,
            choices,
            queue,
            batch,
            prompt_tokens_per_step,
            connections,
            ..
        } = self.limits;
        for (name, value) in [
            ("limits.context_tokens", context_tokens),
            ("limits.choices", choices),
            ("limits.queue", queue),
            ("limits.batch", batch),
            ("limits.prompt_tokens_per_step", prompt_tokens_per_step),
            ("limits.connections", connections),
            ("sampling.max_tokens", self.sampling.max_tokens),
        ] {
            if value == 0 {
                let (expected, found) = ("at least 1", "0".to_owned());
                return Err(Error::Option { name, expected, found });
            }
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, 8_080).into(),
            token: None,
            limits: Limits::default(),
            sampling: Sampling::default(),
            chats: None,
            agents: Vec::new(),
            reports: None,
        }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, max_tokens: 1_024 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 4 << 20,
            messages: 1_024,
            context_tokens: 8_192,
            choices: 8,
            queue: 128,
            batch: 64,
            cache_bytes: 4 << 30,
            prefix_bytes: 512 << 20,
            prompt_tokens_per_step: 128,
            connections: 512,
            request: Duration::from_secs(600),
            client: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
        }
    }
}
