//! A browser that a test looks at and clicks in: Chromium without a screen, told by WebDriver.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::{free_port, need};

/// Long enough for a browser to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The browser with one window for each name; dropping it ends it.
pub struct Driver {
    runtime: Runtime,
    client: Client,
    process: Child,
}

impl Driver {
    /// Starts it with a window of this size.
    pub fn start(width: u32, height: u32) -> Driver {
        let port = free_port();
        let process = Command::new(need("chromedriver", "chromium-driver"))
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--mute-audio",
            "--ignore-certificate-errors",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
        ];
        let options = json!({ "args": args, "binary": need("chromium", "chromium") });
        let mut capabilities = serde_json::Map::new();
        capabilities.insert("goog:chromeOptions".to_string(), options);
        let start = Instant::now();
        let client = loop {
            let mut builder = ClientBuilder::new(hyper_util_connector());
            builder.capabilities(capabilities.clone());
            match runtime.block_on(builder.connect(&format!("http://127.0.0.1:{port}"))) {
                Ok(client) => break client,
                Err(error) if start.elapsed() > PATIENCE => panic!("no browser: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        runtime.block_on(client.set_window_size(width, height)).expect("a size");
        Driver { runtime, client, process }
    }

    pub fn go(&self, url: &str) {
        self.runtime.block_on(self.client.goto(url)).unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    /// What a script returns.
    pub fn eval(&self, script: &str) -> Value {
        let done = self.runtime.block_on(self.client.execute(script, Vec::new()));
        done.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// What a script gives to `done`.
    pub fn eval_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        let done = self.runtime.block_on(self.client.execute_async(&script, Vec::new()));
        done.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// All text of the page's content.
    pub fn text(&self) -> String {
        self.eval("return document.querySelector('main')?.innerText ?? document.body?.innerText ?? ''")
            .as_str()
            .unwrap_or_default()
            .to_string()
    }

    /// Waits until the content has this text.
    pub fn wait_text(&self, wanted: &str) {
        let start = Instant::now();
        while !self.text().contains(wanted) {
            assert!(start.elapsed() < PATIENCE, "no \"{wanted}\" in {}", self.text());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a script returns true.
    pub fn wait(&self, script: &str) {
        let start = Instant::now();
        while self.eval(&format!("return !!({script})")) != true {
            assert!(start.elapsed() < PATIENCE, "never: {script}; {}", self.text());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn fill(&self, css: &str, text: &str) {
        self.runtime.block_on(async {
            let field =
                self.client.find(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"));
            field.clear().await.expect("cleared");
            field.send_keys(text).await.expect("typed");
        });
    }

    pub fn click(&self, css: &str) {
        self.runtime.block_on(async {
            let found =
                self.client.find(Locator::Css(css)).await.unwrap_or_else(|error| panic!("{css}: {error}"));
            found.click().await.unwrap_or_else(|error| panic!("{css}: {error}"));
        });
    }

    /// Says yes to the question that stands before the page.
    pub fn accept(&self) {
        self.runtime.block_on(self.client.accept_alert()).expect("a question");
    }

    /// Keys as a person types them.
    pub fn keys(&self, text: &str) {
        self.runtime.block_on(async {
            let at = self.client.active_element().await.expect("the focus");
            at.send_keys(text).await.expect("typed");
        });
    }

    /// Another tab, which is looked at from here on; what `tab` takes to come back.
    pub fn new_tab(&self) -> fantoccini::wd::WindowHandle {
        self.runtime.block_on(async {
            let new = self.client.new_window(true).await.expect("a tab");
            self.client.switch_to_window(new.handle.clone()).await.expect("the tab");
            new.handle
        })
    }

    pub fn tab(&self) -> fantoccini::wd::WindowHandle {
        self.runtime.block_on(self.client.window()).expect("a tab")
    }

    pub fn switch(&self, tab: &fantoccini::wd::WindowHandle) {
        self.runtime.block_on(self.client.switch_to_window(tab.clone())).expect("the tab");
    }

    pub fn resize(&self, width: u32, height: u32) {
        self.runtime.block_on(self.client.set_window_size(width, height)).expect("a size");
    }

    /// Keeps a picture of the page below target/console.
    pub fn picture(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/console");
        std::fs::create_dir_all(&folder).expect("a folder");
        let png = self.runtime.block_on(self.client.screenshot()).expect("a picture");
        std::fs::write(folder.join(format!("{name}.png")), png).expect("a file");
    }
}

fn hyper_util_connector() -> hyper_util::client::legacy::connect::HttpConnector {
    hyper_util::client::legacy::connect::HttpConnector::new()
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.client.clone().close());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
