//! A file per command.

pub mod archive;
pub mod audit;
pub mod config_check;
pub mod dlq;
pub mod export;
pub mod ledger;
pub mod migrate;
pub mod query;
pub mod replay;
pub mod sensors;
pub mod status;
