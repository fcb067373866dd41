//! Conditions by themselves.

use std::borrow::Cow;

use super::*;

const SCHEMA: Schema = Schema {
    names: &[
        ("method", Kind::Text),
        ("from.user", Kind::Text),
        ("source", Kind::Text),
        ("port", Kind::Number),
        ("tls", Kind::Switch),
        ("none", Kind::Text),
    ],
    has_headers: true,
};

struct Call;

impl Values for Call {
    fn value(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Text(Cow::Borrowed(b"INVITE")),
            1 => Value::Text(Cow::Borrowed(b"8001")),
            2 => Value::Text(Cow::Borrowed(b"10.1.2.3")),
            3 => Value::Number(5060),
            4 => Value::Switch(true),
            _ => Value::Missing,
        }
    }

    fn header(&self, name: &str) -> Value<'_> {
        match name {
            "X-Tenant" => Value::Text(Cow::Borrowed(b"acme")),
            _ => Value::Missing,
        }
    }
}

#[test]
fn what_holds() {
    for (text, expected) in [
        (r#"method == "INVITE" && from.user.startsWith("8") && inNetwork(source, "10.0.0.0/8")"#, true),
        (r#"method == 'MESSAGE' || !(from.user in ["1", "2"])"#, true),
        (r#"from.user in ["8000", "8001"]"#, true),
        (r#"inNetwork(source, "192.168.0.0/16") || inNetwork(source, "10.1.2.3")"#, true),
        (r#"port > 5059 && port <= 5060 && port != 1 && -1 < port"#, true),
        ("tls", true),
        ("!tls || false", false),
        (r#"header("X-Tenant") == "acme" && header("X-Other") != "acme""#, true),
        (r#"header("X-Other") == """#, false),
        (r#"none == "" || none < "z""#, false),
        ("has(from.user) && size(from.user) == 4", true),
        (r#"from.user.matches("^8[0-9]{3}$") && from.user.endsWith("1") && from.user.contains("00")"#, true),
        (r#"from.user.matches('^9')"#, false),
        (r#""b" > "a" && 'é' == "\u00e9""#, true),
        ("true\n  && // why\n  tls == true", true),
    ] {
        let filter = Filter::compile(text, &SCHEMA).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(filter.holds(&Call), expected, "{text}");
        assert_eq!(filter.text(), text);
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, expected) in [
        ("", "line 1, column 1: mismatched input the end"),
        ("method == \n  && tls", "line 2, column 3: extraneous input '&&'"),
        ("methd == 'a'", "line 1, column 1: there is no `methd`; there are method, from.user, "),
        ("tls &&\n from.usr == 'a'", "line 2, column 6: there is no `from.usr`"),
        ("method", "line 1, column 1: this is a text, and neither true nor false"),
        ("port == '1'", "column 6: a number is compared with a text"),
        ("port.startsWith('1')", "column 1: this is a number, not a text"),
        ("method && tls", "column 1: this is a text, not true or false"),
        ("from.user in from.user", "a list stands behind `in`"),
        ("from.user in ['1', 2]", "column 20: this is a number, not a text"),
        ("inNetwork(source, '10.0.0.0/33')", "column 19: \"10.0.0.0/33\" is no network"),
        ("from.user.matches('[')", "column 19: this is no regular expression: unclosed character class"),
        ("port + 1 == 2", "column 6: there is no `+` with these arguments"),
        ("[1, 2].all(x, x > 0)", "this is not there"),
        ("1.5 == 1.5", "values are texts, whole numbers"),
        ("header(method) == 'a'", "column 8: header(\"NAME\") takes"),
        ("method.foo()", "there is no `foo`"),
    ] {
        let error = Filter::compile(text, &SCHEMA).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let deep = format!("{}tls{}", "(".repeat(200), ")".repeat(200));
    assert!(Filter::compile(&deep, &SCHEMA).unwrap_err().message.contains("stand in one another"));
    let long = format!("tls{}", " && tls".repeat(1_000));
    assert!(Filter::compile(&long, &SCHEMA).unwrap_err().message.contains("4096 bytes"));
    let signs = format!("{}tls", "! ".repeat(100));
    assert!(Filter::compile(&signs, &SCHEMA).unwrap_err().message.contains("stand in one another"));
    let many = format!("method != '{}'", "a-b".repeat(300));
    assert!(Filter::compile(&many, &SCHEMA).is_ok());
    let chain = format!("tls{}", " && tls".repeat(500));
    assert!(Filter::compile(&chain, &SCHEMA).is_ok_and(|filter| filter.holds(&Call)));
}

/// Pieces in any order: nothing that is typed ends the process.
#[test]
fn no_text_is_too_odd() {
    const PIECES: &[&str] = &[
        "method",
        "from.user",
        ".",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "==",
        "&&",
        "||",
        "!",
        "-",
        "'",
        "\"",
        "\\",
        "1",
        "0x",
        "r'",
        "b\"",
        "in",
        "?",
        ":",
        ",",
        "header",
        "size",
        "has",
        "é",
        "\u{0}",
        "\n",
        "//",
        "true",
        "startsWith",
        "inNetwork",
        "1e9",
        "`",
    ];
    let mut state = 7_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..3_000 {
        let text: String = (0..1 + next(12)).map(|_| PIECES[next(PIECES.len())]).collect();
        if let Ok(filter) = Filter::compile(&text, &SCHEMA) {
            filter.holds(&Call);
        }
    }
}
