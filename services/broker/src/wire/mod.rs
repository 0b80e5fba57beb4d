//! Bytes to requests and answers to bytes, within stated bounds.

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod shape;
