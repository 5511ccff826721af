//! The request header: which schema it has depends on the API and version it itself names.

use crate::{ApiKey, DecodeError, Decoder, RequestHeader};

impl RequestHeader {
    /// Reads the header at the start of a frame. Its form depends on the API key and version it begins with; the version
    /// need not be one we know, a client may well ask for a newer ApiVersions.
    pub fn decode_any(input: &mut Decoder) -> Result<(ApiKey, RequestHeader), DecodeError> {
        let code = input.peek_int16(0)?;
        let api_key = ApiKey::from_code(code).ok_or(DecodeError::UnknownApiKey { code })?;
        let version = input.peek_int16(2)?;
        let header = RequestHeader::decode(input, api_key.request_header_version(version))?;
        Ok((api_key, header))
    }
}
