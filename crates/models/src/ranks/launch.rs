//! What `mlx.launch` or a plain environment says about the ranks.

use std::ffi::CStr;
use std::path::Path;

use super::error::RankError;

/// How this process joins the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    /// MLX's backend.
    pub(super) backend: &'static CStr,
    pub(super) rank: usize,
    /// An address of each rank as far as the environment says, for messages; that of rank 0 is also where it listens
    /// for the others' signs of life.
    pub(super) addresses: Vec<String>,
}

impl Launch {
    /// The launch that these variables describe; `None` for one process alone.
    ///
    /// # Errors
    /// [`RankError::Launch`] names the variable, or the hostfile and its entry.
    pub(super) fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, RankError> {
        // A launcher that has nothing to say sets an empty variable.
        let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let either = |a: &str, b: &str| variable(a).or_else(|| variable(b));
        if let Some(hostfile) = variable("MLX_HOSTFILE") {
            let addresses = ring_addresses(Path::new(&hostfile))?;
            if addresses.len() < 2 {
                return Ok(None);
            }
            let rank = rank(variable("MLX_RANK"), Some(addresses.len()))?;
            return Ok(Some(Self { backend: c"ring", rank, addresses }));
        }
        if either("MLX_IBV_DEVICES", "JACCL_IBV_DEVICES").is_some() {
            let rank = rank(either("MLX_RANK", "JACCL_RANK"), None)?;
            let coordinator = either("MLX_JACCL_COORDINATOR", "JACCL_COORDINATOR");
            let addresses = coordinator.into_iter().collect();
            return Ok(Some(Self { backend: c"jaccl", rank, addresses }));
        }
        if let Some(host) = variable("NCCL_HOST_IP") {
            let rank = rank(variable("MLX_RANK"), None)?;
            return Ok(Some(Self { backend: c"nccl", rank, addresses: vec![format!("{host}:0")] }));
        }
        match variable("MLX_RANK") {
            Some(rank) => Err(RankError::Launch {
                place: format!("MLX_RANK={rank}"),
                expected: "MLX_HOSTFILE beside it, with the addresses of all ranks".into(),
                found: "none: this rank has no partners".into(),
            }),
            None => Ok(None),
        }
    }

    /// The addresses of the ranks that this one connects with, for messages.
    pub(super) fn neighbours(&self) -> String {
        let size = self.addresses.len();
        if size < 2 {
            return "the other ranks".into();
        }
        let mut neighbours = vec![(self.rank + 1) % size, (self.rank + size - 1) % size];
        neighbours.dedup();
        let named =
            neighbours.iter().map(|&rank| format!("rank {rank} at {}", self.addresses[rank]));
        named.collect::<Vec<_>>().join(" and ")
    }

    /// The host of rank 0, if it is known.
    pub(super) fn first_host(&self) -> Option<&str> {
        Some(self.addresses.first()?.rsplit_once(':')?.0)
    }
}

fn rank(value: Option<String>, size: Option<usize>) -> Result<usize, RankError> {
    let expected = match size {
        Some(size) => {
            format!("a number from 0 to {}, one for each entry of MLX_HOSTFILE", size - 1)
        }
        None => "the number of this process, counted from 0".into(),
    };
    let parsed = value.as_deref().and_then(|value| value.trim().parse().ok());
    match parsed.filter(|rank| size.is_none_or(|size| *rank < size)) {
        Some(rank) => Ok(rank),
        None => {
            let found = value.map_or("nothing".into(), |value| format!("{value:?}"));
            Err(RankError::Launch { place: "MLX_RANK".into(), expected, found })
        }
    }
}

/// The first address of each rank in a hostfile of MLX's ring: a list with, for each rank, a list of `"IP:PORT"`. None in
/// an empty file, which `mlx.launch` writes for one process.
fn ring_addresses(path: &Path) -> Result<Vec<String>, RankError> {
    let wrong = |place: String, expected: &str, found: String| RankError::Launch {
        place,
        expected: expected.into(),
        found,
    };
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        wrong(
            format!("MLX_HOSTFILE={file}"),
            "a file with the addresses of all ranks",
            error.to_string(),
        )
    })?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    const FORM: &str = r#"a list with the addresses of each rank: [["IP:PORT"], ["IP:PORT"]]"#;
    let hosts: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| wrong(file.to_string(), FORM, error.to_string()))?;
    let launcher =
        hosts.as_array().is_some_and(|hosts| hosts.iter().any(|host| host.get("ssh").is_some()));
    if launcher {
        let found = "a hostfile of mlx.launch: pass it to mlx.launch as --hostfile".into();
        return Err(wrong(file.to_string(), FORM, found));
    }
    let hosts: Vec<Vec<String>> = serde_json::from_value(hosts)
        .map_err(|error| wrong(file.to_string(), FORM, error.to_string()))?;
    let mut addresses: Vec<String> = Vec::new();
    for (rank, own) in hosts.iter().enumerate() {
        let place = || format!("{file}: rank {rank}");
        let Some(first) = own.first() else {
            return Err(wrong(place(), "at least one \"IP:PORT\"", "none".into()));
        };
        for address in own {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none_or(|port| port == 0) {
                return Err(wrong(place(), "\"IP:PORT\"", format!("{address:?}")));
            }
            if let Some(other) = hosts[..rank].iter().position(|other| other.contains(address)) {
                let found = format!("{address:?}, which is rank {other}'s");
                return Err(wrong(place(), "an address of its own", found));
            }
        }
        addresses.push(first.clone());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Result<Option<Launch>, RankError> {
        Launch::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn with_hostfile(text: &str, rank: &str) -> Result<Option<Launch>, RankError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts.json");
        std::fs::write(&path, text).unwrap();
        launch(&[("MLX_HOSTFILE", path.to_str().unwrap()), ("MLX_RANK", rank)])
    }

    #[test]
    fn one_process_alone_needs_nothing() {
        assert_eq!(launch(&[]), Ok(None));
        assert_eq!(launch(&[("MLX_RANK", ""), ("MLX_HOSTFILE", "")]), Ok(None));
        // What mlx.launch writes for one host.
        assert_eq!(with_hostfile("\n", "0"), Ok(None));
        assert_eq!(with_hostfile(r#"[["127.0.0.1:5000"]]"#, "0"), Ok(None));
    }

    #[test]
    fn a_ring_is_read_from_its_hostfile() {
        let hosts = r#"[["10.0.0.1:5000", "10.0.0.1:5001"], ["10.0.0.2:5002"], ["h:5003"]]"#;
        let found = with_hostfile(hosts, "1").unwrap().unwrap();
        assert_eq!((found.backend, found.rank), (c"ring", 1));
        assert_eq!(found.addresses, ["10.0.0.1:5000", "10.0.0.2:5002", "h:5003"]);
        assert_eq!(found.first_host(), Some("10.0.0.1"));
        assert_eq!(found.neighbours(), "rank 2 at h:5003 and rank 0 at 10.0.0.1:5000");
    }

    #[test]
    fn other_backends_are_told_by_their_variables() {
        let jaccl = launch(&[
            ("MLX_RANK", "1"),
            ("MLX_IBV_DEVICES", "devices.json"),
            ("MLX_JACCL_COORDINATOR", "10.0.0.1:7000"),
        ]);
        let jaccl = jaccl.unwrap().unwrap();
        assert_eq!((jaccl.backend, jaccl.first_host()), (c"jaccl", Some("10.0.0.1")));
        let nccl = launch(&[("MLX_RANK", "0"), ("NCCL_HOST_IP", "10.0.0.3"), ("NCCL_PORT", "1")]);
        let nccl = nccl.unwrap().unwrap();
        assert_eq!((nccl.backend, nccl.first_host()), (c"nccl", Some("10.0.0.3")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let two = r#"[["a:1"], ["b:2"]]"#;
        for (found, words) in [
            (launch(&[("MLX_RANK", "0")]), "MLX_RANK=0: expected MLX_HOSTFILE beside it"),
            (
                launch(&[("MLX_RANK", "0"), ("MLX_HOSTFILE", "no/such.json")]),
                "MLX_HOSTFILE=no/such.json: expected a file",
            ),
            (
                with_hostfile("{", "0"),
                "hosts.json: expected a list with the addresses of each rank",
            ),
            (with_hostfile(r#"[["a:1"], []]"#, "0"), "hosts.json: rank 1: expected at least one"),
            (with_hostfile(r#"[["a:1"], ["b"]]"#, "0"), r#"rank 1: expected "IP:PORT", found "b""#),
            (with_hostfile(r#"[["a:1"], ["a:1"]]"#, "0"), r#"found "a:1", which is rank 0's"#),
            (with_hostfile(r#"[{"ssh": "m", "ips": []}]"#, "0"), "a hostfile of mlx.launch"),
            (with_hostfile(two, "2"), r#"MLX_RANK: expected a number from 0 to 1"#),
            (with_hostfile(two, "-1"), r#"found "-1""#),
            (with_hostfile(two, ""), "found nothing"),
        ] {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
