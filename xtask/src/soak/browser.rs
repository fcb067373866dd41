//! A browser that is told what to do by WebDriver (W3C), as far as the soak needs it.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use roost_rig::{free_port, kill_all, need};
use serde_json::{Value, json};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium without a screen; dropping it ends it.
#[derive(Debug)]
pub(super) struct Browser {
    driver: Option<Child>,
    /// Where its session is.
    session: String,
}

impl Browser {
    pub(super) fn start() -> Result<Browser> {
        let port = free_port();
        let mut driver = Command::new(need("chromedriver", "chromium-driver"));
        driver.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut driver, 0);
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let mut browser =
            Browser { driver: Some(driver.spawn()?), session: format!("http://127.0.0.1:{port}/session") };
        let options = json!({ "args": args, "binary": need("chromium", "chromium") });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let begun = Instant::now();
        let session = loop {
            match browser.ask("", &wanted) {
                Ok(session) => break session,
                Err(error) => ensure!(begun.elapsed() < PATIENCE, "no browser: {error:#}"),
            }
            sleep(Duration::from_millis(100));
        };
        let id = session["sessionId"].as_str().context("no session")?;
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    pub(super) fn go(&self, url: &str) -> Result<()> {
        self.ask("/url", &json!({ "url": url })).map(drop)
    }

    /// What a script returns.
    pub(super) fn eval(&self, script: &str) -> Result<Value> {
        self.ask("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Bytes of the page's heap that are in use once garbage is collected.
    pub(super) fn heap(&self) -> Result<f64> {
        let cdp = |command: &str| self.ask("/goog/cdp/execute", &json!({ "cmd": command, "params": {} }));
        cdp("HeapProfiler.collectGarbage")?;
        cdp("HeapProfiler.collectGarbage")?;
        cdp("Runtime.getHeapUsage")?["usedSize"].as_f64().context("no heap")
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let sent = ureq::post(format!("{}{path}", self.session))
            .header("content-type", "application/json")
            .send(body.to_string());
        let mut answer: Value = serde_json::from_str(&sent?.body_mut().read_to_string()?)?;
        Ok(answer["value"].take())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.driver.take().into_iter().for_each(kill_all);
    }
}
