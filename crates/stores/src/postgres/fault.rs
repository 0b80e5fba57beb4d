//! What a failure of PostgreSQL means for the road.
//!
//! Source: [error codes](https://www.postgresql.org/docs/17/errcodes-appendix.html).

use mantis_pipeline::{Fault, Reason};
use tokio_postgres::Error;

use super::config::chain;

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is known what to do.
    Fault(Fault),
    /// What the server said, or that it said nothing.
    Postgres(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Failure {
    /// Why the rows were refused, where it was their matter; the server does not say which.
    pub(super) fn judge(self, place: &str) -> Result<Reason, Fault> {
        let error = match self {
            Self::Fault(fault) => return Err(fault),
            Self::Postgres(error) => error,
        };
        match error.code().map(|code| class(code.code())) {
            Some(Class::Rows) => Ok(Reason::new("refused-by-store", format!("{place} refused it: {}", chain(&error)))),
            _ => Err(fault(place, &error)),
        }
    }
}

/// What to do about an error that is no matter of rows.
pub(super) fn fault(place: &str, error: &Error) -> Fault {
    let said = chain(error);
    match error.code().map(|code| class(code.code())) {
        Some(Class::Rights) => Fault::Credentials {
            reason: format!(
                "{place} does not let us in or lacks what we need ({said}): check user, password and rights, and run `mantis migrate`"
            ),
        },
        Some(Class::Full) => Fault::retry(format!("{place} is out of room ({said}): free space or memory, or set a retention")),
        Some(Class::Rows | Class::Passing) => Fault::retry(format!("{place} cannot serve now ({said})")),
        None => Fault::retry(format!("{place} does not answer ({said}): is it running?")),
    }
}

enum Class {
    /// User, password, rights, or tables that are not there.
    Rights,
    /// Values that cannot be stored.
    Rows,
    /// Disk, memory.
    Full,
    Passing,
}

fn class(code: &str) -> Class {
    match code {
        // A statement that runs out of its time is no matter of rows.
        "57014" => Class::Passing,
        "53100" | "53200" => Class::Full,
        // Insufficient privilege; no such table, column, function, schema or database.
        "42501" | "42P01" | "42703" | "42883" | "3F000" | "3D000" => Class::Rights,
        _ => match code.get(..2) {
            Some("28") => Class::Rights,
            // Data exceptions, constraints, program limits.
            Some("22" | "23" | "54") => Class::Rows,
            _ => Class::Passing,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_matter_of_rows_is_refused() {
        let of = |code| match class(code) {
            Class::Rights => "rights",
            Class::Rows => "rows",
            Class::Full => "full",
            Class::Passing => "passing",
        };
        for code in ["28P01", "28000", "42501", "42P01", "3D000"] {
            assert_eq!(of(code), "rights", "{code}");
        }
        for code in ["22021", "22003", "23514", "54000"] {
            assert_eq!(of(code), "rows", "{code}");
        }
        assert_eq!((of("53100"), of("53200")), ("full", "full"));
        for code in
            ["57014", "57P01", "57P03", "40001", "40P01", "55P03", "25006", "25P03", "53300", "08006", "58030", "XX000", ""]
        {
            assert_eq!(of(code), "passing", "{code}");
        }
    }
}
