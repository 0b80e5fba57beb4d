//! Frames: four bytes of length, a header, a body (Kafka's protocol guide, "Common Request and Response Structure").

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion},
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::shape::Served;

/// Bytes that a frame's length takes.
pub(crate) const LENGTH_BYTES: usize = 4;
/// Room that is made for a frame at once; more only as its bytes arrive.
const READ_STEP_BYTES: usize = 256 << 10;

/// Why a connection is closed.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    #[error("a request claims {claimed} bytes, allowed are {bytes_max}")]
    TooLarge { claimed: i64, bytes_max: usize },
    #[error("a request of {bytes} bytes is too short to have a header")]
    Short { bytes: usize },
    #[error("request {key} is not served")]
    NotServed { key: i16 },
    #[error("request {key} version {version} is malformed: {reason}")]
    Malformed { key: i16, version: i16, reason: String },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A request whose header has been read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) served: &'static Served,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) body: Bytes,
}

impl Request {
    /// Reads the header of a frame and checks the shape of its body. A version of ApiVersions that is too new comes
    /// through with an empty body, because its answer tells the client which versions there are.
    pub(crate) fn parse(mut frame: Bytes, admin_bytes_max: usize) -> Result<Request, FrameError> {
        use kafka_protocol::messages::ApiKey;
        let bytes = frame.len();
        let Some(&[k0, k1, v0, v1, c0, c1, c2, c3]) = frame.first_chunk() else {
            return Err(FrameError::Short { bytes });
        };
        let (key, version) = (i16::from_be_bytes([k0, k1]), i16::from_be_bytes([v0, v1]));
        let correlation_id = i32::from_be_bytes([c0, c1, c2, c3]);
        let served = Served::named(key).ok_or(FrameError::NotServed { key })?;
        let malformed = |reason: &str| FrameError::Malformed { key, version, reason: reason.into() };
        if served.key != ApiKey::Produce && bytes > admin_bytes_max {
            return Err(FrameError::TooLarge { claimed: i64::try_from(bytes).unwrap_or(i64::MAX), bytes_max: admin_bytes_max });
        }
        if !(served.min..=served.max).contains(&version) {
            // Only the number of the request is sure; its header may be of a form that is not known here.
            let body = Bytes::new();
            return Ok(Request { served, version, correlation_id, client_id: String::new(), body });
        }
        let header = RequestHeader::decode(&mut frame, served.key.request_header_version(version))
            .map_err(|error| malformed(&error.to_string()))?;
        if !served.covers(version, &frame) {
            return Err(malformed("its lengths do not match its bytes"));
        }
        let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
        Ok(Request { served, version, correlation_id, client_id, body: frame })
    }

    /// Decodes the body.
    pub(crate) fn decode<R: Decodable>(&self) -> Result<R, FrameError> {
        R::decode(&mut self.body.clone(), self.version).map_err(|error| FrameError::Malformed {
            key: self.served.key as i16,
            version: self.version,
            reason: error.to_string(),
        })
    }

    /// Encodes the answer, framed.
    pub(crate) fn answer<R: Encodable + HeaderVersion>(&self, response: &R) -> Result<Bytes, FrameError> {
        self.answer_as(response, self.version)
    }

    /// Encodes the answer in the form of another version.
    pub(crate) fn answer_as<R: Encodable + HeaderVersion>(&self, response: &R, version: i16) -> Result<Bytes, FrameError> {
        let failed = |reason: String| FrameError::Malformed {
            key: self.served.key as i16,
            version,
            reason: format!("its answer cannot be encoded: {reason}"),
        };
        let mut buffer = BytesMut::new();
        buffer.extend_from_slice(&[0; LENGTH_BYTES]);
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        header.encode(&mut buffer, R::header_version(version)).map_err(|error| failed(error.to_string()))?;
        response.encode(&mut buffer, version).map_err(|error| failed(error.to_string()))?;
        finish(&mut buffer);
        Ok(buffer.freeze())
    }
}

/// Writes the length of a frame whose first four bytes were left free for it.
pub(crate) fn finish(frame: &mut [u8]) {
    let length = u32::try_from(frame.len().saturating_sub(LENGTH_BYTES)).unwrap_or(u32::MAX);
    if let Some(prefix) = frame.first_chunk_mut::<LENGTH_BYTES>() {
        *prefix = length.to_be_bytes();
    }
}

/// The length of the next frame; `None` at the end of the stream.
pub(crate) async fn read_length(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> Result<Option<usize>, FrameError> {
    let mut prefix = [0; LENGTH_BYTES];
    let mut filled = 0;
    while let Some(rest) = prefix.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            read => filled += read,
        }
    }
    let claimed = i32::from_be_bytes(prefix);
    match usize::try_from(claimed) {
        Ok(bytes) if bytes <= bytes_max => Ok(Some(bytes)),
        _ => Err(FrameError::TooLarge { claimed: claimed.into(), bytes_max }),
    }
}

/// The `bytes` bytes of a frame. Memory grows with what arrives, not with what was claimed.
pub(crate) async fn read_body(stream: &mut (impl AsyncRead + Unpin), bytes: usize) -> Result<Bytes, FrameError> {
    let mut frame = BytesMut::new();
    while frame.len() < bytes {
        let missing = bytes - frame.len();
        frame.reserve(missing.min(READ_STEP_BYTES.max(frame.len())));
        if (&mut *stream).take(missing as u64).read_buf(&mut frame).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(frame.freeze())
}
