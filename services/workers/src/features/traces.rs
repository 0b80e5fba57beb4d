//! The trace contexts of the messages that readings came in: a row goes on in that of its last message.

use std::{collections::VecDeque, sync::Arc};

use mantis_pipeline::Header;

/// The header that carries a W3C trace context.
pub(super) const TRACEPARENT: &str = "traceparent";
/// Messages of a partition that are remembered, far more than are sampled while a window is open.
const MESSAGES_MAX: usize = 4_096;

/// A trace context, as its header has it.
pub(super) type Trace = Arc<str>;

/// The context among a message's headers, if there is a valid one: `version-trace-parent-flags` in hexadecimal digits
/// (W3C Trace Context, section 3.2).
pub(super) fn of_headers(headers: &[Header]) -> Option<Trace> {
    let value = headers.iter().rev().find(|header| header.key == TRACEPARENT)?.value.as_deref()?;
    let text = std::str::from_utf8(value).ok()?;
    let is_hex = |part: &str, digits| part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let parts: Vec<&str> = text.split('-').collect();
    match parts[..] {
        [version, trace, parent, flags]
            if is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2) && version != "ff" =>
        {
            Some(text.into())
        }
        _ => None,
    }
}

/// The contexts of a partition's last messages, by offset.
#[derive(Debug, Default)]
pub(super) struct Traces(VecDeque<(i64, Trace)>);

impl Traces {
    /// Notes the contexts of messages, in order of offset.
    pub(super) fn note(&mut self, messages: &[(i64, Trace)]) {
        let newest = self.0.back().map_or(i64::MIN, |(offset, _)| *offset);
        self.0.extend(messages.iter().filter(|(offset, _)| *offset > newest).cloned());
        let over = self.0.len().saturating_sub(MESSAGES_MAX);
        self.0.drain(..over);
    }

    /// The context of the message at this offset.
    pub(super) fn of(&self, offset: i64) -> Option<Trace> {
        let place = self.0.binary_search_by_key(&offset, |(offset, _)| *offset).ok()?;
        self.0.get(place).map(|(_, trace)| trace.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> Vec<Header> {
        vec![Header { key: TRACEPARENT.into(), value: Some(value.as_bytes().to_vec()) }]
    }

    #[test]
    fn only_a_valid_context_is_taken() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(of_headers(&headers(valid)).as_deref(), Some(valid));
        for wrong in ["", "00-4bf9-00f067aa0ba902b7-01", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-x-y-z-w"]
        {
            assert_eq!(of_headers(&headers(wrong)), None, "{wrong}");
        }
        assert_eq!(of_headers(&[]), None);
    }

    #[test]
    fn the_last_messages_are_remembered_and_older_ones_forgotten() {
        let mut traces = Traces::default();
        for offset in 0..MESSAGES_MAX as i64 + 10 {
            traces.note(&[(offset * 2, offset.to_string().into())]);
        }
        assert_eq!(traces.of(0), None);
        assert_eq!(traces.of(40).as_deref(), Some("20"));
        assert_eq!(traces.of(41), None);
    }
}
