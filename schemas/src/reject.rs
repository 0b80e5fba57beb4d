//! Why something was refused.

use std::{borrow::Cow, fmt};

/// Why a record or a row was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Stable, kebab-case, from the small set listed in the schemas' README: a metric label.
    pub code: &'static str,
    /// What happened, to what, and what to do.
    pub detail: Cow<'static, str>,
}

impl Reject {
    /// A reject from its code and sentence.
    pub(crate) fn new(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// A refused row of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowReject {
    /// The row's index in the record as its sender wrote it, from 0, refused rows counted too.
    pub row: u32,
    /// Why.
    pub reject: Reject,
}
