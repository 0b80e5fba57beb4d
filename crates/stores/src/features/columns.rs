//! Between features and the columns of their table. Pure.

use std::collections::HashMap;

use mantis_pipeline::Reason;
use mantis_schemas::{Feature, Figure};

use crate::codes::refuse_time;

/// The columns between the series and the figures, in order of [`Feature`]'s fields.
pub(crate) const COLUMNS: [&str; 13] = [
    "window_ns",
    "start_ns",
    "end_ns",
    "version",
    "count",
    "uncertain",
    "bad",
    "coverage",
    "exact",
    "provisional",
    "revision",
    "processed_ms",
    "extras",
];
/// Of them, those that are part of the identity.
const IDENTITY_COLUMNS: usize = 2;
/// What decides which of two features with one identity stays: [`Feature::rank`].
const RANK: [&str; 4] = ["{}.version", "{}.count + {}.bad", "{}.revision", "NOT {}.provisional"];

/// Why a feature cannot be stored, if so.
pub(crate) fn refuse(feature: &Feature) -> Option<Reason> {
    if let Some(reason) = refuse_time(feature.start_ns).or_else(|| refuse_time(feature.end_ns)) {
        return Some(reason);
    }
    if let Some(coverage) = feature.coverage.filter(|coverage| !coverage.is_finite()) {
        return Some(Reason::new("not-finite", format!("the coverage {coverage} is not a finite number: send none instead")));
    }
    let counts = [feature.window_ns, feature.count, feature.uncertain, feature.bad];
    if counts.iter().any(|count| *count < 0) || feature.count.checked_add(feature.bad).is_none() {
        return Some(Reason::new("bad-feature", "a count is negative or too large: features are written by the features worker"));
    }
    let extras = &*feature.extras;
    (!extras.is_empty() && serde_json::from_str::<HashMap<String, f64>>(extras).is_err())
        .then(|| Reason::new("bad-extras", "the extras are not a JSON object of numbers: send one, or none"))
}

/// All columns behind the series, as SQL names.
pub(crate) fn columns() -> impl Iterator<Item = String> {
    COLUMNS.into_iter().chain(Figure::ALL.map(Figure::name)).map(|name| format!("\"{name}\""))
}

/// What an upsert sets: all but the identity, from `excluded`.
pub(crate) fn replaced() -> String {
    let replaced = columns().skip(IDENTITY_COLUMNS).map(|name| format!("{name} = excluded.{name}"));
    replaced.collect::<Vec<_>>().join(", ")
}

/// The rank of the row of a table, as the fields of a row value.
pub(crate) fn rank(of: &str) -> String {
    RANK.map(|part| part.replace("{}", of)).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_contract_excludes_is_refused_with_its_reason() {
        let good = Feature { window_ns: 10, end_ns: 10, extras: r#"{"bpfo":1.5e-3,"zone":2}"#.into(), ..Feature::default() };
        assert_eq!(refuse(&good), None);
        let refused = |bad: Feature| refuse(&bad).map(|reason| reason.code);
        assert_eq!(refused(Feature { start_ns: i64::MIN, ..good.clone() }), Some("time-out-of-range"));
        assert_eq!(refused(Feature { end_ns: i64::MAX, ..good.clone() }), Some("time-out-of-range"));
        assert_eq!(refused(Feature { coverage: Some(f64::NAN), ..good.clone() }), Some("not-finite"));
        assert_eq!(refused(Feature { bad: -1, ..good.clone() }), Some("bad-feature"));
        assert_eq!(refused(Feature { count: i64::MAX, bad: 1, ..good.clone() }), Some("bad-feature"));
        for extras in ["{", "[]", "1", r#"{"zone":"B"}"#, r#"{"zone":null}"#, r#"{"a":1e999}"#] {
            assert_eq!(refused(Feature { extras: extras.into(), ..good.clone() }), Some("bad-extras"), "{extras}");
        }
    }
}
