//! Memory that is used again: what a request needs for a moment and no part keeps.

use roost_sip::Head;

/// Texts that wait for their next use at most: what many commits at once have needed goes back.
const KEPT: usize = 256;
/// The largest of them, in bytes.
const LARGEST_KEPT: usize = 16 << 10;

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
        if self.texts.len() < KEPT && text.capacity() <= LARGEST_KEPT {
            text.clear();
            self.texts.push(text);
        }
    }

    /// A head to index a message with that was kept.
    pub(crate) fn take_head(&mut self) -> Box<Head> {
        self.heads.pop().unwrap_or_default()
    }

    pub(crate) fn give_head(&mut self, head: Box<Head>) {
        if self.heads.len() < KEPT {
            self.heads.push(head);
        }
    }
}
