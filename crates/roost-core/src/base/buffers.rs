//! Memory that is used again: what a request needs for a moment and no part keeps.

use roost_sip::Head;

/// Buffers of one engine. The function that takes one gives it back.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    texts: Vec<Vec<u8>>,
    heads: Vec<Box<Head>>,
}

impl Buffers {
    /// An empty text.
    pub(crate) fn take_text(&mut self) -> Vec<u8> {
        self.texts.pop().unwrap_or_default()
    }

    pub(crate) fn give_text(&mut self, mut text: Vec<u8>) {
        text.clear();
        self.texts.push(text);
    }

    /// A head to index a message with that was kept.
    pub(crate) fn take_head(&mut self) -> Box<Head> {
        self.heads.pop().unwrap_or_default()
    }

    pub(crate) fn give_head(&mut self, head: Box<Head>) {
        self.heads.push(head);
    }
}
