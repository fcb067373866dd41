pub(crate) mod branch_id;
pub(crate) mod forward;
pub(crate) mod path;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod route;
pub(crate) mod trace;
