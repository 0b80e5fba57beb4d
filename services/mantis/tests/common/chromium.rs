//! A browser without a screen, driven through its DevTools protocol over a pipe.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// No single answer takes longer on a machine that is not broken.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
];

/// The browser, where there is one. `None` where it is not installed; the test is then noted as skipped.
pub fn installed() -> Option<PathBuf> {
    let named = ["chromium", "chromium-browser", "google-chrome"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    let found = folders.find_map(|folder| named.iter().map(|name| folder.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        mantis_testing::skipped("chromium is not installed");
    }
    found
}

/// A browser with one page.
pub struct Chromium {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    loads: u64,
    /// What its console complained about.
    pub problems: Vec<String>,
    _profile: TempDir,
}

impl Chromium {
    pub fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (input, output) = (profile.path().join("in"), profile.path().join("out"));
        assert!(Command::new("mkfifo").args([&input, &output]).status().unwrap().success());
        // The protocol is spoken over the file descriptors 3 and 4.
        let child = Command::new("sh")
            .args(["-c", r#"i=$1; o=$2; shift 2; exec "$@" 3<"$i" 4>"$o""#, "sh"])
            .args([input.as_os_str(), output.as_os_str(), program.as_os_str()])
            .args(ARGUMENTS)
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = File::options().write(true).open(&input).unwrap();
        let from = listen(File::open(&output).unwrap());
        let mut browser = Self { child, to, from, session: None, last_id: 0, loads: 0, problems: Vec::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target, "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        browser
    }

    /// The size of the screen, in CSS pixels, and whether it is a dark one.
    pub fn screen(&mut self, width: u32, height: u32, dark: bool) {
        let mobile = width < 600;
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}),
        );
        let scheme = if dark { "dark" } else { "light" };
        self.call("Emulation.setEmulatedMedia", json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}));
    }

    pub fn scripts(&mut self, enabled: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({"value": !enabled}));
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) {
        self.loading(|browser| {
            let opened = browser.call("Page.navigate", json!({"url": url}));
            assert!(opened["errorText"].is_null(), "{url}: {opened}");
        });
    }

    /// Clicks the middle of the first element that a selector names.
    pub fn click(&mut self, selector: &str) {
        let place = self.evaluate(&format!(
            "(() => {{ const found = document.querySelector({selector:?}); found.scrollIntoView({{block: 'center'}});
              const r = found.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Clicks, and waits until the page that this leads to is loaded.
    pub fn follow(&mut self, selector: &str) {
        self.loading(|browser| browser.click(selector));
    }

    /// Presses a key.
    pub fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        let down = json!({"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code}));
    }

    /// The value of an expression.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({"expression": expression, "returnByValue": true}));
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait_until(&mut self, expression: &str) {
        let deadline = Instant::now() + ANSWER_WAIT;
        while self.evaluate(expression) != json!(true) {
            assert!(Instant::now() < deadline, "{expression} does not become true: {}", self.evaluate("document.body.innerText"));
            thread::sleep(POLL);
        }
    }

    /// Writes what is seen to a file, as PNG.
    pub fn screenshot(&mut self, file: &Path) {
        let taken = self.call("Page.captureScreenshot", json!({"format": "png", "optimizeForSpeed": false}));
        fs::write(file, base64(taken["data"].as_str().unwrap())).unwrap();
    }

    fn loading(&mut self, act: impl FnOnce(&mut Self)) {
        let before = self.loads;
        act(self);
        let deadline = Instant::now() + ANSWER_WAIT;
        while self.loads == before {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.from.recv_timeout(left).expect("the page loads");
            self.take(&event);
        }
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut answer = self.from.recv_timeout(left).unwrap_or_else(|error| panic!("{method}: {error}"));
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.take(&answer);
        }
    }

    fn take(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Page.loadEventFired") => self.loads += 1,
            Some("Runtime.exceptionThrown") => self.problems.push(params.to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => self.problems.push(params.to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => self.problems.push(params.to_string()),
            _ => {}
        }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Messages end with a zero byte. The thread ends with the browser.
fn listen(output: File) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for message in BufReader::new(output).split(0).map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice(&message) else { return };
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        (bits, held) = (bits << 6 | u32::from(six), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// The folder for screenshots, if somebody wants them: `MANTIS_SCREENSHOTS`.
pub fn screenshots() -> Option<PathBuf> {
    std::env::var_os("MANTIS_SCREENSHOTS").filter(|folder| folder != OsStr::new("")).map(PathBuf::from)
}
