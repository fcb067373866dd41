pub(crate) mod monitor;
