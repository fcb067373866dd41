pub(crate) mod admitted;
pub(crate) mod next_hop;
pub(crate) mod proxy;
pub(crate) mod response_context;
