//! Requests, and what their answers mean.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};
use mantis_pipeline::{Fault, Reason};
use reqwest::{
    Certificate, Client, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::Value;

use super::{InfluxConfig, InfluxError};

/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of an error's text that are passed on.
const TEXT_BYTES_MAX: usize = 500;
/// Longest wait that a server may ask for.
const RETRY_AFTER_S_MAX: u64 = 300;

/// The server's answer to a write.
#[derive(Debug, PartialEq)]
pub(super) enum Written {
    /// All of it is durable.
    All,
    /// A part of it was refused, or all of it; it does not say which rows. What was not refused may be written.
    Refused(Reason),
}

/// A bucket of a server. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    client: Client,
    write: Url,
    query: Url,
    place: String,
}

impl Bucket {
    pub(super) fn new(config: &InfluxConfig) -> Result<Self, InfluxError> {
        // The first that asks decides; all of this program ask for the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        let mut token = HeaderValue::from_str(&format!("Token {}", config.token.trim())).map_err(|_| InfluxError::Token)?;
        token.set_sensitive(true);
        headers.insert(AUTHORIZATION, token);
        let mut client = Client::builder().default_headers(headers).timeout(config.timeout).no_proxy();
        if let Some(pem) = &config.authorities_pem {
            let authorities = Certificate::from_pem_bundle(pem).map_err(|error| InfluxError::Client(chain(&error)))?;
            client = client.tls_certs_only(authorities);
        } else if config.url.starts_with("http:") {
            // A machine without any authorities has none to load.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(|error| InfluxError::Client(chain(&error)))?;
        let at = |path, query: &[(&str, &str)]| {
            let address = || InfluxError::Address { url: config.url.clone() };
            let base = Url::parse(&config.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            // A path would be dropped by what is joined.
            let base = base.filter(|url| url.path() == "/" && url.query().is_none());
            let mut url = base.ok_or_else(address)?.join(path).map_err(|_| address())?;
            url.query_pairs_mut().extend_pairs(query);
            Ok(url)
        };
        Ok(Self {
            client,
            write: at("/api/v2/write", &[("org", &config.org), ("bucket", &config.bucket), ("precision", "ns")])?,
            query: at("/query", &[("db", &config.bucket), ("epoch", "ns")])?,
            place: format!("the bucket {} of InfluxDB at {}", config.bucket, config.url),
        })
    }

    /// Writes lines; returns when the server has them on disk.
    pub(super) async fn write(&self, lines: &[u8]) -> Result<Written, Fault> {
        let mut body = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::fast());
        let body = body.write_all(lines).and_then(|()| body.finish());
        let body = body.map_err(|error| Fault::retry(format!("lines could not be compressed: {error}")))?;
        let request = self.client.post(self.write.clone()).header(CONTENT_ENCODING, "gzip").body(body);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(Written::All);
        }
        let after = retry_after(&answer);
        let text = self.text(answer).await?;
        self.judge(status, after, &text)
    }

    /// What an answer that is not "written" means.
    fn judge(&self, status: StatusCode, after: Option<Duration>, text: &str) -> Result<Written, Fault> {
        let (place, said) = (&self.place, message(text));
        match status {
            // Unreadable lines, a field of another type, or points behind the bucket's retention: a matter of the rows.
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Written::Refused(Reason::new("refused-by-store", format!("{place} refused it: {said}"))))
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Ok(Written::Refused(Reason::new("too-large-for-store", format!("{place} takes no request of this size: {said}"))))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::Credentials {
                reason: format!("{place} does not let us write ({status}: {said}): check the token and its rights"),
            }),
            StatusCode::NOT_FOUND => Err(Fault::Credentials {
                reason: format!("{place} is not there ({said}): make it, or check organisation, bucket and the token's rights"),
            }),
            _ => Err(Fault::Retry { reason: format!("{place} answered {status}: {said}"), after }),
        }
    }

    /// Asks InfluxQL statements; the series of each.
    pub(super) async fn query(&self, statements: &str) -> Result<Vec<Vec<Table>>, Fault> {
        let request = self.client.post(self.query.clone()).form(&[("q", statements)]);
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, after) = (answer.status(), retry_after(&answer));
        let text = self.text(answer).await?;
        if status != StatusCode::OK {
            return match self.judge(status, after, &text)? {
                Written::Refused(reason) => Err(Fault::Fatal { reason: format!("a question was refused: {}", reason.detail) }),
                Written::All => Ok(Vec::new()),
            };
        }
        let unreadable = |error| Fault::retry(format!("{} gave an answer that is none of its: {error}", self.place));
        let answers: Answers = serde_json::from_str(&text).map_err(unreadable)?;
        answers
            .results
            .into_iter()
            .map(|result| match result.error {
                Some(error) => Err(Fault::retry(format!("{} could not answer: {error}", self.place))),
                None => Ok(result.series),
            })
            .collect()
    }

    async fn text(&self, mut answer: Response) -> Result<String, Fault> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(Fault::retry(format!("{} answered more than {ANSWER_BYTES_MAX} bytes: ask for less", self.place)));
            }
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn unreachable(&self, error: &reqwest::Error) -> Fault {
        Fault::retry(format!("{} does not answer ({}): is it running?", self.place, chain(error)))
    }
}

/// All that an error says, with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

/// What the server asks to wait, in seconds as InfluxDB sends it.
fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)))
}

/// The sentence in an error's JSON, or the text itself, not too long.
fn message(text: &str) -> String {
    let said = serde_json::from_str::<Value>(text).ok().and_then(|json| Some(json.get("message")?.as_str()?.to_owned()));
    let said = said.unwrap_or_else(|| text.trim().to_owned());
    match said.char_indices().nth(TEXT_BYTES_MAX) {
        Some((end, _)) => format!("{}...", &said[..end]),
        None if said.is_empty() => "it did not say why".to_owned(),
        None => said,
    }
}

#[derive(Debug, Deserialize)]
struct Answers {
    #[serde(default)]
    results: Vec<Answer>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    series: Vec<Table>,
    error: Option<String>,
}

/// Rows of a series, by column.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Table {
    #[serde(default)]
    pub(super) columns: Vec<String>,
    #[serde(default)]
    pub(super) values: Vec<Vec<Value>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        Bucket::new(&InfluxConfig::new("http://127.0.0.1:1", "plant", "raw", "secret")).unwrap()
    }

    #[test]
    fn what_is_the_rows_matter_is_refused_and_all_else_is_tried_again() {
        let judge = |status: u16| bucket().judge(StatusCode::from_u16(status).unwrap(), None, r#"{"message":"partial write"}"#);
        for status in [400, 413, 422] {
            let Ok(Written::Refused(reason)) = judge(status) else { panic!("{status}") };
            assert!(reason.detail.contains("partial write"), "{reason}");
        }
        for status in [401, 403, 404] {
            assert!(matches!(judge(status), Err(Fault::Credentials { .. })), "{status}");
        }
        for status in [429, 500, 502, 503, 504, 301, 200] {
            assert!(matches!(judge(status), Err(Fault::Retry { .. })), "{status}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_told_and_no_token_is_printed() {
        let config = InfluxConfig::new("127.0.0.1:8086", "plant", "raw", "secret");
        assert!(matches!(Bucket::new(&config), Err(InfluxError::Address { .. })));
        assert!(!format!("{config:?} {:?}", bucket()).contains("secret"));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_passing_trouble() {
        let Err(Fault::Retry { reason, .. }) = bucket().write(b"readings value=1 1").await else {
            panic!("it cannot be written")
        };
        assert!(reason.contains("does not answer"), "{reason}");
    }
}
