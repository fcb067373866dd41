//! Secrets in messages: what proves a password is overwritten, so that who sees a trace can guess none. Lengths stay.

use std::ops::Range;

/// Overwrites credentials, values of Authorization or Proxy-Authorization that stand at `ranges`: of digest credentials the
/// response, of all others everything.
pub fn mask(ranges: &[Range<usize>], message: &mut [u8]) {
    for range in ranges {
        let Some(value) = message.get_mut(range.clone()) else { continue };
        let blanks = value.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let (_, value) = value.split_at_mut(blanks);
        let scheme = value.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let (name, rest) = value.split_at_mut(scheme);
        match name.eq_ignore_ascii_case(b"digest") {
            true => mask_responses(rest),
            false => rest.iter_mut().filter(|byte| !byte.is_ascii_whitespace()).for_each(|byte| *byte = b'*'),
        }
    }
}

/// Overwrites the value of each parameter `response`, wherever it stands: what a parser would take for none may still be one.
fn mask_responses(params: &mut [u8]) {
    const NAME: &[u8] = b"response";
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'r', b'R', params.get(at..).unwrap_or(&[])) {
        at += found;
        let is_it = params.get(at..at + NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME));
        if !is_it {
            at += 1;
            continue;
        }
        at += NAME.len();
        let value = params.get_mut(at..).unwrap_or(&mut []);
        let blanks = value.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if value.get(blanks) == Some(&b'=') {
            let text = value.get_mut(blanks + 1..).unwrap_or(&mut []);
            let end = memchr::memchr(b',', text).unwrap_or(text.len());
            let is_text = |byte: &&mut u8| !byte.is_ascii_whitespace() && **byte != b'"';
            text.iter_mut().take(end).filter(is_text).for_each(|byte| *byte = b'*');
        }
    }
}

#[cfg(test)]
mod tests {
    use roost_sip::Head;

    use super::*;
    use crate::found::Found;

    fn masked(header: &str) -> String {
        let mut message =
            format!("REGISTER sip:a SIP/2.0\r\n{header}\r\nX-Test: response=\"keep\"\r\n\r\n").into_bytes();
        let len = message.len();
        let mut head = Head::new();
        head.parse(&message).unwrap();
        let mut other = message.clone();
        mask(Found::by_head(&head).credentials().unwrap(), &mut message);
        mask(Found::by_lines(&other).credentials().unwrap(), &mut other);
        assert_eq!((message.len(), &other), (len, &message));
        let text = String::from_utf8(message).unwrap();
        assert!(text.contains("response=\"keep\""), "other headers stay");
        text.lines().nth(1).unwrap().to_string()
    }

    #[test]
    fn responses_are_overwritten_however_they_are_written() {
        for (written, shown) in [
            (
                "Authorization: Digest username=\"9001\", response=\"0123456789abcdef\", nonce=\"n\"",
                "Authorization: Digest username=\"9001\", response=\"****************\", nonce=\"n\"",
            ),
            (
                "Proxy-Authorization: DIGEST Response = abc,uri=\"u\"",
                "Proxy-Authorization: DIGEST Response = ***,uri=\"u\"",
            ),
            ("Authorization: Digest response=\"abc", "Authorization: Digest response=\"***"),
            ("Authorization: Digest response=1, response=2", "Authorization: Digest response=*, response=*"),
            ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ************"),
            ("authorization: Bearer token, more", "authorization: Bearer ****** ****"),
        ] {
            assert_eq!(masked(written), shown);
        }
    }
}
