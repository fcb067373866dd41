pub(crate) mod binding;
pub(crate) mod exclusive;
pub(crate) mod flows;
pub(crate) mod loading;
pub(crate) mod location;
pub(crate) mod plan;
pub(crate) mod save;
