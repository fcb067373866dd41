//! Rows of the `location` table (version 1013), as the core gives them to a store and takes them at start.

/// One change of the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Insert the row, or replace the one with its `contact_id`, which must be of the same AOR.
    Put(Box<Row>),
    /// Delete a binding's row, if it is of this user.
    Remove { contact_id: u64, username: Box<[u8]> },
    /// Delete a binding's row unless it was renewed: only while `expires` is not 0 and at most `expires_by` (unix).
    Purge { contact_id: u64, expires_by: u64 },
}

/// One row. Text is bytes as received; what is not UTF-8 is stored as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// The key, see [`crate::contact_id`].
    pub contact_id: u64,
    /// The AOR's user.
    pub username: Box<[u8]>,
    /// The AOR's domain; `None` without `use_domain`.
    pub domain: Option<Box<[u8]>>,
    /// The Contact URI as sent.
    pub contact: Box<[u8]>,
    /// `sip:ip:port` of the packet where the Contact names another address.
    pub received: Option<Box<[u8]>>,
    /// The path to the contact (RFC 3327), as Route values joined by commas.
    pub path: Option<Box<[u8]>>,
    /// Unix time; 0 never expires.
    pub expires: u64,
    /// Priority in thousandths; `None` is stored as -1.
    pub q: Option<u16>,
    pub callid: Box<[u8]>,
    pub cseq: u32,
    /// Unix time of this write.
    pub last_modified: u64,
    pub cflags: Box<[u8]>,
    pub flags: u32,
    pub user_agent: Box<[u8]>,
    /// `udp:ip:port`, our address that the REGISTER came in on.
    pub socket: Option<Box<[u8]>>,
    /// A set of methods; `None` means all.
    pub methods: Option<u32>,
    pub sip_instance: Option<Box<[u8]>>,
}
