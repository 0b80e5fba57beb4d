//! Who may send letters again: a person on one of our own pages, and no page of somebody else.

use axum::http::{HeaderMap, header};
use uuid::Uuid;

/// Keeps requests that change something to the console's own pages.
#[derive(Debug)]
pub(crate) struct Guard {
    /// In every form of this process; other sites cannot read it.
    token: String,
    names: Vec<String>,
}

impl Guard {
    /// A guard with a token of its own. `names` are host names of the console besides `localhost` and plain addresses.
    pub(crate) fn new(names: Vec<String>) -> Self {
        let token = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        Self { token, names }
    }

    /// What forms carry.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Checks a request that changes something.
    ///
    /// # Errors
    /// Why it is refused, and what to do.
    pub(crate) fn check(&self, headers: &HeaderMap, token: &str) -> Result<(), String> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        self.check_host(headers)?;
        let same_origin = match text(header::ORIGIN) {
            Some(origin) => origin.strip_prefix("http://").or(origin.strip_prefix("https://")) == Some(host),
            None => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
        };
        if !same_origin {
            return Err("the request does not come from a page of this console".into());
        }
        if !equal(token.as_bytes(), self.token.as_bytes()) {
            return Err("the page is from before the last start of this process: load it again".into());
        }
        Ok(())
    }

    /// Checks under which name the console is reached: one that somebody else points at this address would make their pages
    /// same-origin with it.
    ///
    /// # Errors
    /// Why it is refused, and what to do.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), String> {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if self.is_ours(host) {
            return Ok(());
        }
        Err(format!("the console is not known as {host:?}: open it by its address, or add the name to http.names"))
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) && !port.is_empty() => name,
            _ => host,
        };
        let address = name.trim_start_matches('[').trim_end_matches(']');
        address.parse::<std::net::IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

/// In a time that does not depend on where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_form_of_the_console_is_taken_under_each_of_its_names() {
        let guard = Guard::new(vec!["edge-1".into()]);
        for host in ["127.0.0.1:9464", "localhost:9464", "[::1]:9464", "10.0.0.7", "Edge-1:80"] {
            let origin = format!("http://{host}");
            let checked = guard.check(&headers(&[("host", host), ("origin", &origin)]), guard.token());
            assert_eq!(checked, Ok(()), "{host}");
        }
        let without_origin = headers(&[("host", "localhost"), ("sec-fetch-site", "same-origin")]);
        assert_eq!(guard.check(&without_origin, guard.token()), Ok(()));
    }

    #[test]
    fn pages_of_others_and_wrong_tokens_are_refused() {
        let guard = Guard::new(Vec::new());
        let ours = ("host", "127.0.0.1:9464");
        for (pairs, token) in [
            (vec![ours], guard.token()),
            (vec![ours, ("origin", "http://evil.example")], guard.token()),
            (vec![ours, ("origin", "null")], guard.token()),
            (vec![ours, ("origin", "http://127.0.0.1:9465")], guard.token()),
            (vec![ours, ("sec-fetch-site", "cross-site")], guard.token()),
            (vec![("host", "rebound.example"), ("origin", "http://rebound.example")], guard.token()),
            (vec![ours, ("origin", "http://127.0.0.1:9464")], ""),
            (vec![ours, ("origin", "http://127.0.0.1:9464")], "0000000000000000000000000000000000000000000000000000000000000000"),
            (vec![], guard.token()),
        ] {
            assert!(guard.check(&headers(&pairs), token).is_err(), "{pairs:?}");
        }
    }
}
