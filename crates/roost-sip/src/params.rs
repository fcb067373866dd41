//! `;name=value` parameters of header fields and URIs.

use crate::scan::{cut, find_unquoted, quoted_len, skip_lws, token_len, trim};

/// One parameter. `value` is `None` without `=`; a quoted value keeps its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// The name as sent; compare it without regard to case.
    pub name: &'a [u8],
    /// The value as sent, LWS trimmed.
    pub value: Option<&'a [u8]>,
}

/// Parameters that do not follow the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// Something else than `;` where a parameter should begin.
    #[error("junk where a parameter should begin")]
    Junk,
    /// A name that is not a token.
    #[error("a parameter without a name")]
    Name,
    /// A quoted value that does not end.
    #[error("a quoted parameter that does not end")]
    Quote,
}

/// The parameters of a header field: iterate, or [`get`](Params::get) one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Params<'a> {
    /// Over `;a=b;c`; LWS before each part is passed over.
    pub fn new(text: &'a [u8]) -> Self {
        Params { rest: text }
    }

    /// The first parameter of this name; its value is empty where there is no `=`.
    pub fn get(self, name: &[u8]) -> Option<&'a [u8]> {
        self.flatten()
            .find(|param| param.name.eq_ignore_ascii_case(name))
            .map(|param| param.value.unwrap_or(&[]))
    }

    /// Checks all of them.
    ///
    /// # Errors
    /// The first [`ParamError`].
    pub fn check(mut self) -> Result<(), ParamError> {
        self.try_for_each(|param| param.map(drop))
    }

    /// What has not been iterated yet.
    pub fn text(self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = Result<Param<'a>, ParamError>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = trim(self.rest);
        let (first, text) = text.split_first()?;
        if *first != b';' {
            self.rest = &[];
            return Some(Err(ParamError::Junk));
        }
        match param(text) {
            Ok((param, rest)) => {
                self.rest = rest;
                Some(Ok(param))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

fn param(text: &[u8]) -> Result<(Param<'_>, &[u8]), ParamError> {
    let text = skip_lws(text);
    let name_len = token_len(text);
    if name_len == 0 {
        return Err(ParamError::Name);
    }
    let (name, rest) = cut(text, name_len);
    let after = skip_lws(rest);
    let [b'=', after @ ..] = after else {
        return Ok((Param { name, value: None }, after));
    };
    let after = skip_lws(after);
    let value_len = if after.first() == Some(&b'"') {
        quoted_len(after).ok_or(ParamError::Quote)?
    } else {
        let end = find_unquoted(after, b';').map_err(|_| ParamError::Quote)?;
        end.unwrap_or(after.len())
    };
    let (value, rest) = cut(after, value_len);
    Ok((Param { name, value: Some(trim(value)) }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_in_all_spellings() {
        let params = Params::new(b" ; tag = 704c ;lr;expires=\"a;b\" ; q=0.5");
        assert_eq!(params.get(b"TAG"), Some(&b"704c"[..]));
        assert_eq!(params.get(b"lr"), Some(&b""[..]));
        assert_eq!(params.get(b"expires"), Some(&b"\"a;b\""[..]));
        assert_eq!(params.get(b"q"), Some(&b"0.5"[..]));
        assert_eq!(params.get(b"none"), None);
        assert_eq!(Params::new(b";a=x\"y;b=1\";b=2").get(b"b"), Some(&b"2"[..]));
        assert_eq!(params.check(), Ok(()));
    }

    #[test]
    fn errors_end_the_iteration() {
        assert_eq!(Params::new(b";a=\"x").check(), Err(ParamError::Quote));
        assert_eq!(Params::new(b";a=x\"y;z").check(), Err(ParamError::Quote));
        assert_eq!(Params::new(b";;").check(), Err(ParamError::Name));
        assert_eq!(Params::new(b"junk;a").check(), Err(ParamError::Junk));
        assert_eq!(Params::new(b"").check(), Ok(()));
    }
}
