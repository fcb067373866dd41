//! Message templates: parsed once, then filled by copying, without a formatter and without allocating.

use std::ops::Range;

/// The number space of one transaction or dialog of ours; found again in what comes back.
///
/// On the wire it has always [`Id::LEN`] bytes: a letter and three numbers in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    /// What kind of request it belongs to.
    pub(crate) kind: u8,
    /// The place in the scenario's table.
    pub(crate) slot: u32,
    /// How often that place has been used.
    pub(crate) generation: u32,
    /// The run: answers to an earlier one are not ours.
    pub(crate) run: u32,
}

impl Id {
    /// Bytes of an id on the wire.
    pub(crate) const LEN: usize = 25;

    pub(crate) fn push(self, out: &mut Vec<u8>) {
        out.push(self.kind);
        for number in [self.slot, self.generation, self.run] {
            out.extend_from_slice(&hex8(number));
        }
    }

    /// Reads an id from the start of `text`.
    pub(crate) fn parse(text: &[u8]) -> Option<Id> {
        let (kind, numbers) = text.get(..Id::LEN)?.split_first()?;
        let number = |index: usize| parse_hex(&numbers[index * 8..index * 8 + 8]);
        Some(Id { kind: *kind, slot: number(0)?, generation: number(1)?, run: number(2)? })
    }
}

/// What a template's fields stand for in one message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    /// `{user}`: who sends it.
    pub(crate) user: &'a [u8],
    /// `{domain}`: the sender's.
    pub(crate) domain: &'a [u8],
    /// `{peer}`: the user it is for.
    pub(crate) peer: &'a [u8],
    /// `{peer_domain}`.
    pub(crate) peer_domain: &'a [u8],
    /// `{port}`: the sender's own.
    pub(crate) port: u16,
    /// `{branch}`: the transaction.
    pub(crate) transaction: Id,
    /// `{dialog}`: the dialog, or the registration.
    pub(crate) dialog: Id,
    /// `{cseq}`.
    pub(crate) cseq: u32,
    /// `{credentials}`: a whole header line, or nothing.
    pub(crate) credentials: &'a [u8],
}

/// A message with holes.
#[derive(Debug)]
pub(crate) struct Template {
    text: Vec<u8>,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Range<usize>),
    Field(Field),
}

#[derive(Debug, Clone, Copy)]
enum Field {
    User,
    Domain,
    Peer,
    PeerDomain,
    Port,
    Branch,
    Dialog,
    CSeq,
    Credentials,
}

impl Template {
    /// Makes a template of `text`, whose line ends become CRLF. `{name}` is a field of [`Values`], or one of
    /// `constants`, which are put in right here.
    ///
    /// # Panics
    /// When a name is neither: texts are this crate's own.
    pub(crate) fn new(text: &str, constants: &[(&str, &str)]) -> Template {
        let mut template = Template { text: Vec::new(), parts: Vec::new() };
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            template.push_text(before);
            let (name, behind) = behind.split_once('}').expect("a field ends with a brace");
            match constants.iter().find(|(constant, _)| *constant == name) {
                Some((_, value)) => template.push_text(value),
                None => template.parts.push(Part::Field(Field::named(name))),
            }
            rest = behind;
        }
        template.push_text(rest);
        template
    }

    fn push_text(&mut self, text: &str) {
        let start = self.text.len();
        self.text.extend(text.replace("\r\n", "\n").replace('\n', "\r\n").bytes());
        let end = self.text.len();
        match self.parts.last_mut() {
            Some(Part::Text(range)) => range.end = end,
            _ => self.parts.push(Part::Text(start..end)),
        }
    }

    /// Appends the message to `out`.
    pub(crate) fn fill(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(range) => out.extend_from_slice(&self.text[range.clone()]),
                Part::Field(Field::User) => out.extend_from_slice(values.user),
                Part::Field(Field::Domain) => out.extend_from_slice(values.domain),
                Part::Field(Field::Peer) => out.extend_from_slice(values.peer),
                Part::Field(Field::PeerDomain) => out.extend_from_slice(values.peer_domain),
                Part::Field(Field::Port) => push_decimal(values.port.into(), out),
                Part::Field(Field::Branch) => values.transaction.push(out),
                Part::Field(Field::Dialog) => values.dialog.push(out),
                Part::Field(Field::CSeq) => push_decimal(values.cseq, out),
                Part::Field(Field::Credentials) => out.extend_from_slice(values.credentials),
            }
        }
    }
}

impl Field {
    fn named(name: &str) -> Field {
        match name {
            "user" => Field::User,
            "domain" => Field::Domain,
            "peer" => Field::Peer,
            "peer_domain" => Field::PeerDomain,
            "port" => Field::Port,
            "branch" => Field::Branch,
            "dialog" => Field::Dialog,
            "cseq" => Field::CSeq,
            "credentials" => Field::Credentials,
            other => panic!("a template has no field {{{other}}}"),
        }
    }
}

pub(crate) fn push_decimal(number: u32, out: &mut Vec<u8>) {
    let mut digits = [0; 10];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Eight hex digits.
pub(crate) fn hex8(number: u32) -> [u8; 8] {
    std::array::from_fn(|index| b"0123456789abcdef"[(number >> (28 - 4 * index) & 15) as usize])
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, byte| Some(value << 4 | char::from(*byte).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = Id { kind: b'r', slot: 7, generation: 0xffff_ffff, run: 0xab };

    fn values<'a>() -> Values<'a> {
        Values {
            user: b"100000",
            domain: b"a.example",
            peer: b"100001",
            peer_domain: b"b.example",
            port: 20_005,
            transaction: ID,
            dialog: Id { kind: b'd', ..ID },
            cseq: 10,
            credentials: b"Authorization: x\r\n",
        }
    }

    #[test]
    fn every_field_is_filled_and_lines_end_in_crlf() {
        let text =
            "{user} {domain} {peer} {peer_domain}\n{port} {branch} {dialog}\n{cseq}\n{credentials}{k}\n";
        let template = Template::new(text, &[("k", "one\ntwo")]);
        let mut out = Vec::new();
        template.fill(&values(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "100000 a.example 100001 b.example\r\n20005 r00000007ffffffff000000ab \
             d00000007ffffffff000000ab\r\n10\r\nAuthorization: x\r\none\r\ntwo\r\n"
        );
    }

    #[test]
    #[should_panic(expected = "no field {nonsense}")]
    fn an_unknown_field_is_a_fault_of_the_text() {
        Template::new("{nonsense}", &[]);
    }

    #[test]
    fn ids_come_back() {
        let mut out = Vec::new();
        ID.push(&mut out);
        assert_eq!(out.len(), Id::LEN);
        out.extend(b";rport");
        assert_eq!(Id::parse(&out), Some(ID));
        assert_eq!(Id::parse(&out[..24]), None);
        assert_eq!(Id::parse(b"rzzzzzzzz0000000000000000"), None);
    }

    #[test]
    fn numbers() {
        for number in [0, 9, 10, 65_535, u32::MAX] {
            let mut out = Vec::new();
            push_decimal(number, &mut out);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
