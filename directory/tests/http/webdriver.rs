//! Headless Chromium by WebDriver, which is JSON over HTTP. Both come as Debian packages; without them the tests fail.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{PATIENCE, request};

const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--lang=en-US",
];
/// How often a page is asked whether something has come true.
const GLANCE: Duration = Duration::from_millis(100);

pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let mut command = Command::new("chromedriver");
        let spawned = command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut driver = spawned.unwrap_or_else(|error| {
            panic!("cannot run chromedriver: {error}; install the Debian packages chromium and chromium-driver")
        });
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.split_once("successfully on port ").map(|(_, port)| port.to_owned()));
        let port = port.unwrap().trim_end_matches('.').parse().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let profile = tempfile::tempdir().unwrap();
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let mut this = Self { driver, address, session: String::new(), _profile: profile };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let session = this.call("POST", "/session", wanted);
        this.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        this
    }

    fn call(&self, method: &str, path: &str, body: Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|refusal| panic!("{method} {path}: {refusal}"))
    }

    fn try_call(&self, method: &str, path: &str, body: Value) -> Result<Value, String> {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let path = format!("{}{path}", self.session);
        let answer = request(self.address, method, &path, &[("Content-Type", "application/json")], &body);
        if answer.status == 200 { Ok(answer.json()["value"].take()) } else { Err(answer.body) }
    }

    pub fn open(&self, url: &str) {
        self.call("POST", "/url", json!({ "url": url }));
    }

    /// The value of a JavaScript expression in the page.
    pub fn value(&self, expression: &str) -> Value {
        self.try_value(expression).unwrap_or_else(|refusal| panic!("{expression}: {refusal}"))
    }

    fn try_value(&self, expression: &str) -> Result<Value, String> {
        let script = format!("return ({expression})");
        self.try_call("POST", "/execute/sync", json!({ "script": script, "args": [] }))
    }

    /// The text of an element as it is seen; nothing when there is none.
    pub fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        self.value(&format!("(document.querySelector({selector}) || {{}}).innerText || ''"))
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[expect(clippy::disallowed_methods, reason = "a test gives up at some time, and a browser has to be asked")]
    pub fn wait_for(&self, what: &str, expression: &str) {
        let began = Instant::now();
        loop {
            // Of a page that has not come yet, or is just going, parts are missing.
            let seen = self.try_value(expression);
            if seen == Ok(json!(true)) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: never {expression}, but {seen:?}; {}", self.text("body"));
            std::thread::sleep(GLANCE);
        }
    }

    fn element(&self, selector: &str) -> String {
        let found = self.call("POST", "/element", json!({ "using": "css selector", "value": selector }));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    pub fn click(&self, selector: &str) {
        self.call("POST", &format!("/element/{}/click", self.element(selector)), json!({}));
    }

    pub fn type_in(&self, selector: &str, text: &str) {
        self.call("POST", &format!("/element/{}/value", self.element(selector)), json!({ "text": text }));
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.call("POST", "/goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    pub fn screen(&self, width: u32, height: u32, is_phone: bool) {
        let factor = if is_phone { 2 } else { 1 };
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": factor, "mobile": is_phone }),
        );
    }

    pub fn colors(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// What the console has said since the last call, and for which the page is to blame.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", json!({ "type": "browser" }));
        let bad = |entry: &&Value| ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap());
        log.as_array().unwrap().iter().filter(bad).map(|entry| entry["message"].to_string()).collect()
    }

    /// The addresses that pages have asked for since the last call; those of the browser itself, such as the page of a new
    /// tab, are not among them.
    pub fn requested(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", json!({ "type": "performance" }));
        let messages = log.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap());
        let events = messages.map(|message| serde_json::from_str::<Value>(message).unwrap()["message"].take());
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        let urls = sent.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned());
        urls.filter(|url| !url.starts_with("chrome:")).collect()
    }

    /// A PNG of the whole page, as base64.
    pub fn picture(&self, whole: bool) -> String {
        let shot = self.devtools("Page.captureScreenshot", json!({ "captureBeyondViewport": whole }));
        shot["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Also when a test has failed: ChromeDriver leaves its browser behind when it is killed. It ends the browser before
        // it answers.
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let _ = write!(stream, "DELETE {} HTTP/1.1\r\nHost: {}\r\n\r\n", self.session, self.address);
            let _ = stream.read(&mut [0; 1]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
