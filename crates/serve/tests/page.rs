//! The page in headless Chromium, driven over WebDriver: real keys, a desk's and a phone's width, chats recorded.
//!
//! Without `chromedriver` the test says so and passes.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use serve::{Agent, ChatLog};
use support::{Checkpoint, serve};

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const SPACE: &str = " ";
/// The key that names an element in WebDriver's objects.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window. Dropped, it is closed.
struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// A headless browser; `None`, after a line on stderr, if there is none.
    fn open(width: u32, height: u32) -> Option<Self> {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = match driver {
            Ok(driver) => driver,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "skipped: chromedriver: {error}");
                return None;
            }
        };
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.unwrap();
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Self { driver, session: format!("http://127.0.0.1:{}", port.unwrap()) };
        let size = format!("--window-size={width},{height}");
        let arguments =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-proxy-server", &size];
        let metrics = json!({ "width": width, "height": height, "pixelRatio": 1.0 });
        let options = json!({ "args": arguments, "mobileEmulation": { "deviceMetrics": metrics } });
        let wanted = json!({ "alwaysMatch": { "goog:chromeOptions": options } });
        let session = browser.send("/session", &json!({ "capabilities": wanted }));
        browser.session += &format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// A command; its value.
    fn send(&self, path: &str, body: &Value) -> Value {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent: ureq::Agent =
            config.timeout_global(Some(Duration::from_secs(120))).build().into();
        let request = agent.post(format!("{}{path}", self.session));
        let mut response =
            request.header("Content-Type", "application/json").send(body.to_string()).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        assert_eq!(response.status(), 200, "{path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }

    /// What an expression of JavaScript comes to.
    fn get(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.send("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    fn wait(&self, expression: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.get(&format!("Boolean({expression})")) != true {
            let page = self.get("document.body.innerText");
            assert!(Instant::now() < deadline, "never: {expression}: {page}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Presses keys, at whatever has the focus.
    fn press(&self, keys: &str) {
        let focus = self.get("document.activeElement")[ELEMENT].as_str().unwrap().to_owned();
        self.send(&format!("/element/{focus}/value"), &json!({ "text": keys }));
    }

    /// Presses Tab until an expression about `it`, what has the focus, is true.
    fn tab_to(&self, expression: &str) {
        for _ in 0..30 {
            if self.get(&format!("(it => {expression})(document.activeElement)")) == true {
                return;
            }
            self.press(TAB);
        }
        panic!("no Tab reaches {expression}: {}", self.get("document.body.innerHTML"));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Asks, judges and corrects with the keyboard alone.
#[test]
fn a_chat_by_keyboard_at_a_desk_and_on_a_phone() {
    for (width, height) in [(1280, 800), (360, 640)] {
        let chats = tempfile::tempdir().unwrap();
        let server = serve(Checkpoint::saying("on duty.").base(), |options| {
            options.chats = Some(ChatLog::new(chats.path()));
            options.agents = vec![Agent::new("windu", "Windu", "You are windu.")];
        });
        let Some(browser) = Browser::open(width, height) else { return };
        browser.send("/url", &json!({ "url": format!("http://{}/", server.address()) }));
        browser.wait("document.getElementById('serving').textContent === 'the base model serves'");
        assert_eq!(browser.get("innerWidth"), width);
        assert_eq!(browser.get("document.activeElement.id"), "question");

        // The agent is chosen with its first letter; a chat with it begins at the question.
        browser.tab_to("it.id === 'agent'");
        browser.press("W");
        browser.wait("document.getElementById('agent').value === 'windu'");
        browser.tab_to("it.id === 'question'");
        browser.press("Are you <b>there</b>?");
        browser.press(ENTER);
        browser.wait("document.querySelector('article.assistant footer')");
        let said =
            browser.get("[...document.querySelectorAll('article p')].map(it => it.textContent)");
        assert_eq!(said, json!(["Are you <b>there</b>?", "on duty."]));
        assert_eq!(browser.get("document.querySelectorAll('#log b').length"), 0);
        let footer = "document.querySelector('article.assistant footer')";
        assert_eq!(
            browser.get(&format!("{footer}.querySelector('span').textContent")),
            "generation 0"
        );

        browser.tab_to("it.textContent === 'Bad'");
        browser.press(SPACE);
        browser.wait(&format!("{footer}.lastChild.textContent === 'noted'"));
        browser.tab_to("it.textContent === 'Correct'");
        browser.press(ENTER);
        browser.wait("document.activeElement.ariaLabel === 'What it should have said'");
        browser.press(" At the gate.");
        browser.press(TAB);
        browser.press(ENTER);
        browser.wait("!document.querySelector('article form')");

        // Nothing lies outside the window, and what can be pressed is large enough for a finger.
        assert!(browser.get("document.documentElement.scrollWidth").as_u64() <= Some(width.into()));
        let boxes = browser.get(
            "[...document.querySelectorAll('button, select, textarea')].filter(it => it.offsetParent)
                .map(it => [it.getBoundingClientRect(), it.outerHTML])
                .filter(([box]) => box.left < 0 || box.right > innerWidth || box.height < 24)
                .map(([_, html]) => html)",
        );
        assert_eq!(boxes, json!([]), "{width}");
        if let Ok(folder) = std::env::var("NIGHTSHIFT_SCREENSHOTS") {
            let config = ureq::get(format!("{}/screenshot", browser.session)).call();
            let picture: Value = config.unwrap().body_mut().read_json().unwrap();
            let path = std::path::Path::new(&folder).join(format!("page-{width}.png.base64"));
            std::fs::write(path, picture["value"].as_str().unwrap()).unwrap();
        }

        // The chat, the rating and the correction.
        let deadline = Instant::now() + Duration::from_secs(60);
        let lines = loop {
            let files = std::fs::read_dir(chats.path()).unwrap().map(|item| item.unwrap().path());
            let text: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
            let lines: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if lines.len() == 3 {
                break lines;
            }
            assert!(Instant::now() < deadline, "{text}");
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(lines[0]["agent"], "windu");
        assert_eq!(lines[0]["messages"][0]["content"], "You are windu.");
        assert_eq!(lines[1]["good"], false);
        assert_eq!(lines[2]["correction"], "on duty. At the gate.");
    }
}
