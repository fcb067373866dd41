//! MI as its clients speak it: JSON-RPC 2.0 in an HTTP/1.1 POST, one connection per request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use super::PATIENCE;

pub struct HttpReply {
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl HttpReply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

/// Calls a method; `Value::Null` sends no params. The error is its code and message.
pub fn call(mi: SocketAddr, method: &str, params: Value) -> Result<Value, (i64, String)> {
    let mut request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
    if !params.is_null() {
        request["params"] = params;
    }
    let reply = post(mi, &request.to_string());
    assert_eq!(reply.status, 200, "{method}: {}", reply.body);
    let reply = reply.json();
    assert_eq!(reply["jsonrpc"], "2.0", "{reply}");
    assert_eq!(reply["id"], 1, "{reply}");
    match reply.get("error") {
        None => Ok(reply["result"].clone()),
        Some(error) => {
            let code = error["code"].as_i64().expect("a code");
            Err((code, error["message"].as_str().expect("a message").to_owned()))
        }
    }
}

/// A POST to /mi as a well-behaved client sends it.
pub fn post(mi: SocketAddr, body: &str) -> HttpReply {
    http(mi, "POST /mi", &[&format!("Host: {mi}"), "Content-Type: application/json"], body)
}

/// Any HTTP request; `start` is method and path.
pub fn http(mi: SocketAddr, start: &str, headers: &[&str], body: &str) -> HttpReply {
    let mut stream = TcpStream::connect(mi).expect("a connection to MI");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut request = format!("{start} HTTP/1.1\r\n");
    for line in headers {
        request.push_str(&format!("{line}\r\n"));
    }
    request.push_str(&format!("Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(request.as_bytes()).expect("a request sent");
    let mut reply = Vec::new();
    // A server that refuses early may reset the connection after its answer.
    let _ = stream.read_to_end(&mut reply);
    parse(&reply)
}

fn parse(reply: &[u8]) -> HttpReply {
    let text = String::from_utf8_lossy(reply);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not HTTP: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { without_chunks(body) } else { body.to_owned() };
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
    let headers = head.lines().filter_map(header).collect();
    HttpReply { status: status.unwrap_or_else(|| panic!("no status: {head}")), headers, body }
}

/// RFC 9112 7.1, for ASCII bodies.
fn without_chunks(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size =
            usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16).expect("a chunk size");
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
