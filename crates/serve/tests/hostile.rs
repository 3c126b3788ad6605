//! Clients that mean no good, or fail: every one gets an error, none takes the server down.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};
use serve::{Error, Options, Server, Token};
use support::{Checkpoint, chat, get, post, question, serve, text};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What a server answers to these bytes, until it closes the connection.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A connection may be reset when the server closes it early.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(length: usize, more: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
         Connection: close\r\n{more}\r\n"
    )
}

fn still_answers(server: &Server) {
    assert_eq!(text(&chat(server, &question("?", json!({}))).json()), "yes.");
}

#[test]
fn bodies_that_are_too_large_too_slow_or_cut_short() {
    let server = serve(Checkpoint::saying("yes.").base(), |options| {
        options.limits.body_bytes = 1_000;
        options.limits.client = Duration::from_millis(600);
    });
    let long = question(&"x".repeat(2_000), json!({}));
    let reply = chat(&server, &long);
    assert_eq!(
        (reply.status, reply.error().as_str()),
        (413, "expected a body of at most 1000 bytes")
    );
    let chunked = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("{chunked}{:x}\r\n{}\r\n0\r\n\r\n", 2_000, "x".repeat(2_000));
    assert!(raw(&server, chunks.as_bytes()).starts_with("HTTP/1.1 413"));
    let slow = Instant::now();
    let answer = raw(&server, (head(100, "") + "{").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // The head alone, without its end: the connection is closed.
    assert_eq!(
        raw(&server, b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nA: ")
            .matches("200 OK")
            .count(),
        0
    );
    assert!(slow.elapsed() < Duration::from_secs(10), "{:?}", slow.elapsed());
    still_answers(&server);
}

#[test]
fn requests_that_are_no_http_or_no_json() {
    let server = serve(Checkpoint::saying("yes.").base(), |_| {});
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let answer = raw(&server, bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let path =
        raw(&server, b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(path.starts_with("HTTP/1.1 404"), "{path}");
    let deep = format!("{{\"messages\":{}", "[".repeat(200_000));
    for body in [
        &b""[..],
        b"\xff\xfe\x00",
        b"nul",
        b"[1]",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xc3\"}]}",
        deep.as_bytes(),
    ] {
        let reply = post(&server, "/v1/chat/completions", body);
        assert_eq!(
            (reply.status, reply.json()["error"]["type"].as_str()),
            (400, Some("invalid_request_error"))
        );
    }
    still_answers(&server);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any JSON in any of the fields is answered or refused, in OpenAI's form.
    #[test]
    fn fields_of_any_kind(fields in prop::collection::btree_map(field(), value(), 0..6)) {
        use std::sync::LazyLock;
        static SERVER: LazyLock<Server> = LazyLock::new(|| {
            serve(Checkpoint::saying("yes.").base(), |options| options.sampling.max_tokens = 8)
        });
        let mut body = question("?", json!({}));
        body.as_object_mut().unwrap().extend(fields);
        if body["stream"] == json!(true) {
            body["stream"] = json!(false);
        }
        for path in ["/v1/chat/completions", "/v1/completions"] {
            let reply = post(&SERVER, path, body.to_string().as_bytes());
            let json = reply.json();
            match reply.status {
                200 => prop_assert!(json["choices"].is_array(), "{body}: {json}"),
                400 | 404 => prop_assert!(json["error"]["message"].is_string(), "{body}: {json}"),
                other => prop_assert!(false, "{other}: {body}: {json}"),
            }
        }
    }
}

fn field() -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "messages",
        "model",
        "temperature",
        "top_p",
        "top_k",
        "n",
        "stop",
        "max_tokens",
        "seed",
        "tools",
        "max_completion_tokens",
        "tool_choice",
        "stream_options",
        "prompt",
        "logit_bias",
        "metadata",
        "response_format",
        "reasoning_effort",
        "chat_template_kwargs",
        "parallel_tool_calls",
        "echo",
        "best_of",
        "unknown",
    ];
    prop::sample::select(NAMES).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..4).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(
            &["", "auto", "none", "base", "user", "<|im_end|>", "\u{0}\u{fffd}", "x"][..]
        )
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let keys = prop::sample::select(
            &[
                "role",
                "content",
                "type",
                "function",
                "name",
                "text",
                "arguments",
                "tool_calls",
                "enable_thinking",
            ][..],
        );
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.prop_map(str::to_owned), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A queue of one, a batch of one: whoever comes third is told to come back.
#[test]
fn a_full_queue_refuses_and_recovers() {
    let server = serve(Checkpoint::saying("delta ").base(), |options| {
        options.limits.queue = 1;
        options.limits.batch = 1;
        options.sampling.max_tokens = 100_000;
        options.limits.context_tokens = 200_000;
    });
    let body = question("?", json!({})).to_string();
    let send = || {
        let mut stream = connect(&server);
        stream.write_all((head(body.len(), "") + &body).as_bytes()).unwrap();
        stream
    };
    let running = send();
    let wait = |what: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !get(&server, "/metrics").body.lines().any(|line| line == what) {
            assert!(Instant::now() < deadline, "{what}: {}", get(&server, "/metrics").body);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait("nightshift_serve_running 1");
    let waiting = send();
    wait("nightshift_serve_waiting 1");
    let refused = chat(&server, &question("?", json!({})));
    assert_eq!((refused.status, refused.retry_after.as_deref()), (429, Some("1")));
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    // Both go away: their places are free.
    drop((running, waiting));
    let short = chat(&server, &question("?", json!({ "max_tokens": 5 })));
    assert_eq!(text(&short.json()), "delta");
}

#[test]
fn a_request_whose_time_is_over() {
    let server = serve(Checkpoint::saying("delta ").base(), |options| {
        options.sampling.max_tokens = 100_000;
        options.limits.context_tokens = 200_000;
        options.limits.request = Duration::from_millis(500);
    });
    let reply = chat(&server, &question("?", json!({})));
    assert_eq!((reply.status, reply.retry_after.as_deref()), (503, Some("1")));
    assert_eq!(reply.error(), "the time for a request is over");
    let streamed = question("?", json!({ "stream": true }));
    let (objects, done) = support::streamed(&server, "/v1/chat/completions", &streamed);
    assert!(!done && objects.len() > 2);
    assert_eq!(objects.last().unwrap()["error"]["type"], "server_error");
}

/// A client that does not take its answer holds its connection for a while, and nothing else.
#[test]
fn slow_readers() {
    let server = serve(Checkpoint::saying("delta ").base(), |options| {
        options.limits.choices = 64;
        options.limits.client = Duration::from_millis(500);
    });
    let body = question("?", json!({ "stream": true, "max_tokens": 4_000, "n": 64 })).to_string();
    let mut stalled = connect(&server);
    stalled.write_all((head(body.len(), "") + &body).as_bytes()).unwrap();
    // Until then it depends on how busy the machine is: the answers must fill the system's buffers.
    let deadline = Instant::now() + Duration::from_secs(300);
    let waits = || {
        let metrics = get(&server, "/metrics").body;
        // The connection of this request itself.
        !metrics.lines().any(|line| line == "nightshift_serve_connections 1")
    };
    std::thread::sleep(Duration::from_millis(300));
    while waits() {
        assert!(Instant::now() < deadline, "{}", get(&server, "/metrics").body);
        std::thread::sleep(Duration::from_millis(50));
    }
    let short = chat(&server, &question("?", json!({ "max_tokens": 5 })));
    assert_eq!(text(&short.json()), "delta");
}

#[test]
fn more_connections_than_places() {
    let server = serve(Checkpoint::saying("yes.").base(), |options| {
        options.limits.connections = 4;
        options.limits.client = Duration::from_millis(400);
    });
    let idle: Vec<TcpStream> = (0..200).map(|_| connect(&server)).collect();
    still_answers(&server);
    drop(idle);
    still_answers(&server);
}

/// A connection that says nothing, or begins a request; `None` if the system takes none.
async fn held_open(address: SocketAddr, at: usize) -> Option<tokio::net::TcpStream> {
    let connect = tokio::net::TcpStream::connect(address);
    let stream = tokio::time::timeout(Duration::from_secs(20), connect).await.ok()?.ok()?;
    if at.is_multiple_of(2) {
        let _ = stream.try_write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nA: ");
    }
    Some(stream)
}

/// Ten thousand at once, silent or in the middle of a request. The server takes as many as it has places for, and others when
/// those have had their time; the system refuses or delays the rest.
#[test]
fn ten_thousand_connections() {
    const COUNT: usize = 10_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
    if limit.maximum.is_some_and(|most| most < COUNT as u64 + 4_000) {
        let _ = writeln!(std::io::stderr(), "skipped: {COUNT} connections need more open files");
        return;
    }
    let server = serve(Checkpoint::saying("yes.").base(), |options| {
        options.limits.client = Duration::from_millis(500);
    });
    let address = server.address();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let held: Vec<_> = runtime.block_on(async {
        let tasks: Vec<_> = (0..COUNT).map(|at| tokio::spawn(held_open(address, at))).collect();
        let mut held = Vec::with_capacity(COUNT);
        for task in tasks {
            held.extend(task.await.unwrap());
        }
        held
    });
    println!("{} of {COUNT} connections were taken", held.len());
    assert!(held.len() >= Options::default().limits.connections);
    still_answers(&server);
    drop(held);
    still_answers(&server);
}

#[test]
fn the_token() {
    let base = || Checkpoint::saying("yes.").base();
    let open = Options::port(0);
    let mut everywhere = open.clone();
    everywhere.address = (Ipv4Addr::UNSPECIFIED, 0).into();
    let error = Server::start(base(), everywhere.clone()).unwrap_err();
    assert!(matches!(error, Error::Open { .. }), "{error}");
    assert!(error.to_string().contains("NIGHTSHIFT_SERVE_TOKEN"), "{error}");
    for token in ["short", "with a space in the middle", "with-ünicode-in-it-somewhere"] {
        assert!(Token::new(token.to_owned()).is_err(), "{token}");
    }
    let secret = "a-token-of-some-length";
    let token = Token::new(secret.to_owned()).unwrap();
    assert_eq!(format!("{token:?}"), "Token(..)");
    everywhere.token = Some(token);
    let server = Server::start(base(), everywhere).unwrap();
    let address = (Ipv4Addr::LOCALHOST, server.address().port());
    let ask = |path: &str, header: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for path in ["/v1/models", "/metrics"] {
        for header in [
            "",
            "Authorization: Bearer wrong\r\n",
            "Authorization: Basic a-token-of-some-length\r\n",
            "Authorization: Bearer\r\n",
        ] {
            let answer = ask(path, header);
            assert!(answer.starts_with("HTTP/1.1 401"), "{path} {header}: {answer}");
            assert!(answer.contains("invalid_api_key") && !answer.contains(secret), "{answer}");
        }
        let answer = ask(path, &format!("Authorization: Bearer {secret}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    assert!(ask("/health", "").starts_with("HTTP/1.1 200"));
    let foreign = format!("Authorization: Bearer {secret}\r\nOrigin: https://example.com\r\n");
    assert!(ask("/v1/models", &foreign).starts_with("HTTP/1.1 403"));
    for limit in [0, 1] {
        let mut options = open.clone();
        options.limits.batch = limit;
        assert_eq!(Server::start(base(), options).is_ok(), limit > 0);
    }
}

#[test]
fn a_stopped_server_answers_what_waits_with_an_error() {
    let server = serve(Checkpoint::saying("delta ").base(), |options| {
        options.sampling.max_tokens = 100_000;
        options.limits.context_tokens = 200_000;
    });
    let body = question("?", json!({})).to_string();
    let mut stream = connect(&server);
    stream.write_all((head(body.len(), "") + &body).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let stop = Instant::now();
    drop(server);
    assert!(stop.elapsed() < Duration::from_secs(5), "{:?}", stop.elapsed());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 503") || answer.is_empty(), "{answer}");
}
