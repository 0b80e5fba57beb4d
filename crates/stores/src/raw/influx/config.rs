//! How the server is reached.

use std::{fmt, time::Duration};

/// A bucket of a server, and who asks.
#[derive(Clone)]
pub struct InfluxConfig {
    /// Address, such as `https://influx.plant:8086`.
    pub url: String,
    /// Organisation.
    pub org: String,
    /// Bucket; also the name of the database that InfluxQL knows it by.
    pub bucket: String,
    /// API token. A worker needs to write the bucket, a reader to read it.
    pub token: String,
    /// Certificates (PEM) of the authorities that the server's certificate may come from; those of the system where there are none.
    pub authorities_pem: Option<Vec<u8>>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Rows of one request.
    pub request_rows: usize,
}

impl InfluxConfig {
    /// Default waits and sizes.
    pub fn new(url: impl Into<String>, org: impl Into<String>, bucket: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            org: org.into(),
            bucket: bucket.into(),
            token: token.into(),
            authorities_pem: None,
            timeout: Duration::from_secs(30),
            request_rows: 5_000,
        }
    }
}

impl fmt::Debug for InfluxConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the token.
        f.debug_struct("InfluxConfig")
            .field("url", &self.url)
            .field("org", &self.org)
            .field("bucket", &self.bucket)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InfluxError {
    /// The address is none.
    #[error("{url:?} is not the address of an InfluxDB: write it like http://127.0.0.1:8086")]
    Address {
        /// The address.
        url: String,
    },
    /// The token has characters that no token has.
    #[error("the InfluxDB token has characters that cannot be sent: is its file the right one?")]
    Token,
    /// The client could not be made.
    #[error("the client for InfluxDB cannot be made ({0}): check the certificates")]
    Client(String),
}
