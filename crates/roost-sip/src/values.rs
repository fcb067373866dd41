//! Small values: numbers, CSeq, q.

use crate::method::Method;
use crate::scan::{is_lws, trim};

/// A value that does not follow its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not digits where digits belong.
    #[error("not a number")]
    Number,
    /// CSeq above 2^31-1 (RFC 3261 8.1.1.5).
    #[error("CSeq number too large")]
    CSeqRange,
    /// CSeq without a method.
    #[error("CSeq without a method")]
    CSeqMethod,
    /// A qvalue outside 0 to 1.
    #[error("q is not between 0 and 1")]
    Q,
}

/// A decimal number; one that is too large is `u32::MAX`.
///
/// # Errors
/// [`ValueError::Number`] when it is empty or holds anything but digits.
pub fn number(value: &[u8]) -> Result<u32, ValueError> {
    let value = trim(value);
    if value.is_empty() {
        return Err(ValueError::Number);
    }
    value.iter().try_fold(0u32, |sum, byte| match byte {
        b'0'..=b'9' => Ok(sum.saturating_mul(10).saturating_add(u32::from(byte - b'0'))),
        _ => Err(ValueError::Number),
    })
}

/// `delta-seconds` (RFC 3261 25.1), in seconds, saturating.
///
/// # Errors
/// [`ValueError::Number`].
pub fn delta_seconds(value: &[u8]) -> Result<u32, ValueError> {
    number(value)
}

/// A CSeq value (RFC 3261 20.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The sequence number, at most 2^31-1.
    pub number: u32,
    /// The method's text.
    pub method: &'a [u8],
}

/// Parses a CSeq value.
///
/// # Errors
/// [`ValueError`] for a missing or too large number, or no method.
pub fn cseq(value: &[u8]) -> Result<CSeq<'_>, ValueError> {
    let value = trim(value);
    let digits = value.iter().position(|byte| is_lws(*byte)).ok_or(ValueError::CSeqMethod)?;
    let (number_text, method) = value.split_at_checked(digits).ok_or(ValueError::CSeqMethod)?;
    let sequence = number(number_text)?;
    if sequence > i32::MAX as u32 {
        return Err(ValueError::CSeqRange);
    }
    Ok(CSeq { number: sequence, method: trim(method) })
}

impl CSeq<'_> {
    /// The method's kind.
    pub fn method(&self) -> Method {
        Method::parse(self.method)
    }
}

/// A contact's priority in thousandths, 0 to 1000.
pub type Q = u16;

/// A qvalue (RFC 3261 25.1), kept to three digits as OpenSIPS does.
///
/// # Errors
/// [`ValueError::Q`] for anything but a number from 0 to 1.
pub fn q_value(value: &[u8]) -> Result<Q, ValueError> {
    let value = trim(value);
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(dot) => (value.get(..dot).unwrap_or(&[]), value.get(dot + 1..).unwrap_or(&[])),
        None => (value, &[][..]),
    };
    if !fraction.iter().chain(whole).all(u8::is_ascii_digit) || value.is_empty() || value == b"." {
        return Err(ValueError::Q);
    }
    let whole = if whole.is_empty() { 0 } else { number(whole)? };
    let digit = |index: usize| fraction.get(index).map_or(0, |byte| u16::from(byte - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match whole {
        0 => Ok(thousandths),
        1 if fraction.iter().all(|byte| *byte == b'0') => Ok(1000),
        _ => Err(ValueError::Q),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_saturate_and_refuse_text() {
        assert_eq!(number(b" 20 "), Ok(20));
        assert_eq!(number(b"4294967296"), Ok(u32::MAX));
        assert_eq!(number(b"99999999999999999999"), Ok(u32::MAX));
        for bad in [&b""[..], b"abc", b"-1", b"1.5", b"1 2"] {
            assert_eq!(number(bad), Err(ValueError::Number));
        }
    }

    #[test]
    fn cseq_in_all_spellings() {
        let value = cseq(b" 2\t  REGISTER ").unwrap();
        assert_eq!((value.number, value.method()), (2, Method::Register));
        assert_eq!(cseq(b"1\r\n INVITE").unwrap().method, b"INVITE");
        assert_eq!(cseq(b"2147483647 ACK").unwrap().number, i32::MAX as u32);
        assert_eq!(cseq(b"2147483648 ACK"), Err(ValueError::CSeqRange));
        assert_eq!(cseq(b"36893488147419103232 REGISTER"), Err(ValueError::CSeqRange));
        assert_eq!(cseq(b"5"), Err(ValueError::CSeqMethod));
        assert_eq!(cseq(b"x INVITE"), Err(ValueError::Number));
    }

    #[test]
    fn q_to_three_digits() {
        for (text, q) in
            [("1", 1000), ("1.0", 1000), ("0.5", 500), ("0.1234", 123), (".7", 700), ("0", 0), ("0.", 0)]
        {
            assert_eq!(q_value(text.as_bytes()), Ok(q), "{text}");
        }
        for bad in ["2", "1.001", "-0.5", "", ".", "abc", "0.5x"] {
            assert_eq!(q_value(bad.as_bytes()), Err(ValueError::Q), "{bad}");
        }
    }
}
