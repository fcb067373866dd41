//! The SIP grammar (RFC 3261 section 25): an offset index over received bytes and the values behind it.
//!
//! [`Head`] is built in one pass and says which header stands where. Values are parsed where they are used,
//! borrow from the message, and give a typed error each time. Nothing here allocates, reads a clock or does I/O,
//! and no input makes it panic. Bytes that are not UTF-8 pass untouched.
#![forbid(unsafe_code)]

mod date;
mod digest;
mod frame;
mod head;
mod header;
mod method;
mod name_addr;
mod params;
mod phrase;
mod scan;
mod uri;
mod values;
mod via;

pub use date::{HttpDate, http_date};
pub use digest::{Credentials, DigestError, joined_credentials};
pub use frame::{Frame, Progress};
pub use head::{Defect, Head, HeadError, Line, MAX_LINES, MAX_MESSAGE, Span, StartLine};
pub use header::HeaderName;
pub use method::{ALL_METHODS, Method, MethodSet, parse_allow};
pub use name_addr::{ContactList, ContactValue, NameAddr, NameAddrError, contacts};
pub use params::{Param, ParamError, Params};
pub use phrase::phrase;
pub use scan::{eq_unescaped, list, trim, unescape_into, unquote};
pub use uri::{Scheme, Uri, UriError, User, same_uri};
pub use values::{CSeq, Q, ValueError, cseq, delta_seconds, number, q_value};
pub use via::{Via, ViaError};
