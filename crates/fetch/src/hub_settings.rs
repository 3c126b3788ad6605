//! The settings of the Hugging Face hub's own tools.
//!
//! Invariant: a variable means what it means to the Python package `huggingface_hub` (read as of its
//! version 2.4), so that both find the same files.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The value of an environment variable.
type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where models are cached, and how the hub is asked for them.
#[derive(Clone, Debug)]
pub(crate) struct HubSettings {
    /// The folder with `models--OWNER--NAME`.
    pub cache: PathBuf,
    pub endpoint: String,
    pub token: Option<Token>,
}

/// A secret, which no log may have.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl HubSettings {
    /// The settings of this process.
    pub fn from_env() -> Result<Self> {
        Self::read(&|name| std::env::var_os(name), dirs::home_dir().as_deref())
    }

    fn read(variable: Variable<'_>, home: Option<&Path>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(|value| expand(value, &set, home));
        let home_cache = || home.map(|home| home.join(".cache"));
        let hub_home = path("HF_HOME").or_else(|| {
            path("XDG_CACHE_HOME").or_else(home_cache).map(|cache| cache.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.or_else(|| hub_home.as_ref().map(|home| home.join("hub")));
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let stored = || {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(hub_home.as_ref()?.join("token")));
            std::fs::read_to_string(file?).ok()
        };
        let token = match text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN")) {
            None if !is_true(set("HF_HUB_DISABLE_IMPLICIT_TOKEN")) => stored(),
            given => given,
        };
        Ok(Self {
            cache: cache.ok_or(Error::NoHubCache)?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token.map(|token| token.trim().to_owned()).filter(|t| !t.is_empty()).map(Token),
        })
    }
}

/// Whether the hub may not be asked.
pub(crate) fn is_offline() -> bool {
    offline(&|name| std::env::var_os(name))
}

fn offline(variable: Variable<'_>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    is_true(set("HF_HUB_OFFLINE").or_else(|| set("TRANSFORMERS_OFFLINE")))
}

fn is_true(value: Option<OsString>) -> bool {
    let value = value.unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
}

/// A path with `~` and `$NAME` replaced; unknown names stay.
fn expand(value: OsString, variable: Variable<'_>, home: Option<&Path>) -> PathBuf {
    let Some(text) = value.to_str() else { return value.into() };
    let home = || home.map(Path::to_string_lossy);
    let text = shellexpand::full_with_context_no_errors(text, home, |name| {
        variable(name).and_then(|value| value.into_string().ok())
    });
    PathBuf::from(text.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    fn read(pairs: &[(&str, &str)]) -> HubSettings {
        HubSettings::read(&variables(pairs), Some(Path::new("/home/me"))).unwrap()
    }

    #[test]
    fn the_cache_is_where_the_hubs_own_tools_have_it() {
        let all = [
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
        ];
        for (skipped, cache) in
            ["/a", "/b", "/c/hub", "/d/huggingface/hub", "/home/me/.cache/huggingface/hub"]
                .iter()
                .enumerate()
        {
            assert_eq!(read(&all[skipped..]).cache, Path::new(cache));
        }
        for (value, cache) in [
            ("~/models", "/home/me/models"),
            ("~", "/home/me"),
            ("$DISK/hub", "/mnt/hub"),
            ("${DISK}/hub", "/mnt/hub"),
            ("$NOBODY/hub", "$NOBODY/hub"),
            ("", "/home/me/.cache/huggingface/hub"),
        ] {
            let settings = read(&[("HF_HUB_CACHE", value), ("DISK", "/mnt")]);
            assert_eq!(settings.cache, Path::new(cache), "{value}");
        }
        let nowhere = HubSettings::read(&variables(&[]), None);
        assert!(matches!(nowhere, Err(Error::NoHubCache)));
    }

    #[test]
    fn offline_is_what_it_is_to_the_hubs_own_tools() {
        for (hub, transformers, is) in [
            ("1", "", true),
            ("on", "", true),
            ("True", "", true),
            ("yes", "", true),
            ("0", "1", false),
            ("false", "", false),
            ("", "1", true),
            ("", "", false),
        ] {
            let pairs = [("HF_HUB_OFFLINE", hub), ("TRANSFORMERS_OFFLINE", transformers)];
            assert_eq!(offline(&variables(&pairs)), is, "{hub:?} {transformers:?}");
        }
    }

    #[test]
    fn a_token_is_read_from_a_variable_or_else_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        std::fs::write(folder.path().join("other"), "hf_other").unwrap();
        let other = format!("{home}/other");
        let token = |pairs: &[(&str, &str)]| read(pairs).token;
        let at = |value: &str| Some(Token(value.to_owned()));
        let hub = ("HF_HOME", home);
        assert_eq!(token(&[hub]), at("hf_file"));
        assert_eq!(token(&[hub, ("HF_HUB_CACHE", "/elsewhere")]), at("hf_file"));
        assert_eq!(token(&[hub, ("HF_TOKEN_PATH", &other)]), at("hf_other"));
        assert_eq!(token(&[hub, ("HUGGING_FACE_HUB_TOKEN", "hf_old")]), at("hf_old"));
        let both = [hub, ("HUGGING_FACE_HUB_TOKEN", "hf_old"), ("HF_TOKEN", " hf_new\n")];
        assert_eq!(token(&both), at("hf_new"));
        assert_eq!(token(&[hub, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let shown = format!("{:?}", read(&[("HF_TOKEN", "hf_secret")]));
        assert!(!shown.contains("secret"), "{shown}");
        let slash = read(&[("HF_ENDPOINT", "http://mirror/")]);
        assert_eq!(slash.endpoint, "http://mirror");
    }
}
