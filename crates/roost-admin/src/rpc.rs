//! JSON-RPC 2.0 as OpenSIPS speaks it: calls, errors, parameters.

use serde_json::{Value, json};

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// `None` for a notification.
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// An error with OpenSIPS's codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<String>,
}

impl RpcError {
    pub(crate) fn new(code: i64, message: &str) -> RpcError {
        RpcError { code, message: message.to_string(), data: None }
    }

    /// The same, with why.
    pub(crate) fn because(self, why: impl Into<String>) -> RpcError {
        RpcError { data: Some(why.into()), ..self }
    }

    pub(crate) fn invalid_params(data: impl Into<String>) -> RpcError {
        RpcError::new(-32602, "Invalid params").because(data)
    }

    pub(crate) fn bad_value(why: impl Into<String>) -> RpcError {
        RpcError::new(400, "Bad parameter value").because(why)
    }

    /// In one line.
    pub(crate) fn for_people(self) -> String {
        match self.data {
            Some(data) => format!("{}: {data}", self.message),
            None => self.message,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = json!(data);
        }
        error
    }
}

impl Call {
    /// Reads a call; an error comes with the id to answer under.
    pub(crate) fn parse(body: &[u8]) -> Result<Call, Box<(Value, RpcError)>> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|_| Box::new((Value::Null, RpcError::new(-32700, "Parse error"))))?;
        let id = value.get("id").cloned();
        let invalid = |data: &str| {
            let error = RpcError::new(-32600, "Invalid Request").because(data);
            Box::new((id.clone().unwrap_or(Value::Null), error))
        };
        if value.get("jsonrpc") != Some(&json!("2.0")) {
            return Err(invalid("jsonrpc must be \"2.0\""));
        }
        if !matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_))) {
            return Err(Box::new((Value::Null, RpcError::new(-32600, "Invalid Request"))));
        }
        let method =
            value.get("method").and_then(Value::as_str).ok_or_else(|| invalid("no method"))?.to_string();
        let params = value.get("params").cloned().unwrap_or(Value::Null);
        if !matches!(params, Value::Null | Value::Array(_) | Value::Object(_)) {
            return Err(invalid("params must be an object or an array"));
        }
        Ok(Call { id, method, params })
    }
}

/// Parameters matched with the names that a command takes.
#[derive(Debug)]
pub(crate) struct Params<'a> {
    names: &'static [&'static str],
    values: Vec<Option<&'a Value>>,
}

impl<'a> Params<'a> {
    /// By name or by position; an unknown name or too many values are errors.
    pub(crate) fn new(params: &'a Value, names: &'static [&'static str]) -> Result<Params<'a>, RpcError> {
        let mut values = vec![None; names.len()];
        match params {
            Value::Array(list) => {
                if list.len() > names.len() {
                    return Err(RpcError::invalid_params(format!("takes: {}", names.join(", "))));
                }
                for (slot, value) in values.iter_mut().zip(list) {
                    *slot = Some(value);
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    let slot = names.iter().position(|known| known == name).and_then(|at| values.get_mut(at));
                    let unknown = || {
                        RpcError::invalid_params(format!(
                            "no parameter '{name}'; takes: {}",
                            names.join(", ")
                        ))
                    };
                    *slot.ok_or_else(unknown)? = Some(value);
                }
            }
            _ => {}
        }
        Ok(Params { names, values })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.values.get(at).copied().flatten()
    }

    pub(crate) fn text(&self, name: &str) -> Result<String, RpcError> {
        match self.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(_) => Err(RpcError::invalid_params(format!("'{name}' must be a string"))),
            None => Err(RpcError::invalid_params(format!("'{name}' is missing"))),
        }
    }

    /// The same, where it may be left out.
    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<String>, RpcError> {
        self.get(name).map(|_| self.text(name)).transpose()
    }

    /// The same, where an empty one is as good as none.
    pub(crate) fn filled_text(&self, name: &str) -> Result<Option<String>, RpcError> {
        Ok(self.optional_text(name)?.filter(|text| !text.is_empty()))
    }

    /// An integer, or a string of digits as the command line sends it.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, RpcError> {
        let wrong = || RpcError::invalid_params(format!("'{name}' must be an integer"));
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| wrong()),
            Some(value) => value.as_i64().map(Some).ok_or_else(wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_their_errors() {
        let call =
            Call::parse(br#"{"jsonrpc": "2.0", "id": "18515", "method": "ul_dump", "params": {}}"#).unwrap();
        assert_eq!((call.id, call.method.as_str()), (Some(json!("18515")), "ul_dump"));
        let code = |body: &str| Call::parse(body.as_bytes()).unwrap_err().1.code;
        assert_eq!(code("{"), -32700);
        assert_eq!(code("[]"), -32600);
        assert_eq!(code(r#"{"jsonrpc":"1.0","method":"x"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"x","params":5}"#), -32600);
        assert!(Call::parse(br#"{"jsonrpc":"2.0","method":"x"}"#).unwrap().id.is_none());
    }

    #[test]
    fn parameters_by_name_and_by_position() {
        const NAMES: &[&str] = &["table_name", "aor", "expires"];
        let value = json!({ "aor": "9001", "expires": "60" });
        let params = Params::new(&value, NAMES).unwrap();
        assert_eq!(params.text("aor").unwrap(), "9001");
        assert_eq!(params.number("expires").unwrap(), Some(60));
        assert!(params.text("table_name").is_err());
        let value = json!(["location", 9001, 60]);
        let params = Params::new(&value, NAMES).unwrap();
        assert_eq!(
            (params.text("aor").unwrap(), params.number("expires").unwrap()),
            ("9001".into(), Some(60))
        );
        assert!(Params::new(&json!({ "other": 1 }), NAMES).is_err());
        assert!(Params::new(&json!([1, 2, 3, 4]), NAMES).is_err());
        assert!(Params::new(&json!(["location", "a", "soon"]), NAMES).unwrap().number("expires").is_err());
    }
}
