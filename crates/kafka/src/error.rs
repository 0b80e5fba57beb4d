//! What can go wrong, sorted by what to do next.

use std::fmt;

use mantis_pipeline::{Fault, SourceError, TopicPartition};
use rdkafka::{bindings::rd_kafka_resp_err_t as Native, error::KafkaError, types::RDKafkaErrorCode};

use crate::raw;

/// A failure, by what to do next. The text says what happened, to what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong: nothing was started.
    #[error("{0}")]
    Config(String),
    /// Passing trouble (a broker is away, a coordinator moves, a request timed out): try again.
    #[error("{0}")]
    Unavailable(String),
    /// Wrong credentials or missing rights: an operator has to act, then the same request succeeds.
    #[error("{0}")]
    Credentials(String),
    /// This request can never succeed as it is (a message too large, an offset that does not exist).
    #[error("{0}")]
    Refused(String),
    /// The client can never work again.
    #[error("{0}")]
    Fatal(String),
}

impl Error {
    /// The failure of `what`, sorted by librdkafka's code.
    pub(crate) fn from_code(code: Code, what: impl fmt::Display) -> Self {
        Self::with_reason(code, format_args!("{what}: {code}"))
    }

    /// As [`from_code`](Self::from_code), with the whole text given.
    pub(crate) fn with_reason(code: Code, text: impl fmt::Display) -> Self {
        match code.kind() {
            Kind::Passing => Self::Unavailable(text.to_string()),
            Kind::Credentials => Self::Credentials(format!("{text}; check the credentials and rights of this client")),
            Kind::Refused => Self::Refused(text.to_string()),
            Kind::Fatal => Self::Fatal(format!("{text}; restart the process")),
        }
    }

    pub(crate) fn from_rdkafka(error: &KafkaError, what: impl fmt::Display) -> Self {
        let code = match error {
            // rdkafka leaves this one out.
            KafkaError::AdminOp(code) => Some(*code),
            error => error.rdkafka_error_code(),
        };
        match code {
            Some(code) => Self::from_code(Code::from(code), what),
            None => Self::Config(format!("{what}: {error}")),
        }
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(reason) => Self::Retry(reason),
            Error::Credentials(reason) => Self::Credentials(reason),
            Error::Config(reason) | Error::Refused(reason) | Error::Fatal(reason) => Self::Fatal(reason),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(reason) => Self::retry(reason),
            Error::Credentials(reason) => Self::Credentials { reason },
            Error::Config(reason) | Error::Refused(reason) | Error::Fatal(reason) => Self::Fatal { reason },
        }
    }
}

/// What to do about a log that is damaged at `offset`.
pub(crate) fn damage(partition: &TopicPartition, offset: i64) -> String {
    format!(
        "the log of {partition} is damaged at offset {offset} and is not read on: restore that segment on the broker (its log \
         names the place), or give the records up with kafka-delete-records, which then count as a gap"
    )
}

/// librdkafka's error code: negative for its own, positive for a broker's. Kept as a number because a broker may send
/// one that this version does not know.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) i32);

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Passing,
    Credentials,
    Refused,
    Fatal,
}

impl Code {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const TIMED_OUT: Self = Self(Native::RD_KAFKA_RESP_ERR__TIMED_OUT as i32);
    pub(crate) const MSG_TIMED_OUT: Self = Self(Native::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT as i32);
    pub(crate) const PARTITION_EOF: Self = Self(Native::RD_KAFKA_RESP_ERR__PARTITION_EOF as i32);
    pub(crate) const AUTO_OFFSET_RESET: Self = Self(Native::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET as i32);
    pub(crate) const OFFSET_OUT_OF_RANGE: Self = Self(Native::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as i32);
    pub(crate) const LOG_TRUNCATION: Self = Self(Native::RD_KAFKA_RESP_ERR__LOG_TRUNCATION as i32);
    pub(crate) const ALL_BROKERS_DOWN: Self = Self(Native::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN as i32);
    pub(crate) const FATAL: Self = Self(Native::RD_KAFKA_RESP_ERR__FATAL as i32);
    pub(crate) const INVALID_ARG: Self = Self(Native::RD_KAFKA_RESP_ERR__INVALID_ARG as i32);
    pub(crate) const UNKNOWN_PARTITION: Self = Self(Native::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32);
    pub(crate) const TOO_LARGE: Self = Self(Native::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32);
    pub(crate) const BATCH_TOO_LARGE: Self = Self(Native::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE as i32);
    pub(crate) const NO_OFFSET: Self = Self(Native::RD_KAFKA_RESP_ERR__NO_OFFSET as i32);
    pub(crate) const TOPIC_ALREADY_EXISTS: Self = Self(Native::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS as i32);
    pub(crate) const UNKNOWN_TOPIC: Self = Self(Native::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as i32);

    pub(crate) fn is_error(self) -> bool {
        self != Self::NONE
    }

    /// Whether bytes of the log are not what was written: as the client sees it, or as a broker says.
    pub(crate) fn is_damage(self) -> bool {
        const BAD_MESSAGE: i32 = Native::RD_KAFKA_RESP_ERR__BAD_MSG as i32;
        const CORRUPT: i32 = Native::RD_KAFKA_RESP_ERR_INVALID_MSG as i32;
        const COMPRESSION: i32 = Native::RD_KAFKA_RESP_ERR__BAD_COMPRESSION as i32;
        matches!(self.0, BAD_MESSAGE | CORRUPT | COMPRESSION)
    }

    fn kind(self) -> Kind {
        const SSL: i32 = Native::RD_KAFKA_RESP_ERR__SSL as i32;
        const AUTHENTICATION: i32 = Native::RD_KAFKA_RESP_ERR__AUTHENTICATION as i32;
        const TOPIC_AUTHORIZATION: i32 = Native::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as i32;
        const GROUP_AUTHORIZATION: i32 = Native::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as i32;
        const CLUSTER_AUTHORIZATION: i32 = Native::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED as i32;
        const SASL_MECHANISM: i32 = Native::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM as i32;
        const SASL_AUTHENTICATION: i32 = Native::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED as i32;
        const FATAL: i32 = Native::RD_KAFKA_RESP_ERR__FATAL as i32;
        const FENCED: i32 = Native::RD_KAFKA_RESP_ERR__FENCED as i32;
        const FENCED_INSTANCE: i32 = Native::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID as i32;
        const TOO_LARGE: i32 = Native::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32;
        const BATCH_TOO_LARGE: i32 = Native::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE as i32;
        const INVALID_RECORD: i32 = Native::RD_KAFKA_RESP_ERR_INVALID_RECORD as i32;
        const INVALID_TIMESTAMP: i32 = Native::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP as i32;
        const INVALID_TOPIC: i32 = Native::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION as i32;
        const INVALID_CONFIG: i32 = Native::RD_KAFKA_RESP_ERR_INVALID_CONFIG as i32;
        const INVALID_PARTITIONS: i32 = Native::RD_KAFKA_RESP_ERR_INVALID_PARTITIONS as i32;
        const INVALID_REPLICATION: i32 = Native::RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR as i32;
        const INVALID_REQUEST: i32 = Native::RD_KAFKA_RESP_ERR_INVALID_REQUEST as i32;
        const POLICY: i32 = Native::RD_KAFKA_RESP_ERR_POLICY_VIOLATION as i32;
        const OUT_OF_RANGE: i32 = Native::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE as i32;
        const NO_RESET: i32 = Native::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET as i32;
        const INVALID_ARG: i32 = Native::RD_KAFKA_RESP_ERR__INVALID_ARG as i32;
        const UNKNOWN_PARTITION: i32 = Native::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32;
        const UNKNOWN_TOPIC: i32 = Native::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC as i32;
        const UNSUPPORTED: i32 = Native::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE as i32;
        match self.0 {
            SSL
            | AUTHENTICATION
            | TOPIC_AUTHORIZATION
            | GROUP_AUTHORIZATION
            | CLUSTER_AUTHORIZATION
            | SASL_MECHANISM
            | SASL_AUTHENTICATION => Kind::Credentials,
            FATAL | FENCED | FENCED_INSTANCE => Kind::Fatal,
            TOO_LARGE | BATCH_TOO_LARGE | INVALID_RECORD | INVALID_TIMESTAMP | INVALID_TOPIC | INVALID_CONFIG
            | INVALID_PARTITIONS | INVALID_REPLICATION | INVALID_REQUEST | POLICY | OUT_OF_RANGE | NO_RESET | INVALID_ARG
            | UNKNOWN_PARTITION | UNKNOWN_TOPIC | UNSUPPORTED => Kind::Refused,
            _ => Kind::Passing,
        }
    }
}

impl From<RDKafkaErrorCode> for Code {
    fn from(code: RDKafkaErrorCode) -> Self {
        Self(code as i32)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&raw::code_text(*self))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", raw::code_text(*self), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rights_pause_a_worker_instead_of_stopping_it() {
        let code = Code(Native::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED as i32);
        let error = Error::from_code(code, "cannot commit");
        assert!(matches!(SourceError::from(error.clone()), SourceError::Credentials(_)));
        assert!(matches!(Fault::from(error), Fault::Credentials { .. }));
    }

    #[test]
    fn a_code_that_this_version_does_not_know_is_tried_again() {
        let error = Error::from_code(Code(9_999), "cannot commit");
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }

    /// A broker that is starting lets requests of an admin time out.
    #[test]
    fn an_admins_request_that_timed_out_is_tried_again() {
        let timed_out = KafkaError::AdminOp(Native::RD_KAFKA_RESP_ERR__TIMED_OUT.into());
        let error = Error::from_rdkafka(&timed_out, "cannot make topics");
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }

    #[test]
    fn a_stale_generation_is_tried_again() {
        for code in [Native::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, Native::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID] {
            let error = SourceError::from(Error::from_code(Code(code as i32), "cannot commit"));
            assert!(matches!(error, SourceError::Retry(_)), "{error}");
        }
    }
}
