//! What arrives: `:REPLY:{JSON}`, or `:COMMAND:REPLY` with a parameter on each line and an empty line behind them.

use serde_json::{Value, json};

use crate::rpc::{Call, RpcError};

/// How it is written, and so answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Text,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) form: Form,
    /// Where the answer goes; empty: nowhere.
    pub(crate) reply: String,
    pub(crate) call: Result<Call, Box<(Value, RpcError)>>,
}

/// What the bytes so far are.
#[derive(Debug)]
pub(crate) enum Progress {
    /// A request of so many bytes.
    Whole(Request, usize),
    /// So many bytes are none, and are passed over.
    Skip(usize),
    /// More must come.
    Part,
}

/// Reads the first request; `is_all`: nothing follows these bytes.
pub(crate) fn read(bytes: &[u8], is_all: bool) -> Progress {
    let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    if blank > 0 {
        return Progress::Skip(blank);
    }
    match bytes.first() {
        None => return Progress::Part,
        // A datagram of JSON has nothing before it.
        Some(b'{' | b'[') => return read_json(bytes, "", 0, is_all),
        Some(b':') => {}
        Some(_) => {
            let line = bytes.iter().position(|byte| *byte == b'\n');
            return match (line, is_all) {
                (Some(end), _) => Progress::Skip(end + 1),
                (None, true) => Progress::Skip(bytes.len()),
                (None, false) => Progress::Part,
            };
        }
    }
    let Some(second) = bytes.iter().skip(1).position(|byte| *byte == b':').map(|at| at + 1) else {
        return if is_all { Progress::Skip(bytes.len()) } else { Progress::Part };
    };
    let name = String::from_utf8_lossy(bytes.get(1..second).unwrap_or(&[])).into_owned();
    let rest = bytes.get(second + 1..).unwrap_or(&[]);
    match rest.first() {
        None if !is_all => Progress::Part,
        Some(b'{' | b'[') => read_json(rest, &name, second + 1, is_all),
        _ => read_text(rest, &name, second + 1, is_all),
    }
}

fn read_json(rest: &[u8], reply: &str, before: usize, is_all: bool) -> Progress {
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<serde::de::IgnoredAny>();
    let len = match values.next() {
        Some(Ok(_)) => values.byte_offset(),
        Some(Err(error)) if error.is_eof() && !is_all => return Progress::Part,
        // What is wrong goes up to the end of its line.
        _ => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
    };
    let call = Call::parse(rest.get(..len).unwrap_or(rest));
    let request = Request { form: Form::Json, reply: reply.to_string(), call };
    Progress::Whole(request, before + len)
}

fn read_text(rest: &[u8], command: &str, before: usize, is_all: bool) -> Progress {
    let Some(first) = rest.iter().position(|byte| *byte == b'\n') else {
        return match is_all {
            true => whole_text(command, rest, &[], before + rest.len()),
            false => Progress::Part,
        };
    };
    let (reply, params) = (rest.get(..first).unwrap_or(&[]), rest.get(first + 1..).unwrap_or(&[]));
    let end = match params.first() {
        Some(b'\n') => Some(0),
        _ => params.windows(2).position(|two| two == b"\n\n").map(|at| at + 1),
    };
    match end {
        Some(end) => {
            let own = params.get(..end).unwrap_or(&[]);
            whole_text(command, reply, own, before + first + 1 + end + 1)
        }
        None if is_all => whole_text(command, reply, params, before + rest.len()),
        None => Progress::Part,
    }
}

fn whole_text(command: &str, reply: &[u8], params: &[u8], len: usize) -> Progress {
    let lines = params.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned());
    let lines: Vec<String> = lines.map(|line| unquoted(line.trim_end_matches('\r'))).collect();
    let given = match lines.split_last() {
        Some((last, others)) if last.is_empty() => others,
        _ => &lines,
    };
    let call =
        Call { id: Some(Value::Null), method: command.to_string(), params: positional(command, given) };
    let reply = String::from_utf8_lossy(reply).trim().to_string();
    Progress::Whole(Request { form: Form::Text, reply, call: Ok(call) }, len)
}

fn unquoted(line: &str) -> String {
    let inner = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(line).to_string()
}

/// The parameters of 2.4, where they are others than 3.x's of that command.
fn positional(command: &str, given: &[String]) -> Value {
    match (command, given) {
        ("get_statistics" | "list_statistics" | "reset_statistics", [_, ..]) => json!([given]),
        ("ul_dump", [brief]) if brief == "brief" => json!([1]),
        ("ds_list", [full]) if full == "full" => json!([1]),
        // Its sixth was never used.
        ("ul_add", [table, aor, contact, expires, q, _, flags, cflags, methods]) => {
            json!([table, aor, contact, expires, q, flags, cflags, methods])
        }
        _ => json!(given),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], is_all: bool) -> (Request, usize) {
        match read(bytes, is_all) {
            Progress::Whole(request, len) => (request, len),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn json_ends_where_it_ends_and_text_with_an_empty_line() {
        let json = br#":reply_1:{"jsonrpc":"2.0","id":"7","method":"ul_dump","params":{}}"#;
        let (request, len) = whole(json, false);
        assert_eq!((request.form, request.reply.as_str(), len), (Form::Json, "reply_1", json.len()));
        assert_eq!(request.call.unwrap().method, "ul_dump");
        let (request, _) = whole(&json[9..], true);
        assert_eq!((request.reply.as_str(), request.call.unwrap().method.as_str()), ("", "ul_dump"));
        for cut in 0..json.len() {
            assert!(matches!(read(&json[..cut], false), Progress::Part), "{cut}");
        }
        let text = b":ul_show_contact:osips_rply\nlocation\n9001@127.0.0.1\n\n:uptime:r\n\n";
        let (request, len) = whole(text, false);
        let call = request.call.unwrap();
        assert_eq!((request.form, request.reply.as_str()), (Form::Text, "osips_rply"));
        assert_eq!(
            (call.method.as_str(), call.params),
            ("ul_show_contact", json!(["location", "9001@127.0.0.1"]))
        );
        let (request, end) = whole(&text[len..], false);
        let call = request.call.unwrap();
        assert_eq!((call.method.as_str(), call.params, len + end), ("uptime", json!([]), text.len()));
        for cut in 1..len {
            assert!(matches!(read(&text[..cut], false), Progress::Part), "{cut}");
        }
    }

    #[test]
    fn parameters_of_2_4_are_those_of_3() {
        for (text, expected) in [
            (":get_statistics:r\ntm:\ncore:\n\n", json!([["tm:", "core:"]])),
            (":ul_dump:r\nbrief\n\n", json!([1])),
            (
                ":ul_add:r\nlocation\n9001\n\"sip:9001@a\"\n60\n1.0\n0\n0\n0\n0\n\n",
                json!(["location", "9001", "sip:9001@a", "60", "1.0", "0", "0", "0"]),
            ),
            (":which:\n\n", json!([])),
        ] {
            assert_eq!(whole(text.as_bytes(), false).0.call.unwrap().params, expected, "{text}");
        }
    }

    #[test]
    fn garbage_is_passed_over_up_to_its_line() {
        assert!(matches!(read(b"\n\n:a", false), Progress::Skip(2)));
        assert!(matches!(read(b"garbage\n:a", false), Progress::Skip(8)));
        assert!(matches!(read(b"garbage", false), Progress::Part));
        assert!(matches!(read(b":", true), Progress::Skip(1)));
        let (request, len) = whole(b":r:{\"jsonrpc\": nonsense}\n:a", false);
        assert_eq!((request.call.unwrap_err().1.code, len), (-32700, 24));
    }
}
