pub(crate) mod bans;
pub(crate) mod pike;
pub(crate) mod strangers;
