//! Messages: what is read in a received one, and how one of ours is written.

pub(crate) mod branch_id;
pub(crate) mod dialog_token;
pub(crate) mod facts;
pub(crate) mod forward;
pub(crate) mod own_request;
pub(crate) mod path;
pub(crate) mod refused;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod response_writer;
pub(crate) mod route;
pub(crate) mod server_key;
pub(crate) mod trace;
pub(crate) mod via;
