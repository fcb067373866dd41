//! What the grammar reads in a message: every part that roost-sip has a parser for, by name, or why it does not parse.

use std::collections::BTreeMap;

use roost_sip::{
    ContactValue, Head, HeaderName, NameAddr, Params, Scheme, StartLine, Uri, Via, contacts, cseq, list,
    number, unescape_into,
};

/// Parts by name, such as `to.user`, and the parts that do not parse, each with its error.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) values: BTreeMap<String, String>,
    pub(crate) refusals: Vec<String>,
}

impl Reading {
    /// Reads a whole message.
    pub(crate) fn of(message: &[u8]) -> Reading {
        let mut reading = Reading::default();
        let mut head = Head::new();
        if let Err(error) = head.parse(message) {
            reading.refuse("message", error);
            return reading;
        }
        if let Some(defect) = head.defect() {
            reading.refuse("shape", defect.reason());
        }
        reading.start_line(&head, message);
        for (name, part) in [(HeaderName::From, "from"), (HeaderName::To, "to")] {
            if let Some(value) = head.value(message, name) {
                reading.name_addr(part, value);
            }
        }
        for (index, value) in head.values(message, HeaderName::Via).flat_map(list).enumerate() {
            reading.via(&format!("via.{index}"), value);
        }
        for (index, contact) in contacts(head.values(message, HeaderName::Contact)).enumerate() {
            let part = format!("contact.{index}");
            match contact {
                Ok(ContactValue::Star) => reading.put(&part, b"*"),
                Ok(ContactValue::Contact(name_addr, uri)) => {
                    reading.put_name_addr(&part, &name_addr);
                    reading.put_uri(&part, &uri);
                }
                Err(error) => reading.refuse(&part, error),
            }
        }
        for (name, part) in [(HeaderName::Route, "route"), (HeaderName::RecordRoute, "record-route")] {
            for (index, value) in head.values(message, name).flat_map(list).enumerate() {
                reading.name_addr(&format!("{part}.{index}"), value);
            }
        }
        reading.numbers(&head, message);
        reading.counts(&head, message);
        reading.put("body", head.body(message).len().to_string().as_bytes());
        reading
    }

    fn start_line(&mut self, head: &Head, message: &[u8]) {
        match head.start_line() {
            StartLine::Request { name, uri, .. } => {
                self.put("method", name.of(message));
                self.put("uri", uri.of(message));
                self.uri("uri", uri.of(message));
            }
            StartLine::Response { code } => self.put("status", code.to_string().as_bytes()),
        }
    }

    fn numbers(&mut self, head: &Head, message: &[u8]) {
        if let Some(value) = head.value(message, HeaderName::CallId) {
            self.put("call-id", value);
        }
        match head.value(message, HeaderName::CSeq).map(cseq) {
            Some(Ok(cseq)) => {
                self.put("cseq.number", cseq.number.to_string().as_bytes());
                self.put("cseq.method", cseq.method);
            }
            Some(Err(error)) => self.refuse("cseq", error),
            None => {}
        }
        for (name, part) in [
            (HeaderName::MaxForwards, "max-forwards"),
            (HeaderName::ContentLength, "content-length"),
            (HeaderName::Expires, "expires"),
        ] {
            match head.value(message, name).map(number) {
                Some(Ok(number)) => self.put(part, number.to_string().as_bytes()),
                Some(Err(error)) => self.refuse(part, error),
                None => {}
            }
        }
    }

    /// How many values of each list there are, and the names that should stand once but do not.
    fn counts(&mut self, head: &Head, message: &[u8]) {
        let all = [
            (HeaderName::Via, "vias"),
            (HeaderName::Contact, "contacts"),
            (HeaderName::From, "froms"),
            (HeaderName::To, "tos"),
            (HeaderName::CallId, "call-ids"),
            (HeaderName::CSeq, "cseqs"),
            (HeaderName::ContentLength, "content-lengths"),
        ];
        for (name, part) in all {
            let count = match name {
                HeaderName::Via | HeaderName::Contact => head.values(message, name).flat_map(list).count(),
                _ => head.count(name),
            };
            self.put(part, count.to_string().as_bytes());
        }
    }

    fn via(&mut self, part: &str, value: &[u8]) {
        match Via::parse(value) {
            Ok(via) => {
                self.put(&format!("{part}.transport"), via.transport);
                self.put(&format!("{part}.host"), via.host);
                self.put(&format!("{part}.branch"), via.branch.unwrap_or(b"none"));
                if let Some(port) = via.port {
                    self.put(&format!("{part}.port"), port.to_string().as_bytes());
                }
                if let Some(received) = via.received {
                    self.put(&format!("{part}.received"), &value[received]);
                }
            }
            Err(error) => self.refuse(part, error),
        }
    }

    fn name_addr(&mut self, part: &str, value: &[u8]) {
        match NameAddr::parse(value) {
            Ok(name_addr) => {
                self.put_name_addr(part, &name_addr);
                self.uri(part, name_addr.uri_text);
            }
            Err(error) => self.refuse(part, error),
        }
    }

    fn put_name_addr(&mut self, part: &str, name_addr: &NameAddr<'_>) {
        self.put(&format!("{part}.display"), name_addr.display);
        self.put(&format!("{part}.text"), name_addr.uri_text);
        self.params(&format!("{part}.param"), name_addr.params);
        self.put(&format!("{part}.tag"), name_addr.tag().unwrap_or(b"none"));
    }

    fn uri(&mut self, part: &str, text: &[u8]) {
        match Uri::parse(text) {
            Ok(uri) => self.put_uri(part, &uri),
            Err(error) => self.refuse(part, error),
        }
    }

    fn put_uri(&mut self, part: &str, uri: &Uri<'_>) {
        let scheme = match uri.scheme {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other => "other",
        };
        self.put(&format!("{part}.scheme"), scheme.as_bytes());
        self.put(&format!("{part}.host"), uri.host);
        if let Some(user) = uri.user {
            let mut plain = Vec::new();
            unescape_into(user, &mut plain);
            self.put(&format!("{part}.user"), user);
            self.put(&format!("{part}.user.plain"), &plain);
        }
        if let Some(password) = uri.password {
            self.put(&format!("{part}.password"), password);
        }
        self.put(&format!("{part}.port"), uri.port.map_or("none".into(), |port| port.to_string()).as_bytes());
        if let Some(ip) = uri.host_ip() {
            self.put(&format!("{part}.ip"), ip.to_string().as_bytes());
        }
        self.put(&format!("{part}.headers"), uri.headers());
        self.params(&format!("{part}.uri-param"), uri.params());
    }

    fn params(&mut self, part: &str, params: Params<'_>) {
        for param in params {
            match param {
                Ok(param) => self.put(
                    &format!("{part}.{}", String::from_utf8_lossy(param.name)),
                    param.value.unwrap_or(b"none"),
                ),
                Err(error) => self.refuse(part, error),
            }
        }
    }

    fn put(&mut self, part: &str, value: &[u8]) {
        self.values.insert(part.to_string(), shown(value));
    }

    fn refuse(&mut self, part: &str, error: impl std::fmt::Display) {
        self.refusals.push(format!("{part}: {error}"));
    }
}

/// Text as it is; a control character as `<hex>`.
pub(crate) fn shown(value: &[u8]) -> String {
    let mut text = String::new();
    for letter in String::from_utf8_lossy(value).chars() {
        match letter {
            letter if letter.is_control() => text.push_str(&format!("<{:02x}>", u32::from(letter))),
            letter => text.push(letter),
        }
    }
    text
}
