//! `roost mcp`: the commands that only read, as tools of the Model Context Protocol over standard input and output, so that an
//! assistant can diagnose. Each tool is a command of the command line with `--json`; none changes anything.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::{ServerHandler, ServiceExt as _, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;

/// What the assistant is told first.
const INSTRUCTIONS: &str = "roost is a SIP registrar and proxy. Ask `why` first: with an extension it says in one sentence why it is \
                            offline, or that all is right, and what to do; with two extensions, or a Call-ID, why a call ended as it did; \
                            without arguments what is wrong now. `explain` says what a reason means. No tool changes anything: name the \
                            command that an operator should run.";

/// Serves until standard input ends.
///
/// # Errors
/// The program does not find itself, or standard input and output cannot be used.
pub(crate) fn run(file: Option<&Path>) -> Result<()> {
    let program = std::env::current_exe().context("looking for this program")?;
    let tools = Tools { program, file: file.map(Path::to_path_buf), tool_router: Tools::tool_router() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let service = tools.serve(rmcp::transport::stdio()).await.context("speaking MCP")?;
        service.waiting().await.context("speaking MCP")?;
        Ok(())
    })
}

/// The tools.
#[derive(Debug, Clone)]
struct Tools {
    program: PathBuf,
    file: Option<PathBuf>,
    tool_router: ToolRouter<Tools>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Why {
    /// The extension: 9001, or 9001@domain with use_domain. Without it: what is wrong now.
    extension: Option<String>,
    /// The other side of a call: why the last one between the two ended as it did.
    other: Option<String>,
    /// A Call-ID: why this call ended as it did.
    call_id: Option<String>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct Explain {
    /// A code such as R207 or a word such as wrong-password; without it all are listed.
    reason: Option<String>,
}

#[derive(Debug, Deserialize, schemars::JsonSchema)]
struct UlShow {
    /// The AOR: 9001, or 9001@domain with use_domain; without it all are listed.
    aor: Option<String>,
}

#[tool_router(router = tool_router)]
impl Tools {
    /// Why an extension is offline, why a call failed, what is wrong now.
    #[tool(annotations(read_only_hint = true))]
    async fn why(&self, Parameters(asked): Parameters<Why>) -> Result<String, String> {
        let Why { extension, other, call_id } = asked;
        match call_id {
            Some(call_id) => self.run("why", &[format!("--call={call_id}")], &[]).await,
            None => self.run("why", &[], &extension.into_iter().chain(other).collect::<Vec<_>>()).await,
        }
    }

    /// What a reason means and what to do about it.
    #[tool(annotations(read_only_hint = true))]
    async fn explain(&self, Parameters(asked): Parameters<Explain>) -> Result<String, String> {
        self.run("explain", &[], &asked.reason.into_iter().collect::<Vec<_>>()).await
    }

    /// The bindings of an extension, or of all.
    #[tool(annotations(read_only_hint = true))]
    async fn ul_show(&self, Parameters(asked): Parameters<UlShow>) -> Result<String, String> {
        self.run("ul", &["show".to_string()], &asked.aor.into_iter().collect::<Vec<_>>()).await
    }

    /// The calls in progress.
    #[tool(annotations(read_only_hint = true))]
    async fn calls(&self) -> Result<String, String> {
        self.run("calls", &[], &[]).await
    }

    /// Whether the configuration file is right, and which line is not.
    #[tool(annotations(read_only_hint = true))]
    async fn config_check(&self) -> Result<String, String> {
        self.run("config", &["check".to_string()], &[]).await
    }

    /// What is wrong, or will be, with the machine, the configuration and the running server.
    #[tool(annotations(read_only_hint = true))]
    async fn doctor(&self) -> Result<String, String> {
        self.run("doctor", &[], &[]).await
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("roost", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }
}

impl Tools {
    /// What a command prints; an error where it prints nothing but one. What stands behind `--` is never an option.
    async fn run(&self, name: &str, options: &[String], values: &[String]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        command.arg("--json");
        if let Some(file) = &self.file {
            command.arg("--config").arg(file);
        }
        command.arg(name).args(options).arg("--").args(values).stdin(std::process::Stdio::null());
        let ran = tokio::task::spawn_blocking(move || command.output()).await;
        let output = ran.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
        match text(&output.stdout) {
            said if said.is_empty() => Err(text(&output.stderr)),
            said => Ok(said),
        }
    }
}
